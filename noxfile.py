"""What one does here, each thing by its name: ``nox -l`` lists them, ``nox -s tests`` does one.

Everything runs in the environment that nox itself is in (``pip install -e '.[dev]'``), so that nothing is installed
twice; only ``newcomer`` and ``release`` make fresh ones, because that is what they try.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import nox

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))
from hatch_build import to_fill_in  # noqa: E402 - of this checkout

KINDS = (
    *("block", "change", "changes", "event-outcome", "family-items", "group-bills", "group-details"),
    *("group-summary", "patron-summary", "plan"),
)
"""The documents of ``evergreen_groups.hooks``."""
GENERATED = {
    "docs/cli.md": ("-m", "evergreen_groups.cli.manual"),
    "docs/errors.md": ("tests/support/error_catalog.py",),
    "docs/http-reference.md": ("tests/support/http_reference.py",),
    "docs/python-api.md": ("tests/support/python_reference.py",),
    "docs/settings.md": ("-m", "evergreen_groups.settings.reference"),
    "config/evergreen-groups.toml": ("-m", "evergreen_groups.settings.toml"),
    "evergreen_groups/render/report/report.schema.json": ("-m", "evergreen_groups.render.report.json"),
    "evergreen_groups/render/report/report_lines.schema.json": ("-m", "evergreen_groups.render.report.json", "--lines"),
    **{
        f"evergreen_groups/hooks/schemas/{kind}.schema.json": ("-m", "evergreen_groups.render.documents", kind)
        for kind in KINDS
    },
    "docs/releases.md": ("tests/support/tried_releases.py", "--page"),
}
"""The files that are written from the source, or have a table that is, each with what Python is to run."""
DOCUMENT_TESTS = (
    "tests/test_documents.py",
    "tests/test_pages.py",
    "tests/test_page_contents.py",
    "tests/test_tasks.py",
    "tests/test_architecture.py",
    "tests/test_doctests.py",
    "tests/test_errors.py",
    "tests/test_exit_status.py",
    "tests/settings/test_declaration.py",
    "tests/web/test_docs.py",
)
PACKAGES_AT_A_GATEWAY = (
    *("audit", "changes", "desk", "gateway", "groups", "hooks", "ils", "report", "web"),
    "reckoning/test_releases.py",
)
"""What is tried on each release: the packages whose tests speak to an Evergreen, and what goes through all of them."""
OLDER_RELEASES = ("--release", "3.11", "--release", "3.14")
"""The oldest release and one from the middle, which ``.ci/run`` tries; ``night`` tries all seven."""
PACKAGES_ON_OLDER_RELEASES = ("gateway", "groups", "changes")
NIGHT = ("long", "releases", "rust", "replicas", "postgresql", "dependencies")
"""What takes too long for ``.ci/run``, and runs once a day and before a release."""
AT_THE_DATABASE = ("tests/state", "tests/nightly/test_several_servers.py", "tests/web/test_several_servers.py")
"""What is tried on each version of PostgreSQL."""
LOCK = "requirements.lock"
"""The versions of all development dependencies, with hashes, that a release is built with."""
RECORDED = ROOT.parent / "shared" / "wire"
"""Traffic of a real Evergreen, where it lies beside the checkout."""

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "docs", "messages", "tests"]
nox.options.error_on_external_run = False


def python(session: nox.Session, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Run Python with these arguments in the environment that nox is in."""
    session.run(sys.executable, *arguments, env=env)


@contextmanager
def fresh(session: nox.Session, *requirements: str) -> Iterator[Path]:
    """Make a fresh virtual environment with these requirements for a while, and give the directory of its commands."""
    with TemporaryDirectory(prefix="evergreen-groups-") as directory:
        python(session, "-m", "venv", directory)
        commands = Path(directory) / "bin"
        session.run(str(commands / "pip"), "install", "--quiet", *requirements)
        yield commands


@nox.session
def tests(session: nox.Session) -> None:
    """All tests; with names of packages only theirs (-- groups report), and pytest's own options (-- -k name)."""
    places = [f"tests/{one}" if one and (ROOT / "tests" / one).is_dir() else one for one in session.posargs]
    python(session, "-m", "pytest", *places)


@nox.session
def long(session: nox.Session) -> None:
    """The tests that plain pytest has no time for: kills at every step, the second reckoning, browsers, servers.

    Those that are about older releases are ``releases``'s.
    """
    python(session, "-m", "pytest", "-m", "long and not older")


