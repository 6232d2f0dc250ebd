"""What completes the command in a shell: Click's scripts, which ask the command itself at each Tab.

``python -m evergreen_groups.cli.shell_completion DIRECTORY`` writes them below a directory, each where its shell looks
for it below ``/usr`` or ``/usr/local``, as ``hatch_build.py`` does for each build.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.shell_completion import ShellComplete, get_completion_class

from evergreen_groups.cli.application import COMPLETION_VARIABLE, cli

PROGRAM = "evergreen-groups"
PLACES = {
    "bash": f"share/bash-completion/completions/{PROGRAM}",
    "fish": f"share/fish/vendor_completions.d/{PROGRAM}.fish",
    "zsh": f"share/zsh/site-functions/_{PROGRAM}",
}
"""Where each shell finds the script by itself."""
SHELLS = tuple(sorted(PLACES))


def completion_script(shell: str) -> str:
    """The script for a shell, one of ``PLACES``."""
    found = get_completion_class(shell)
    if found is None:
        raise ValueError(f"Click knows no shell {shell}")
    # Click's own source() for bash starts one to see how old it is, and there may be none where packages are built.
    return ShellComplete.source(found(cli, {}, PROGRAM, COMPLETION_VARIABLE)).strip() + "\n"


def write_scripts(directory: Path) -> list[Path]:
    """Write every script below a directory; gives back the files."""
    written = []
    for shell, place in PLACES.items():
        path = directory / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(completion_script(shell), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for _path in write_scripts(Path(sys.argv[1])):
        click.echo(_path)
