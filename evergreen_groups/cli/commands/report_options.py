"""What one run of the report is to do: the configuration, with what the command line says in its place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from evergreen_groups.cli import format_given, one_limit, with_given
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.formats import FILE_FORMATS, TEXT_FORMATS, format_for, format_of_file, is_document, output_format
from evergreen_groups.nightly import (
    ReportJob,
    ReportOptions,
    RunPurpose,
    Target,
    choice_of,
    criteria_of,
    named_job,
)

if TYPE_CHECKING:
    import click

    from evergreen_groups.report import Choice
    from evergreen_groups.settings import ReportSettings, Settings


def chosen(context: click.Context, settings: Settings, purpose: RunPurpose) -> ReportOptions:
    """What this run is to do. A run that only looks (``--no-history``) leaves configured targets alone.

    The reports of ``[[reports]]`` are those of the night: whoever looks, or sits at a terminal, asks for one.

    Raises:
        ConfigurationError: the target doesn't fit the format.
    """
    wanted = with_given(context, settings)
    mails = context.params["mail"]
    main = ReportJob(
        criteria=replace(
            criteria_of(wanted.report, one_limit(wanted)),
            choice=_choice(context, wanted.report),
            details=(context.params["details"] or wanted.report.details) == "full",
        ),
        target=_target(context, settings),
        mail=settings.mail if mails else None,
    )
    named = [
        named_job(report, settings, limit=one_limit(settings), mails=mails)
        for report in (settings.reports if purpose is RunPurpose.NIGHTLY else ())
    ]
    return ReportOptions(
        jobs=(main, *named),
        deadline=wanted.report.deadline,
        healthcheck_url=wanted.report.healthcheck_url,
    )


def _choice(context: click.Context, wanted: ReportSettings) -> Choice:
    over_limit: bool | None = context.params["over_limit"]
    choice = choice_of(wanted)
    return choice if over_limit is None else replace(choice, over_limit=over_limit)


def _target(context: click.Context, settings: Settings) -> Target:
    given, configured = context.params, settings.report
    wanted = format_given(given["as_json"], given["format"])
    only_looks = given["history"] is False
    path = given["output"] or (None if only_looks else configured.output)
    # today.html is meant as a file, and so is today.pdf, which is refused.
    as_one_file = only_looks or format_of_file(given["output"]) or is_document(given["output"])
    split = (given["split"] or ("none" if as_one_file else configured.split)) == "library"
    details, bom = given["members"], given["bom"]
    if not split:
        # The configured format is that of the configured file: another's ending says which it is to have.
        otherwise = TEXT_FORMATS[0] if given["output"] and given["output"].suffix else configured.format
        name = format_for(path, wanted, otherwise)
        chosen_format = output_format(name)
        if chosen_format.binary and path is None:
            raise ConfigurationError(
                "{format} isn't for the terminal",
                advice="name a file with --output",
                setting="report.output",
                code="format-not-for-terminal",
                values={"format": chosen_format.phrase},
            )
        return Target(path, (name,), details=details, bom=bom, dialect=configured.csv)
    if path is None:
        raise ConfigurationError(
            "a report for each library needs a directory",
            advice="name it with --output, or in [report]",
            setting="report.output",
            code="split-without-directory",
        )
    if wanted not in (None, *FILE_FORMATS):
        raise ConfigurationError(
            "a report for each library takes a format of {formats}",
            setting="report.formats",
            code="split-format-unknown",
            values={"formats": ", ".join(FILE_FORMATS)},
        )
    formats = (wanted,) if wanted else configured.formats
    return Target(
        path, formats, split=True, keep_days=configured.keep_days, details=details, bom=bom, dialect=configured.csv
    )