@nox.session
def lint(session: nox.Session) -> None:
    """Rules of the code and its layout, and weaknesses of the workflows; nothing is changed."""
    python(session, "-m", "ruff", "check", ".")
    python(session, "-m", "ruff", "format", "--check", ".")
    session.run(str(Path(sys.executable).with_name("zizmor")), "--offline", "--quiet", ".github/workflows")


@nox.session(name="format")
def lay_out(session: nox.Session) -> None:
    """Lay the code out, and mend what ruff mends by itself."""
    python(session, "-m", "ruff", "check", "--fix", ".")
    python(session, "-m", "ruff", "format", ".")


@nox.session
def types(session: nox.Session) -> None:
    """The types, strictly."""
    python(session, "-m", "mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Write generated pages anew, which fails where they had to change; try what the pages say; make the site."""
    changed = []
    for name, arguments in GENERATED.items():
        written = session.run(sys.executable, *arguments, silent=True)
        if written != (ROOT / name).read_text("utf-8"):
            (ROOT / name).write_text(written, "utf-8")
            changed.append(name)
    if changed:
        session.error(f"{', '.join(changed)} was out of date and is written anew: look at it, and commit it")
    python(session, "-m", "pytest", "-n", "0", *DOCUMENT_TESTS)
    build_site(session)


def build_site(session: nox.Session, builder: str = "html", target: str = "build/site") -> None:
    """Have Sphinx read the pages; what it warns of is an error."""
    strict = ("-W", "-n", "--keep-going", "-q", "-E", "-a", "-j", "auto")
    python(session, "-m", "sphinx", *strict, "-b", builder, "-d", "build/site.cache", "docs", target)


@nox.session
def site(session: nox.Session) -> None:
    """The pages as a site, in build/site: links and anchors lead somewhere, or it fails."""
    build_site(session)
    session.log(f"open {(ROOT / 'build' / 'site' / 'index.html').as_uri()}")


@nox.session
def links(session: nox.Session) -> None:
    """Whether links out of the pages lead somewhere, which takes the network."""
    build_site(session, "linkcheck", "build/links")


@nox.session
def messages(session: nox.Session) -> None:
    """Bring the catalogues up to date with the source, which fails where they had to change or a text is missing."""
    python(session, "-m", "support.message_catalogue", env={"PYTHONPATH": str(ROOT / "tests")})


@nox.session
def apache(session: nox.Session) -> None:
    """Apache's configuration, with a real Apache in front of the service (needs apache2)."""
    python(session, "-m", "pytest", "-n", "0", "tests/apache/checks.py")


@nox.session
def replay(session: nox.Session) -> None:
    """The sandbox against recorded traffic of real Evergreens, where that lies beside the checkout."""
    if not RECORDED.is_dir():
        session.skip(f"no recorded traffic in {RECORDED}")
    results = ROOT / "build" / "replayed.json"
    results.unlink(missing_ok=True)
    program = ("tests/support/tried_releases.py", "--replayed", str(results), "--replay")
    program = (*program, *(str(RECORDED / name) for name in ("dataset.json", "replay.py")))
    python(session, *program, str(RECORDED / "exchanges"))
    for older in sorted(RECORDED.glob("releases/*/exchanges")):
        python(session, *program, str(older), "--release", older.parent.name)
    hold_against_the_table(session, "--replayed", str(results))


@nox.session
def releases(session: nox.Session) -> None:
    """The tests that speak to an Evergreen, on the sandbox as each release (-- --release 3.12 for one); -- --write."""
    results = ROOT / "build" / "releases.json"
    options = [one for one in session.posargs if one != "--write"] or ["--release", "all"]
    on_releases(session, *options, "--release-results", str(results), packages=PACKAGES_AT_A_GATEWAY)
    hold_against_the_table(session, "--found", str(results))


@nox.session
def older(session: nox.Session) -> None:
    """The part of ``releases`` that ``.ci/run`` has time for: two releases, and the packages that read and write."""
    on_releases(session, *OLDER_RELEASES, packages=PACKAGES_ON_OLDER_RELEASES)


def on_releases(session: nox.Session, *options: str, packages: tuple[str, ...]) -> None:
    """Run the tests of these packages on the sandbox as other releases."""
    run = ("-n", "3", "--dist", "loadgroup", "-m", "not long or older")
    python(session, "-m", "pytest", *run, *options, *(f"tests/{package}" for package in packages))


def hold_against_the_table(session: nox.Session, *found: str) -> None:
    """Check that docs/releases.md claims no more than was found; with ``--write``, update it."""
    write = ("--write",) if "--write" in session.posargs else ()
    python(session, "tests/support/tried_releases.py", *write, *found)


@nox.session
def rust(session: nox.Session) -> None:
    """The tests that speak to the sandbox once more, over it as the gateway that is written in Rust."""
    packages = ("gateway", "ils", "groups", "report", "audit", "changes", "desk", "nightly", "hooks")
    python(
        session, "-m", "pytest", "--gateway", "rust", *(f"tests/{package}" for package in (*packages, "doctor", "web"))
    )


@nox.session
def replicas(session: nox.Session) -> None:
    """The tests of changes once more, at a site whose plain reads come from a copy that is behind."""
    python(session, "-m", "pytest", "--replica", "tests/changes")


@nox.session
def postgresql(session: nox.Session) -> None:
    """Run the tests of the state on each installed version of PostgreSQL; the other sessions use the newest."""
    versions = sorted((path.parents[1].name for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")), key=int)
    for version in versions:
        variables = {"TESTS_POSTGRESQL_VERSION": version}
        python(session, "-m", "pytest", "-m", "", *session.posargs, *AT_THE_DATABASE, env=variables)


@nox.session
def dependencies(session: nox.Session) -> None:
    """Run the tests with the lowest and the newest versions of each dependency, and audit the lock; -- lock updates it.

    Python 3.11 has wheels of the lowest versions. uv fetches it where it isn't installed.
    """
    with fresh(session, "uv", "pip-audit") as commands, TemporaryDirectory(prefix="evergreen-groups-") as directory:
        uv = str(commands / "uv")
        if "lock" in session.posargs:
            options = ("--universal", "--python-version", "3.11", "--extra", "dev", "--generate-hashes", "--upgrade")
            session.run(uv, "pip", "compile", *options, "--no-header", "--no-annotate", "-o", LOCK, "pyproject.toml")
            return
        audit(session, commands, Path(directory) / "audit.json")
        for resolution, version in (("lowest-direct", "3.11"), ("highest", sys.executable)):
            environment = f"{directory}/{resolution}"
            session.run(uv, "venv", "--quiet", "--python", version, environment)
            install = (uv, "pip", "install", "--quiet", "--python", environment, "--resolution", resolution)
            session.run(*install, "--requirement", "pyproject.toml", "--extra", "test", "editables>=0.5")
            session.run(*install, "--no-build-isolation", "--no-deps", "--editable", ".")  # built by these versions too
            session.run(f"{environment}/bin/pytest")


def audit(session: nox.Session, commands: Path, result: Path) -> None:
    """Fail if a version in the lock has a known vulnerability. Offline, only warn that nothing was audited."""
    options = ("--require-hashes", "--disable-pip", "--format", "json", "--output", str(result))
    session.run(str(commands / "pip-audit"), "--requirement", LOCK, *options, success_codes=[0, 1])
    if not result.exists():
        session.warn(f"NOT AUDITED: the advisories of the versions in {LOCK} can't be read from here")
        return
    found = [one for one in json.loads(result.read_text("utf-8"))["dependencies"] if one.get("vulns")]
    if found:
        session.error("; ".join(f"{one['name']} {one['version']}: {one['vulns'][0]['id']}" for one in found))


@nox.session
def night(session: nox.Session) -> None:
    """Run everything that ``.ci/run`` has no time for."""
    for name in NIGHT:
        session.notify(name)


@nox.session
def benches(session: nox.Session) -> None:
    """What things cost, and whether figures are right (-- table, service, journal, faults, …)."""
    small = {
        "table": ["--patrons", "20000", "--pairs", "3", "--only", "report", "limited", "startup"],
        "service": ["--clients", "1", "50", "--pairs", "2"],
        "reckoning": ["--populations", "500"],
        "faults": ["--runs", "1000"],
        "clerks": ["--sequences", "100"],
        "journal": ["--changes", "50000"],
        "paths": [],
        "outputs": ["formats", "--groups", "3000"],
    }
    names = [name for name in session.posargs if name in small] or ["table", "service", "reckoning"]
    options = [one for one in session.posargs if one not in names]
    for name in names:
        program = ("-m", "tests.bench") if name == "table" else (f"tests/bench/{name}.py",)
        python(session, *program, *(options or small[name]))


@nox.session
def mutants(session: nox.Session) -> None:
    """What the tests don't notice when the code is changed, one thing at a time (-- access, -- policy --sample 0)."""
    python(session, "tests/mutation/run.py", *session.posargs)


@nox.session
def screenshots(session: nox.Session) -> None:
    """Pictures of the pages in a headless Chromium (-- DIRECTORY, otherwise build/screenshots)."""
    targets = session.posargs or ["build/screenshots"]
    command = (sys.executable, "-m", "support.pictures", "--screenshots")
    session.run(*command, *targets, env={"PYTHONPATH": "tests"})


@nox.session
def pictures(session: nox.Session) -> None:
    """The pictures of the pages, made anew on the sandbox; docs fails where they are of an older source."""
    session.run(sys.executable, "-m", "support.pictures", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def newcomer(session: nox.Session) -> None:
    """What the README has a newcomer do, in fresh environments: the report on the sandbox, then the tests."""
    with fresh(session, ".") as commands:
        session.run(str(commands / "evergreen-groups"), "--sandbox", "report")
    with fresh(session, ".[test]") as commands:
        session.run(str(commands / "pytest"))


@nox.session
def debian(session: nox.Session) -> None:
    """The Debian package, into dist/, and a clean Debian in which it is tried (needs root, mmdebstrap and a mirror)."""
    built = str(session.run("packaging/build-deb", "dist", silent=True)).splitlines()[-1]
    session.run("packaging/try-deb", built)


@nox.session
def release(session: nox.Session) -> None:
    """Build all that is published into dist/, with checksums and an SBOM, and try the wheel; nothing is published."""
    asked = "import evergreen_groups; print(evergreen_groups.__version__)"
    version = str(session.run(sys.executable, "-c", asked, silent=True)).strip()
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", changelog, re.MULTILINE):
        session.error(f"CHANGELOG.md has no entry of {version} with a date")
    if empty := [name for name, value in to_fill_in(ROOT).items() if not value]:
        session.error(f"docs/releases.md says nothing under To fill in before publishing: {', '.join(empty)}")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    of_commit = str(session.run("git", "log", "-1", "--format=%ct", external=True, silent=True)).strip()
    # With the build tools of this environment: the lock has the same for everyone.
    python(session, "-m", "build", "--no-isolation", "--outdir", "dist", ".", env={"SOURCE_DATE_EPOCH": of_commit})
    wheel = f"dist/evergreen_groups-{version}-py3-none-any.whl"
    with fresh(session, "twine", "check-wheel-contents") as commands:
        session.run(str(commands / "twine"), "check", "--strict", wheel, f"dist/evergreen_groups-{version}.tar.gz")
        session.run(str(commands / "check-wheel-contents"), wheel)
    with fresh(session, f"{wheel}[postgresql,redis,serve]") as commands:
        session.run(str(commands / "evergreen-groups"), "--version")
        session.run(str(commands / "evergreen-groups"), "--sandbox", "report")
        session.run(str(commands / "pip"), "uninstall", "--quiet", "--yes", "pip")  # which is no part of it
        write_bill_of_materials(session, commands / "python", f"dist/evergreen_groups-{version}.cdx.json")
    session.run("packaging/build-deb", "dist", silent=True)
    built = sorted(path for path in (ROOT / "dist").iterdir() if path.name != "SHA256SUMS")
    lines = [f"{sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in built]
    (ROOT / "dist" / "SHA256SUMS").write_text("".join(lines), "utf-8")
    with session.chdir("dist"):
        session.run("sha256sum", "--check", "--strict", "SHA256SUMS")


def write_bill_of_materials(session: nox.Session, interpreter: Path, target: str) -> None:
    """Write which packages of which versions and licenses an environment has, as CycloneDX has it (an SBOM)."""
    with fresh(session, "cyclonedx-bom>=6") as tools:
        options = ("--pyproject", "pyproject.toml", "--mc-type", "application", "--output-reproducible")
        session.run(str(tools / "cyclonedx-py"), "environment", *options, "--output-file", target, str(interpreter))
