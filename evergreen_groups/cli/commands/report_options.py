"""What one run of the report is to do: the configuration, with what the command line says in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from click.core import ParameterSource

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.formats import FILE_FORMATS, format_of_file, output_format
from evergreen_groups.nightly import ReportOptions, Target
from evergreen_groups.policy import Limit
from evergreen_groups.report import Criteria

if TYPE_CHECKING:
    import click

    from evergreen_groups.settings import Settings


def chosen(context: click.Context, settings: Settings) -> ReportOptions:
    """What this run is to do. A run that only looks (``--no-history``) leaves configured targets alone.

    Raises:
        ConfigurationError: the target doesn't fit the format.
    """
    given = context.params
    return ReportOptions(
        criteria=_criteria(context, settings),
        target=_target(context, settings),
        mail=given["mail"],
        deadline=given["deadline"] or settings.report.deadline,
        healthcheck_url=given["healthcheck_url"] or settings.report.healthcheck_url,
    )


def _criteria(context: click.Context, settings: Settings) -> Criteria:
    def one(option: str, configured: Any) -> Any:
        return context.params[option] if _is_given(context, option) else configured

    return Criteria(
        min_total=one("min_total", settings.report.min_total),
        min_members=one("min_members", settings.report.min_members),
        orgs=one("orgs", settings.report.orgs),
        top=context.params["top"],
        sort=context.params["sort"],
        limit=_limit(context, settings),
    )


def _limit(context: click.Context, settings: Settings) -> Limit | None:
    """The one limit, the command line's amount or the configuration's; None where that has several."""
    if _is_given(context, "limit"):
        return Limit(context.params["limit"], settings.policy.comparison)
    return settings.policy.as_limit() if settings.policy.uniform else None


def _target(context: click.Context, settings: Settings) -> Target:
    given, configured = context.params, settings.report
    only_looks = not given["history"]
    path = given["output"] or (None if only_looks else configured.output)
    as_one_file = only_looks or format_of_file(given["output"])  # today.html is meant as a file
    split = (given["split"] or ("none" if as_one_file else configured.split)) == "library"
    details, bom = given["details"], given["bom"]
    if not split:
        name = given["output_format"] or format_of_file(path) or configured.format
        chosen_format = output_format(name)
        if chosen_format.binary and path is None:
            raise ConfigurationError(f"{chosen_format.phrase} isn't for the terminal: name a file with --output")
        return Target(path, (name,), details=details, bom=bom)
    if path is None:
        raise ConfigurationError("a report for each library needs a directory: name it with --output, or in [report]")
    if given["output_format"] not in (None, *FILE_FORMATS):
        raise ConfigurationError(f"a report for each library takes a format of {', '.join(FILE_FORMATS)}")
    formats = (given["output_format"],) if given["output_format"] else configured.formats
    return Target(path, formats, split=True, keep_days=configured.keep_days, details=details, bom=bom)


def _is_given(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) is ParameterSource.COMMANDLINE
