"""The source archive and the wheel: complete, and reproducible byte for byte."""

import os
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.repository import REPOSITORY, build, tracked

from evergreen_groups import __version__
from evergreen_groups.cli.manual import PLACES, contexts

pytestmark = pytest.mark.long

MADE = (".mo", "scripts.json")
"""Extensions of files compiled from the catalogues."""


def copy_of_the_source(target: Path, when: float, mode: int) -> Path:
    """Copy the checkout, with other timestamps and permissions."""
    for name in tracked():
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, file)
        file.chmod(mode | (0o100 if os.access(REPOSITORY / name, os.X_OK) else 0))
        os.utime(file, (when, when))
    return target


@dataclass
class Built:
    """Two people's builds, and a build from the source archive."""

    archives: list[Path]
    wheels: list[Path]
    from_the_archive: Path


@pytest.fixture(scope="module", params=["", "1764115200"], ids=["of no day", "of a day"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    day = {"SOURCE_DATE_EPOCH": request.param} if request.param else {}
    people = [
        ("one", 1_600_000_000.0, 0o644, 0o022, {"TZ": "UTC", "LC_ALL": "C", "COLUMNS": "80", **day}),
        ("an other", 1_700_000_000.0, 0o600, 0o077, {"TZ": "Pacific/Auckland", "LC_ALL": "C.UTF-8", **day}),
    ]
    archives, wheels = [], []
    for name, when, mode, umask, environ in people:
        place = tmp_path_factory.mktemp(name)
        source = copy_of_the_source(place / "checkout", when, mode)
        wheels.append(build(source, place / "wheel", "wheel", environ, umask))
        archives.append(build(source, place / "sdist", "sdist", environ, umask))
    place = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(place, filter="data")
    unpacked = place / f"evergreen_groups-{__version__}"
    return Built(archives, wheels, build(unpacked, place / "wheel", "wheel", day, 0o027))


def test_the_same_bytes(built: Built) -> None:
    for same in (built.archives, [*built.wheels, built.from_the_archive]):
        assert len({path.read_bytes() for path in same}) == 1


def test_the_source_archive_is_the_repository(built: Built) -> None:
    with tarfile.open(built.archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == {*tracked(), "PKG-INFO"}


def test_everything_is_in_the_wheel(built: Built) -> None:
    with zipfile.ZipFile(built.wheels[0]) as wheel:
        names = set(wheel.namelist())
        assert all(info.external_attr >> 16 & 0o777 in (0o644, 0o755) for info in wheel.infolist())
    package = {name for name in names if name.startswith("evergreen_groups/")}
    source = {name for name in tracked() if name.startswith("evergreen_groups/") and not name.endswith((".po", ".pot"))}
    data = {name.replace("config/", "evergreen_groups/data/", 1) for name in tracked() if name.startswith("config/")}
    assert source | data <= package
    assert all(name.endswith(MADE) for name in package - source - data)
    languages = {Path(name).parts[3] for name in tracked() if name.endswith(".po")}
    for language in languages:
        assert f"evergreen_groups/language/locale/{language}/LC_MESSAGES/evergreen_groups.mo" in names
        assert f"evergreen_groups/language/locale/{language}/scripts.json" in names
    shared = f"evergreen_groups-{__version__}.data/data"
    assert {f"{shared}/{place}" for place in PLACES.values()} <= names
    pages = {f"{shared}/share/man/man1/{context.command_path.replace(' ', '-')}.1" for context in contexts()}
    assert pages <= names
