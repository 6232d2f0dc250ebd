"""``evergreen-groups init``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from evergreen_groups.cli import Checked, Invocation, logs
from evergreen_groups.settings import load, values


@click.command("init")
@click.option("--url", help="Address of the Evergreen server.")
@click.option("--username", help="User name of the service account.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A file that has the password already. Otherwise it is asked for, or taken from $EVERGREEN_GROUPS_PASSWORD, "
    "and written beside the configuration.",
)
@click.option("--workstation", metavar="NAME", help="A registered workstation to log in with.")
@click.option("--org", "orgs", multiple=True, metavar="SHORTNAME", help="List groups of this library only. Repeatable.")
@click.option("--min-total", help="List groups that together owe this much or more (25.00).")
@click.option("--limit", help='The limit of one person\'s own fines, "none", or "ils" (5.00).')
@click.option(
    "--ca-bundle", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Certificates to trust."
)
@click.option(
    "--allow-plain-http", is_flag=True, default=None, help="Send the password unencrypted to another machine."
)
@click.option("--mail-host", help="The mail server for the report.")
@click.option("--mail-port", type=Checked("port", values.whole_number(1, 65_535)), help="Its port.")
@click.option("--mail-security", help="starttls, tls or none (starttls).")
@click.option("--mail-username", help="The login there, where one is wanted.")
@click.option(
    "--mail-password-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A file that has its password already.",
)
@click.option("--mail-sender", help="Who the mails come from.")
@click.option(
    "--mail-recipients", metavar="SHORTNAME=ADDRESS", help='Who gets them: "BR1=a@example.org; *=b@example.org".'
)
@click.option("--yes", is_flag=True, help="Ask nothing: what isn't given has its default.")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@click.pass_obj
def init_command(session: Invocation, /, yes: bool, force: bool, **given: Any) -> int:
    """Ask for the address, the account, libraries, limits and mail; try each answer at once; write the configuration.

    It goes to the file named with the global --config or $EVERGREEN_GROUPS_CONFIG, otherwise to
    /etc/evergreen-groups/config.toml for root and ~/.config/evergreen-groups/config.toml for others, and the passwords
    to files beside it; all are readable by their owner alone. Nothing is overwritten without asking, and nothing is
    written before every answer does. In the end it says what doctor says.
    """
    from evergreen_groups.cli.commands.init_prompts import Interview, Passwords
    from evergreen_groups.settings import FirstConfiguration

    target = (session.config_file or _default()).absolute()  # it names the files beside it, wherever runs are started
    files = (target, target.with_name("password"), target.with_name("mail-password"))
    if not force:
        _may_be_overwritten(target, interactive=not yes)
    answers = {
        name: value.absolute() if isinstance(value, Path) else value
        for name, value in given.items()
        if value not in (None, ())
    }
    interview = Interview(answers, os.environ, interactive=not yes)
    gateway, password = interview.gateway(files[1])
    report = interview.report(interview.libraries(gateway, password))
    policy = interview.policy()
    mail, mail_password = interview.mail(files[2])
    first = FirstConfiguration(gateway, policy, report, mail)
    _write(files, first.as_toml(), Passwords(password, mail_password), force=force, interactive=not yes)
    return _examine(session, target)


def _default() -> Path:
    """Where the configuration goes: the environment's file, the system's place for root, otherwise the user's own."""
    if os.environ.get(load.CONFIG_VARIABLE):
        return Path(os.environ[load.CONFIG_VARIABLE])
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
        raise ConfigurationError(f"{file} is there already: name another with --config, or add --force")
    click.confirm(f"{file} is there already. Overwrite it in the end?", abort=True, err=True)


def _write(files: tuple[Path, Path, Path], text: str, passwords: Any, *, force: bool, interactive: bool) -> None:
    """Write the passwords and then the configuration, each whole or not at all."""
    from evergreen_groups.state import write_atomically, writing_in

    target, *password_files = files
    with writing_in(target.parent):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    contents = zip(password_files, (passwords.gateway, passwords.mail), strict=True)
    new = [(file, f"{content}\n") for file, content in contents if content is not None]
    if not force:
        for file, _ in new:
            _may_be_overwritten(file, interactive=interactive)
    for file, content in [*new, (target, text)]:
        with write_atomically(file) as stream:
            stream.write(content)
        logs.say(f"written: {file}")


def _examine(session: Invocation, target: Path) -> int:
    """What doctor says of the new configuration."""
    from evergreen_groups.cli.commands.doctor import examine
    from evergreen_groups.doctor import Subject

    with Subject(target, os.environ) as subject:
        return examine(subject, quiet=session.quiet)
