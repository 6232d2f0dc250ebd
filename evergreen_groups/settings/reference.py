"""Writes the reference of the settings, ``docs/settings.md``, from their declarations.

``python -m evergreen_groups.settings.reference > docs/settings.md`` updates the page.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from evergreen_groups.settings.declaration import declared_sections, section_help
from evergreen_groups.settings.sections import HELP, Settings, own_settings, shared_settings
from evergreen_groups.settings.toml import as_toml, default_of

if TYPE_CHECKING:
    from evergreen_groups.settings.declaration import Setting

_HEAD = """\
# Settings

Written from the declarations in `evergreen_groups/settings/sections.py` by
`python -m evergreen_groups.settings.reference`.

Settings are in a TOML file: the one in the global option `--config` or in `$EVERGREEN_GROUPS_CONFIG`, or else
`~/.config/evergreen-groups/config.toml` or `/etc/evergreen-groups/config.toml`. Environment variables override the
file, and command-line options override both.

- `evergreen-groups init` asks for the settings that you need, and tests each answer.
- `evergreen-groups config show` shows every value in use, with its line or variable. Use `--changed` to leave out
  defaults, `report` or `report.min_total` for a part, and `--json` for programs.
- `evergreen-groups config check` reports all errors with their lines, without connecting to a server.
- `evergreen-groups config example` prints a file with all settings, to start from.
- `evergreen-groups doctor` also checks the gateway, the account and this machine.

Every command and the service refuse unknown keys, and unknown variables that start with `EVERGREEN_GROUPS_`, and
suggest the closest name. An empty variable counts as not set. Passwords and secrets are never shown; `config show`
names the file or variable they come from.
"""


def reference(schema: type = Settings) -> str:
    """Return the reference in Markdown: what each setting accepts, its default, variable and options."""
    helps = section_help(schema)
    sections = (
        f"\n## `[{name}]`\n\n{helps[name]}\n" + "".join(_entry(setting) for setting in settings)
        for name, settings in declared_sections(schema).items()
    )
    own = "".join(_entry(setting, in_table=True) for setting in own_settings())
    shared = ", ".join(f"[`{setting.name}`](#{setting.key.replace('.', '')})" for setting in shared_settings())
    return f"{_HEAD}{''.join(sections)}\n## `[[reports]]`\n\n{HELP}\n{own}\nThose of `[report]`: {shared}.\n"


def _entry(setting: Setting, *, in_table: bool = False) -> str:
    """Describe a setting. Those of ``[[reports]]`` have no environment variable."""
    facts = [fact for fact in _facts(setting) if not (in_table and fact.startswith("- Environment"))]
    return "\n".join([f"\n### `{setting.key}`\n", f"{setting.explanation}\n", *facts, ""])


def _facts(setting: Setting) -> Iterator[str]:
    yield f"- Allowed: {setting.kind.allowed}"
    default = default_of(setting)
    yield f"- Default: `{default}`" if default else "- Not set by default"
    if setting.example is not None:
        yield f"- Example: `{as_toml(setting.example)}`"
    yield f"- Environment: `{setting.variable}`"
    commands: defaultdict[str, list[str]] = defaultdict(list)
    for option in setting.options:
        commands[option.flag] += [f"`{command}`" for command in option.commands]
    for flag, names in commands.items():
        yield f"- Option: `{flag}` of {', '.join(names)}"
    if setting.question is not None:
        yield "- Asked by `init`"


if __name__ == "__main__":
    sys.stdout.write(reference())
