"""What the files of the libraries are called in a report by library."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path

INDEX = "index.html"
"""The page that leads to all of them."""

_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_NAME = 60
# What other systems than this one take for devices; the files may be copied there.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def library_file_names(shortnames: Collection[str]) -> dict[str, str]:
    """For each short name one that is safe as the beginning of a file's name, different from all others.

    Most stay as they are. In others, unusual characters become underscores, and a few letters that stand for the whole
    short name are added; so they are to those that differ in capitals alone, which some disks don't distinguish.
    """
    alike = Counter(shortname.casefold() for shortname in shortnames)
    return {shortname: _file_name(shortname, unique=alike[shortname.casefold()] == 1) for shortname in shortnames}


def _file_name(shortname: str, *, unique: bool) -> str:
    safe = _NOT_IN_FILE_NAMES.sub("_", shortname)[:_LONGEST_NAME].lstrip(".-")
    reserved = safe.casefold() == Path(INDEX).stem or _DEVICES.fullmatch(safe)
    if unique and safe == shortname and safe and not reserved:
        return safe
    return f"{safe or '_'}-{sha256(shortname.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
