"""``evergreen-groups config``: show or check the configuration, or print an example."""

from __future__ import annotations

import os
import sys

import click

from evergreen_groups import cli, exit_status
from evergreen_groups.message import Message


@click.group("config")
def config_command() -> None:
    """Show the configuration and where each value comes from, check it, or print an example."""


@config_command.command("show")
@click.argument("names", nargs=-1, metavar="[SECTION | SECTION.KEY]...")
@click.option("--changed", is_flag=True, help="Only settings that differ from the default.")
@cli.json_option
@click.pass_obj
def show_command(session: cli.Invocation, names: tuple[str, ...], changed: bool, as_json: bool) -> int:
    """Show settings, their values, and where each value comes from.

    Values come from a line of the file, a variable, or the default. Shows all settings, those of a SECTION (report), or
    one (report.min_total). Values that differ from the default are
    highlighted, with the default after them. Secrets aren't shown, only their origins. The output is TOML.
    """
    from evergreen_groups.render import configuration
    from evergreen_groups.settings import closest_name, effective_values
    from evergreen_groups.settings import reading as load

    reading = load.read(session.config_file, os.environ)
    cli.apply_language(reading.valid_settings)
    values = list(effective_values(reading, os.environ))
    known = {value.section for value in values} | {value.key for value in values}
    for name in (name for name in names if name not in known):
        meant = closest_name(name, known) or next((key for key in sorted(known) if key.endswith(f".{name}")), None)
        if meant is None:
            raise cli.usage_error(Message("unknown setting: {name}", values={"name": name}))
        raise cli.usage_error(
            Message("unknown setting: {name}; did you mean {meant}?", values={"name": name, "meant": meant})
        )
    wanted = [
        value
        for value in values
        if (not names or {value.section, value.key} & set(names)) and (value.is_changed or not changed)
    ]
    with session.output("json" if as_json else "table") as stream:
        if as_json:
            configuration.write_values_json(reading.source, wanted, stream)
        else:
            color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
            configuration.write_values(reading.source, wanted, stream, color=color)
    # Faults come after the values: a fault in one setting shouldn't hide the others.
    if not reading.faults:
        return exit_status.DONE
    text = Message(
        "the configuration has {count} error: run `evergreen-groups config check`",
        plural="the configuration has {count} errors: run `evergreen-groups config check`",
        values={"count": len(reading.faults)},
    )
    cli.logs.emit(text, error=True)
    return exit_status.CONFIGURATION


@config_command.command("check")
@cli.json_option
@click.pass_obj
def check_command(session: cli.Invocation, as_json: bool) -> int:
    """List all errors in the configuration, with lines and advice. Contacts no server.

    Finds bad syntax, unknown keys and variables, values that aren't allowed or contradict each other, and files that
    can't be read or written. Use doctor to test the gateway. Exit status 0: no errors, maybe warnings; 3: errors.
    """
    from evergreen_groups.doctor import Verdict, check_configuration
    from evergreen_groups.render import configuration

    reading, found = check_configuration(session.config_file, os.environ)
    cli.apply_language(reading.valid_settings)
    with session.output("json" if as_json else "table") as stream:
        if as_json:
            configuration.write_faults_json(reading.source, found, stream)
        elif found or not session.quiet:
            configuration.write_faults(reading.source, found, stream, width=cli.terminal_width())
    wrong = any(one.finding.verdict is Verdict.FAILED for one in found)
    return exit_status.CONFIGURATION if wrong else exit_status.DONE


@config_command.command("example")
def example_command() -> None:
    """Print a configuration with every setting, its explanation and its default."""
    from evergreen_groups.settings import example

    click.echo(example(), nl=False)
