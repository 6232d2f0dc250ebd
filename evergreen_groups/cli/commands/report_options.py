"""What one run of the report is to do: the configuration, with what the command line says in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.cli import one_limit, with_given
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.formats import FILE_FORMATS, format_for, format_of_file, output_format
from evergreen_groups.nightly import ReportOptions, Target
from evergreen_groups.report import Choice, Criteria

if TYPE_CHECKING:
    import click

    from evergreen_groups.settings import ReportSettings, Settings


def chosen(context: click.Context, settings: Settings) -> ReportOptions:
    """What this run is to do. A run that only looks (``--no-history``) leaves configured targets alone.

    Raises:
        ConfigurationError: the target doesn't fit the format.
    """
    wanted = with_given(context, settings)
    return ReportOptions(
        criteria=Criteria(
            min_total=wanted.report.min_total,
            min_members=wanted.report.min_members,
            orgs=wanted.report.orgs,
            top=context.params["top"],
            sort=wanted.report.sort,
            limit=one_limit(wanted),
            choice=_choice(context, wanted.report),
            details=(context.params["details"] or wanted.report.details) == "full",
        ),
        target=_target(context, settings),
        mail=context.params["mail"],
        deadline=wanted.report.deadline,
        healthcheck_url=wanted.report.healthcheck_url,
    )


def _choice(context: click.Context, wanted: ReportSettings) -> Choice:
    over_limit = context.params["over_limit"]
    if over_limit is None:
        over_limit = {"somebody": True, "nobody": False}.get(wanted.over_limit)
    return Choice(
        owing_since=wanted.owing_since,
        kinds=wanted.kinds,
        with_items_out=wanted.with_items_out,
        with_juvenile=wanted.with_juvenile,
        over_limit=over_limit,
        blocked=wanted.blocked,
        profiles=wanted.profiles,
    )


def _target(context: click.Context, settings: Settings) -> Target:
    given, configured = context.params, settings.report
    only_looks = not given["history"]
    path = given["output"] or (None if only_looks else configured.output)
    as_one_file = only_looks or format_of_file(given["output"])  # today.html is meant as a file
    split = (given["split"] or ("none" if as_one_file else configured.split)) == "library"
    details, bom = given["members"], given["bom"]
    if not split:
        name = format_for(path, given["format"], configured.format)
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
    if given["format"] not in (None, *FILE_FORMATS):
        raise ConfigurationError(
            "a report for each library takes a format of {formats}",
            setting="report.formats",
            code="split-format-unknown",
            values={"formats": ", ".join(FILE_FORMATS)},
        )
    formats = (given["format"],) if given["format"] else configured.formats
    return Target(
        path, formats, split=True, keep_days=configured.keep_days, details=details, bom=bom, dialect=configured.csv
    )
