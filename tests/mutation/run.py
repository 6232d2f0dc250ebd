"""Mutation testing: change one thing in a module, run the tests that should notice, and report what no test noticed.

``pyproject.toml`` configures the files of each module and their tests, fastest first, under
``tool.evergreen-groups.mutants``. The checkout isn't changed: each process works on a copy.
"""

import argparse
import contextlib
import difflib
import importlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from operators import mutated, places_of

sys.path.append(str(Path(__file__).parents[1]))  # like pytest (pythonpath)

from support.postgresql import DIRECTORY_VARIABLE, Cluster, new_directory
from support.repository import REPOSITORY, tracked

RESULTS = REPOSITORY / "build" / "mutants"
SHORTEST_TIMEOUT = 30.0
PRELOADED = (
    *("hypothesis", "hypothesis.strategies", "requests", "urllib3", "flask", "waitress", "lxml.etree", "jinja2"),
    *("rich", "click", "pytest", "sqlalchemy", "alembic.command", "psycopg", "limits"),
)
"""Slow imports of other packages, done once before the processes that run tests are forked."""
COMPILE = (
    "from pathlib import Path; from evergreen_groups.language.compilation import compile_catalogues;"
    'compile_catalogues(Path("evergreen_groups/language/locale"))'
)
PRELOADED_WARNING = "ignore::pytest.PytestAssertRewriteWarning"


@dataclass
class Tried:
    """A mutant and its result; ``killed_by`` is the stage whose tests noticed it, or empty."""

    file: str
    operator: str
    occurrence: int
    diff: str
    killed_by: str = ""
    timed_out: bool = False

    @property
    def name(self) -> str:
        """The name, as ``--only`` takes it."""
        return f"{self.file} {self.operator} {self.occurrence}"


def modules() -> dict[str, dict[str, list[str]]]:
    """Return the configuration: for each module its files, and its stages of tests (files or options of pytest)."""
    configured = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    found: dict[str, dict[str, list[str]]] = configured["tool"]["evergreen-groups"]["mutants"]
    return found


def chosen(files: Sequence[str], sample: int, seed: int, only: str) -> tuple[int, list[tuple[Tried, str]]]:
    """Return the number of places for mutants, and those to try with their sources."""
    sources = {file: (REPOSITORY / file).read_text("utf-8") for file in files}
    places = [Tried(file, name, number, "") for file in files for name, number in places_of(sources[file])]
    random.Random(seed).shuffle(places)
    selected: dict[str, Tried] = {}  # by source: two operators may make the same change
    for it in places:
        if sample and len(selected) == sample:
            break
        source = sources[it.file]
        if only in it.name and (changed := mutated(source, it.operator, it.occurrence)) is not None:
            lines = difflib.unified_diff(source.splitlines(), changed.splitlines(), it.file, it.file, "", "", 0, "")
            it.diff = "\n".join([*lines][2:])
            selected.setdefault(changed, it)
    return len(places), [(it, source) for source, it in selected.items()]


@contextlib.contextmanager
def copied() -> Iterator[Path]:
    with TemporaryDirectory(prefix="evergreen-groups-mutants-") as directory:
        copy = Path(directory)
        for name in tracked():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, copy / name)
        # In another process: this one mustn't import the package, because those that it forks import the copy.
        subprocess.run([sys.executable, "-c", COMPILE], cwd=copy, check=True)
        yield copy


def run_tests(copy: Path, stage: str, timeout: float, *, mutated: bool) -> int | None:
    """Run a stage's tests in a new process; return pytest's exit status, or None after a timeout."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setsid()
            output = os.open(copy / "mutants.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(copy)
            # The file changes within a second and may keep its size, so Python would use the former's compiled code.
            sys.dont_write_bytecode = mutated
            sys.path[:0] = [str(copy)]
            os.environ["PYTHONPATH"] = str(copy)
            options = ["-n", "0", "-x", "-p", "no:cacheprovider", "-W", PRELOADED_WARNING]
            status = int(importlib.import_module("pytest").main([*options, *shlex.split(stage)]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    ends = time.monotonic() + timeout
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            # Servers and commands that a mutant left running.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > ends:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.02)


def work(stages: Sequence[str], share: Sequence[tuple[Tried, str]], results: Path) -> None:
    """Try some mutants one after another in one copy, and write the results to a file."""
    with copied() as copy, results.open("w", encoding="utf-8") as written:
        timeouts = []
        for stage in stages:
            began = time.monotonic()
            if run_tests(copy, stage, 600.0, mutated=False) != 0:
                sys.exit(f"without a mutant, the tests fail already: {stage}\n{(copy / 'mutants.log').read_text()}")
            timeouts.append(max(SHORTEST_TIMEOUT, 5 * (time.monotonic() - began)))
        for tried, source in share:
            file = copy / tried.file
            original = file.read_text("utf-8")
            for cached in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
                cached.unlink()
            file.write_text(source, "utf-8")
            for stage, timeout in zip(stages, timeouts, strict=True):
                status = run_tests(copy, stage, timeout, mutated=True)
                if status != 0:
                    tried.killed_by, tried.timed_out = stage, status is None
                    break
            file.write_text(original, "utf-8")
            print(json.dumps(asdict(tried)), file=written, flush=True)
            print("." if tried.killed_by else "S", end="", flush=True)


def try_module(name: str, options: argparse.Namespace) -> str:
    """Try a module's mutants and return its line of the table."""
    configured, path = modules()[name], RESULTS / f"{name}.json"
    total, selected = chosen(configured["files"], options.sample, options.seed, options.only)
    print(f"{name}: {len(selected)} mutants, {total} places ", end="", flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    parts = [RESULTS / f"{name}-{number}.jsonl" for number in range(options.jobs)]
    workers = []
    for number, part in enumerate(parts):
        worker = os.fork()
        if worker == 0:
            try:
                work(configured["tests"], selected[number :: options.jobs], part)
            except SystemExit as failure:
                print(failure, file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        workers.append(worker)
    failed = [worker for worker in workers if os.waitpid(worker, 0)[1]]
    print()
    if failed:
        sys.exit(1)
    tried = [Tried(**json.loads(line)) for part in parts for line in part.read_text("utf-8").splitlines()]
    for part in parts:
        part.unlink()
    path.write_text(json.dumps([asdict(it) for it in tried], indent=1), "utf-8")
    survivors = [it for it in tried if not it.killed_by]
    for it in survivors:
        print(f"survived: {it.name}\n{it.diff}\n")
    killed, late = len(tried) - len(survivors), sum(it.timed_out for it in tried)
    return f"{name:12} {total:6} {len(tried):6} {killed:6} {late:9} {len(survivors):9}"


def main() -> None:
    """Try the mutants of the named modules, or of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(modules())}; all unless given")
    parser.add_argument("--sample", type=int, default=100, help="try so many of a module, chosen by chance; 0: all")
    parser.add_argument("--seed", type=int, default=11, help="of that chance")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    parser.add_argument("--only", default="", help="those whose file, operator and number have this in them")
    options = parser.parse_args()
    os.nice(10)
    for name in PRELOADED:
        importlib.import_module(name)
    cluster = Cluster(new_directory())  # one for all test runs
    os.environ[DIRECTORY_VARIABLE] = str(cluster.directory)
    try:
        lines = [try_module(name, options) for name in options.modules or modules()]
    finally:
        cluster.remove()
    print("module         there  tried killed (too late) survived", *lines, sep="\n")


if __name__ == "__main__":
    main()
