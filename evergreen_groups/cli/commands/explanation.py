"""``evergreen-groups audit --explain``: why one patron is blocked for fines or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from evergreen_groups import exit_status
from evergreen_groups.cli import Invocation, explaining_unknown, terminal_width, usage_error
from evergreen_groups.formats import format_for
from evergreen_groups.language import use_language
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from pathlib import Path

    from evergreen_groups.audit import BlockExplanation
    from evergreen_groups.settings import PolicySettings

_FORMATS = ("table", "json")


def explain_blocks(
    session: Invocation, policy: PolicySettings, barcode: str, output_format: str | None, output: Path | None
) -> int:
    """Write why the patron with this barcode is blocked or not, to ``output`` or standard output; the exit status."""
    from evergreen_groups.audit import BlockExplainer

    format_name = format_for(output, output_format, "table", _FORMATS)
    if format_name not in _FORMATS:
        raise usage_error(Message("--explain is written as table or json."))
    with session.gateway() as gateway, explaining_unknown(session, gateway, [barcode]), session.progress():
        explanation = BlockExplainer(gateway, policy).of_barcode(barcode)
    if output is not None:
        from evergreen_groups.state import write_atomically

        with write_atomically(output) as stream, use_language(session.settings.language.language()):
            _write(explanation, format_name, stream)
        session.summarise(Message("written: {path}", values={"path": output}))
    else:
        with session.output(format_name) as stream:
            _write(explanation, format_name, stream)
    return exit_status.DONE if explanation.complete else exit_status.INCOMPLETE


def _write(explanation: BlockExplanation, format_name: str, stream: TextIO) -> None:
    from evergreen_groups.render.audit import write_block_explanation, write_block_explanation_json

    if format_name == "json":
        write_block_explanation_json(explanation, stream)
    else:
        write_block_explanation(explanation, stream, width=terminal_width())
