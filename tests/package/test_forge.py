"""The forge's files: actions are pinned, permissions are few, and what they call exists."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.repository import REPOSITORY
from test_tasks import named_in, sessions

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]

workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read(*path: str) -> Any:
    return yaml.safe_load(REPOSITORY.joinpath(*path).read_text("utf-8"))


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(str(path))["jobs"].values() for step in job["steps"]]


@workflow
def test_actions_are_pinned(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text("utf-8"))
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)] == []


@workflow
def test_each_job_names_its_permissions(path: Path) -> None:
    document = read(str(path))
    assert document["permissions"] == {}
    assert all(job["permissions"] and job["timeout-minutes"] for job in document["jobs"].values())
    checkouts = [step for step in steps(path) if "checkout" in step.get("uses", "")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@workflow
def test_what_is_called_exists(path: Path) -> None:
    runs = "\n".join(step.get("run", "") for step in steps(path))
    places = re.findall(r"(?<![\w/$])(?:\./)?((?:\.ci|packaging|evergreen_groups)(?:/[\w.]+)*|[A-Z]+\.md)\b", runs)
    assert [place for place in places if not (REPOSITORY / place).exists()] == []
    called = {*named_in(*path.relative_to(REPOSITORY).parts), *re.findall(r"\.ci/run (\w+)", runs)}
    assert called <= sessions()
    assert called or ".ci/run" in places


def test_python_of_the_matrix_is_python_of_the_classifiers() -> None:
    supported = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if re.search(r":: 3\.\d", one)]
    assert read(".github", "workflows", "ci.yml")["jobs"]["ubuntu"]["strategy"]["matrix"]["python"] == supported


def step_called(name: str) -> str:
    named = [step for step in steps(REPOSITORY / ".github" / "workflows" / "release.yml") if step.get("name") == name]
    return str(named[0]["run"])


def run(script: str, directory: Path, tag: str) -> int:
    environ = os.environ | {"GITHUB_REF_NAME": tag}
    done = subprocess.run(["sh", "-e", "-c", script], cwd=directory, env=environ, check=False)
    return done.returncode


def test_notes_are_the_entry_of_the_version(tmp_path: Path) -> None:
    entries = (
        "## 1.0.10 (2027-02-01)\n\nTen.\n\n## 1.0.1 (2027-01-01)\n\n### At the desk\n\nOne.\n\n## 1.0.0 (2026-12-01)\n"
    )
    (tmp_path / "CHANGELOG.md").write_text(entries, "utf-8")
    assert run(step_called("Notes from the changelog"), tmp_path, "v1.0.1") == 0
    assert (tmp_path / "notes/notes.md").read_text("utf-8") == "\n### At the desk\n\nOne.\n\n"
    assert run(step_called("Notes from the changelog"), tmp_path, "v1.0.2") != 0, "there is no entry"


def test_only_a_tag_of_the_version_is_released() -> None:
    module = (REPOSITORY / "evergreen_groups/__init__.py").read_text("utf-8")
    (version,) = re.findall(r'^__version__ = "(.*)"$', module, re.MULTILINE)
    assert run(step_called("The tag is the version"), REPOSITORY, f"v{version}") == 0
    assert run(step_called("The tag is the version"), REPOSITORY, f"v{version}.1") != 0


def test_read_the_docs_installs_and_builds_what_exists() -> None:
    document = read(".readthedocs.yaml")
    (install,) = document["python"]["install"]
    assert set(install["extra_requirements"]) <= set(PROJECT["optional-dependencies"])
    assert (REPOSITORY / document["sphinx"]["configuration"]).is_file()


def test_the_debian_package_depends_on_what_the_service_needs() -> None:
    control = (REPOSITORY / "packaging" / "debian" / "control").read_text("utf-8")
    depends = re.search(r"^Package:.*?^Depends:\n(.*?)^\w", control, re.DOTALL | re.MULTILINE)
    assert depends
    named = set(re.findall(r"python3-([\w-]+) \(>= ([\d.]+)\)", depends[1]))
    extras = PROJECT["optional-dependencies"]
    needed = [one.partition(">=") for one in (*extras["serve"], *extras["metrics"]) if not one.startswith("evergreen")]
    assert named == {(name, version) for name, _, version in needed}


def test_a_machine_without_build_tools_gets_the_line_for_apt(tmp_path: Path) -> None:
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    command = ["/bin/sh", str(REPOSITORY / "packaging" / "build-deb"), str(tmp_path / "dist")]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"apt-get build-dep -y {REPOSITORY}/packaging" in done.stderr
    assert not (tmp_path / "dist").exists()
