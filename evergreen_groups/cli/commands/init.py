"""``evergreen-groups init``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evergreen_groups.cli import Invocation, UnansweredError, confirmed, logs, setting_options
from evergreen_groups.language import gettext
from evergreen_groups.message import Message
from evergreen_groups.settings import CONFIG_VARIABLE, load

if TYPE_CHECKING:
    from evergreen_groups.cli.commands.init_prompts import Interview
    from evergreen_groups.settings import Settings


@click.command("init")
@setting_options("init", checked=False)
@click.option("--yes", is_flag=True, help="Ask nothing: what isn't given has its default.")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@click.pass_obj
def init_command(session: Invocation, /, yes: bool, force: bool, **given: Any) -> int:
    """Ask for the address, the account, libraries, limits and mail; try each answer at once; write the configuration.

    It goes to the file named with the global --config or $EVERGREEN_GROUPS_CONFIG, otherwise to
    /etc/evergreen-groups/config.toml for root and ~/.config/evergreen-groups/config.toml for others, and the passwords
    to files beside it; all are readable by their owner alone. Nothing is overwritten without asking, and nothing is
    written before every answer does. Where there is a configuration already, what it says is offered as the answer,
    other settings stay as they are, and its former text is kept beside it (config.toml.former). In the end it says what
    doctor says.
    """
    from evergreen_groups.cli.commands.init_prompts import Interview
    from evergreen_groups.settings import first_file

    target = (session.config_file or _default()).absolute()  # it names the files beside it, wherever runs are started
    if not force:
        _may_be_overwritten(target, interactive=not yes)
    answers = {name: value for name, value in given.items() if value not in (None, ())}
    former = load.read(target, {}) if target.is_file() and not yes else None
    existing = former.as_far_as_right if former else None
    interview = Interview(answers, os.environ, target.parent, interactive=not yes, existing=existing)
    settings = _answered(interview)
    text = first_file(settings, [table for table, _origin in former.tables] if former else ())
    _write(target, text, interview.secrets, force=force, interactive=not yes)
    return _examine(session, target)


def _answered(interview: Interview) -> Settings:
    """The settings that come of it; without a terminal, nobody broke off: nobody was there."""
    try:
        return interview.settings()
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise UnansweredError from None


def _default() -> Path:
    """Where the configuration goes: the environment's file, the system's place for root, otherwise the user's own."""
    if os.environ.get(CONFIG_VARIABLE):
        return Path(os.environ[CONFIG_VARIABLE])
    if os.geteuid() == 0:
        return load.SYSTEM_FILE
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "evergreen-groups" / "config.toml"


def _may_be_overwritten(file: Path, *, interactive: bool) -> None:
    """Ask before a file that is there is overwritten.

    Raises:
        ConfigurationError: nobody can be asked.
    """
    from evergreen_groups.errors import ConfigurationError

    if not file.exists():
        return
    if not interactive:
        raise ConfigurationError(
            "{file} is there already",
            advice="name another file with --config, or add --force",
            code="file-is-there",
            values={"file": file},
        )
    if not confirmed(gettext("{file} is there already. Overwrite it in the end?", file=file)):
        raise click.Abort


def _write(target: Path, text: str, secrets: Mapping[Path, str], *, force: bool, interactive: bool) -> None:
    """Write the secrets, each to its file, and then the configuration, each whole or not at all."""
    from evergreen_groups.state import write_atomically, writing_in

    with writing_in(target.parent):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not force:
        for file in secrets:
            _may_be_overwritten(file, interactive=interactive)
    if target.is_file():
        former = target.with_name(f"{target.name}.former")
        with write_atomically(former) as stream:  # it may have comments
            stream.write(target.read_text(encoding="utf-8", errors="replace"))
    for file, content in [*((file, f"{secret}\n") for file, secret in secrets.items()), (target, text)]:
        with write_atomically(file) as stream:
            stream.write(content)
        logs.emit(Message("written: {file}", values={"file": file}))


def _examine(session: Invocation, target: Path) -> int:
    """What doctor says of the new configuration."""
    from evergreen_groups.cli.commands.doctor import examine
    from evergreen_groups.doctor import Subject

    with Subject(target, os.environ) as subject:
        return examine(subject, quiet=session.quiet)
