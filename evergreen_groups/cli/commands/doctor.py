"""``evergreen-groups doctor``."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from evergreen_groups import cli, exit_status
from evergreen_groups.errors import ConfigurationError

if TYPE_CHECKING:
    from evergreen_groups.doctor import Finding, Subject


@click.command("doctor")
@click.option("--changes", is_flag=True, help="Also check the permissions for changing groups.")
@cli.json_option
@click.pass_obj
def doctor_command(session: cli.Invocation, changes: bool, as_json: bool) -> int:
    """Check the configuration, the gateway, the account and this machine, with advice.

    It changes nothing. Exit status 0: nothing failed, maybe warnings; 13: a check failed.
    """
    from evergreen_groups.doctor import Subject
    from evergreen_groups.settings import GatewaySettings

    if not session.use_sandbox:
        with Subject(session.config_file, os.environ, changes=changes) as subject:
            return examine(subject, as_json=as_json, quiet=session.quiet)
    with session.sandbox() as (sandbox, environ):
        gateway = GatewaySettings(url=sandbox.url, username=sandbox.report_account[0])
        settings = replace(session.settings, gateway=gateway, source=None)
        with Subject(None, environ, settings=settings, changes=changes) as subject:
            return examine(subject, as_json=as_json, quiet=session.quiet)


def examine(subject: Subject, *, as_json: bool = False, quiet: bool = False) -> int:
    """Run all checks, write the findings to standard output, and return the exit status.

    ``quiet`` shows only warnings and failures.
    """
    from evergreen_groups.doctor import Verdict, run
    from evergreen_groups.render import doctor

    with suppress(ConfigurationError):  # reported as a finding below
        cli.apply_language(subject.settings)
    stream = cli.standard_output("json" if as_json else "table")
    if as_json:
        diagnosis = run(subject)
        doctor.write_diagnosis_json(diagnosis, stream)
    else:
        color = stream.isatty() and not os.environ.get("NO_COLOR")
        writer = doctor.DiagnosisWriter(stream, width=cli.terminal_width(), color=color)

        def on_finding(finding: Finding) -> None:
            if not quiet or finding.verdict in (Verdict.WARNING, Verdict.FAILED):
                writer.write_finding(finding)

        diagnosis = run(subject, on_finding)
        if not quiet:
            writer.write_counts(diagnosis)
    stream.flush()
    return exit_status.DONE if diagnosis.healthy else exit_status.UNWELL
