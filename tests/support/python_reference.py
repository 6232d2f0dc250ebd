"""Write ``docs/python-api.md`` from the docstrings of the public names.

``python tests/support/python_reference.py`` prints the page, and ``nox -s docs`` writes it.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import evergreen_groups as eg

HEAD = """# Python API: reference

The public names: those of `evergreen_groups` (`import evergreen_groups as eg`), those of its `hooks`, and
`gateway.connect`. [Python](python.md) shows how to use them. Other modules and names may change in any release.

Made from the docstrings by `python tests/support/python_reference.py`. On the site, the full docstrings follow below.
"""
HOOKS = """
Use `eg.hooks` in a library system, a self-checkout machine or a script. It is **the stable interface**: its functions,
their results and the JSON documents don't change within a major version. Keys can be added to the JSON, so ignore keys
that you don't know. The same answers are available [over HTTP](http-api.md), where you also find
[what they mean](http-api.md#what-the-answers-mean).

Only the staff user who made a plan can apply it, in any session, within an hour. Use a new `key` for each change. To
repeat a request, use the same key: you get the same answer, and nothing is sent twice. A plan is refused as outdated if
a patron's group or lead mark has changed, or the members of the group that patrons move to.

Each step of a change has a state. `under_way` means that the change is in progress. If it isn't, a `planned` step was
never started. The outcome of a `sending` step isn't known. The request may still arrive, so don't repeat it: the
program checks the outcome later.

To act for a person who has logged in elsewhere, use their token: `Client(gateway.acting_as(token), account="…")`. To
set a deadline for everything that follows, use `gateway.within(seconds)`.
"""
SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Start": ("", ("connect", "Client", "Sandbox", "EvergreenGroupsError", "errors")),
    "Groups and reports": (
        "",
        ("Group", "GroupSummary", "Member", "PatronDecision", "Limit", "Report", "Criteria", "Choice", "Audit",
         "AuditCriteria", "Entry"),
    ),
    "Changes": (
        "",
        ("Plan", "Outcome", "PlanOutcome", "Draft", "Step", "StepOutcome", "StepState", "PlannedGroup", "PlanWarning",
         "JournalEntry", "JournalStep"),
    ),
    "Gateway": ("\n[Evergreen from Python](gateway.md) has recipes.\n",
                ("gateway", "gateway.connect", "Gateway", "Credentials", "Pcrud", "Record", "TOKEN")),
    "Hooks": (HOOKS, ("hooks", "Action", "Change", "PlanRequest")),
}  # fmt: skip
CONSTANTS = {
    "TOKEN": "Stands for the session's token in the parameters of a call.",
    "Document": "The types that `as_json` takes.",
}
WITH_METHODS = ("Client", "Plan", "Outcome", "Pcrud", "Group", "Report", "Audit")


def page() -> str:
    return HEAD + "".join(_sections()) + "".join(_references())


def names() -> list[str]:
    """Return the names on the page, those of the hooks with their module."""
    listed = [name for _text, of_section in SECTIONS.values() for name in of_section]
    return [*listed, *(f"hooks.{name}" for name in hook_names())]


def hook_names() -> list[str]:
    """Return the functions and types that only the hooks have, functions first."""
    own = [name for name in dir(eg.hooks) if name not in dir(eg)]
    return sorted(own, key=lambda name: (name[0].isupper(), name))


def _sections() -> Iterator[str]:
    for title, (text, listed) in SECTIONS.items():
        yield f"\n## {title}\n{text}\n| name | |\n| --- | --- |\n"
        for name in listed:
            yield from _rows(name, _value(name), name in WITH_METHODS)
        if title == "Hooks":
            for name in hook_names():
                yield from _rows(name, getattr(eg.hooks, name), with_methods=False)


def _value(name: str) -> Any:
    value: Any = eg
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _rows(name: str, value: Any, with_methods: bool) -> Iterator[str]:
    summary = CONSTANTS.get(name) or _summary(value)
    if inspect.isclass(value) and (listed := [*_fields(value)]):
        summary += f" Has {', '.join(f'`{each}`' for each in listed)}."
    yield f"| `{name}{_signature(value) if inspect.isfunction(value) else ''}` | {summary} |\n"
    bases = reversed(value.__mro__) if with_methods else ()
    for method, found in {name: found for base in bases for name, found in vars(base).items()}.items():
        is_listed = is_dataclass(value) and isinstance(found, property)
        if not method.startswith("_") and not is_listed and (inspect.isfunction(found) or isinstance(found, property)):
            shown = "" if isinstance(found, property) else _signature(found)
            yield f"| `{name}.{method}{shown}` | {_summary(found)} |\n"


def _fields(value: type) -> Iterator[str]:
    """Yield the public fields and properties of a record, and the members of an enumeration."""
    if issubclass(value, Enum):
        yield from (member.name for member in value)
    if is_dataclass(value):
        yield from (each.name for each in fields(value) if not each.name.startswith("_"))
        for name, _found in inspect.getmembers(value, lambda found: isinstance(found, property)):
            if not name.startswith("_"):
                yield name


def _signature(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    bare = [
        one.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name != "self"
        for one in _by_name(parameter, function)
    ]
    text = str(inspect.Signature(bare))
    return re.sub(r"<(?:function )?([\w.]+)(?:: .+?| at 0x\w+)>", r"\1", text)


def _by_name(parameter: inspect.Parameter, function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that ``**options: Unpack[…]`` stands for, or any other parameter as it is."""
    options = re.fullmatch(r"Unpack\[(\w+)\]", str(parameter.annotation))
    if options is None:
        return [parameter]
    names = inspect.unwrap(function).__globals__[options[1]].__annotations__
    return [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]


def _summary(value: Any) -> str:
    """Return the first sentence of a docstring, as Markdown for a table."""
    first = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
    first = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", first).replace("``", "`").rstrip(":")
    sentence = re.match(r"(.+?\.)(?= [A-Z`]|$)", first)
    return (sentence[1] if sentence else first).replace("|", "\\|")


def _references() -> Iterator[str]:
    """Yield the comments that the site replaces by full documentation, one for each module."""
    modules: dict[str, list[str]] = {}
    for _text, listed in SECTIONS.values():
        for name in listed:
            if inspect.isclass(value := _value(name)) or inspect.isfunction(value):
                modules.setdefault(value.__module__, []).append(name.rpartition(".")[2])
    modules["evergreen_groups.hooks"] = hook_names()
    yield "\n## In full\n"
    for module, found in modules.items():
        yield f"\n<!-- reference: {module}: {', '.join(found)} -->\n"


if __name__ == "__main__":
    print(page(), end="")
