"""All places in the package's source that make errors, findings, warnings and reasons.

``python tests/support/error_catalog.py`` prints ``docs/errors.md`` from it, and ``nox -s docs`` writes the file.
"""

import ast
import string
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "evergreen_groups"
PAGE = REPOSITORY / "docs" / "errors.md"

_DETAIL = "code=_0, values={'detail': _1}"
MAKERS = {
    "not_visible": "NotFoundError(_0)",
    "unreadable": f"DataError(\"Evergreen's answer can't be read: {{detail}}\", {_DETAIL})",
    "mixed_up": f"DataError(\"Evergreen's answer can't be read: {{detail}}\", {_DETAIL}, "
    "advice='check any proxy in between: it may have mixed up answers')",
    "_invalid_address": f'ConfigurationError("the gateway\'s address is invalid: {{detail}}", {_DETAIL}, '
    "advice='write it as https://host')",
    "_no_login": f'ConfigurationError("can\'t log in: {{detail}}", {_DETAIL})',
    "_bad_bundle": 'ConfigurationError("ca_bundle {path} can\'t be used: {reason}", '
    "values={'path': _0, 'reason': _1}, "
    "advice='set ca_bundle in [gateway] to a file with certificates (PEM), or remove it')",
    "_not_json": f'NotJSONError("the answer isn\'t from an OpenSRF gateway: {{detail}}", {_DETAIL}, '
    "advice='check the address, and any proxy in between')",
    "cannot_write": "ConfigurationError('cannot write {path}: {reason}', values={'path': _0, 'reason': _1}, advice=_2)",
    "damaged": "StateError('the database {where} is damaged', values={'where': _0}, "
    "advice='restore a backup, or move the database away to start a new one')",
    "not_an_address": 'ConfigurationError("[{section}] {key} isn\'t a valid address", '
    "advice='write it as {example}', values={'section': _0, 'key': _0, 'example': _1})",
    "password_in_address": "ConfigurationError('[{section}] {key} contains a password', "
    "advice='put it in a file that only this user can read, and set {file} to its path', "
    "values={'section': _0, 'key': _0, 'file': _0})",
    "not_installed": 'ConfigurationError("{package} isn\'t installed", '
    "advice=\"{pip} install 'evergreen-groups[{extra}]'\", values={'package': _1, 'pip': _1, 'extra': _2})",
    "_no_connection": "UnreachableError('no connection to {address}: {reason}', values={'address': _0, 'reason': _1})",
}
"""Functions that make an error, and how they do it with their arguments; they pass named ones on."""
PASSING_ON = {"_fail"}
"""Methods with a class as first argument, followed by the class's arguments."""
VERDICTS = {"warning": "warning", "failed": "failed", "noted": "ok"}
"""Functions that declare a row of a table of findings of the doctor, with its verdict."""


@dataclass(frozen=True)
class Site:
    """One place that makes an error, a finding, a warning or a reason.

    ``kind`` is the class, or a finding's verdict. ``message`` and ``advice`` are templates, None if they aren't
    literals. ``code`` is None if it comes from another error, and empty if the class's default applies. ``values`` are
    the names of the values, None without any; ``exact`` says whether all are literal. ``detail`` is the value of that
    name, if it is literal: the part of a message that isn't translated. ``status`` is the HTTP status of a problem.
    """

    place: str
    kind: str
    message: str | None
    advice: str | None
    code: str | None
    values: frozenset[str] | None
    exact: bool
    detail: str | None = None
    status: int | None = None


@cache
def sources() -> dict[str, ast.Module]:
    """Return the package's modules by relative path."""
    return {
        str(path.relative_to(PACKAGE)): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


@cache
def error_classes() -> dict[str, str]:
    """Return each class of the error tree with its base class."""
    found = {"EvergreenGroupsError": ""}
    classes = [node for tree in sources().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    grown = True
    while grown:
        grown = False
        for node in classes:
            bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id in found]
            if bases and node.name not in found:
                found[node.name], grown = bases[0], True
    return found


@cache
def errors() -> list[Site]:
    """Return all places that make one of the package's errors."""
    return [
        site
        for path, tree in sources().items()
        if path != "errors.py"
        for function, call in _calls(tree)
        if (site := _error(path, tree, function, call)) is not None
    ]


@cache
def findings() -> list[Site]:
    """Return all places that make a finding of the doctor, by calling a row of a table or ``ok``."""
    return [
        site
        for path, tree in sources().items()
        if path.startswith("doctor/")
        for function, call in _calls(tree)
        for site in _findings(path, tree, function, call)
    ]


def unused_findings() -> list[str]:
    """Return the rows of tables of findings that no check calls."""
    made = {site.code for site in findings()}
    return [
        code
        for path, tree in sources().items()
        if path.startswith("doctor/")
        for row in (row for rows in _rows(tree).values() for row in rows)
        if (code := str(ast.literal_eval(row.args[0]))) not in made
    ]


def _findings(path: str, tree: ast.Module, function: ast.AST, call: ast.Call) -> Iterator[Site]:
    # Tables are constants, or dictionaries of rows by kind.
    table = call.func.value if isinstance(call.func, ast.Subscript) else call.func
    name = table.id if isinstance(table, ast.Name) else ""
    names, exact = _passed(call, function)
    if name == "ok":
        yield Site(f"{path}:{call.lineno}", name, _text(call.args[0], tree), "", "", names, exact)
    for row in _rows(tree).get(name, []):
        code, message, advice = (_text(node, tree) for node in (*row.args, ast.Constant(""))[:3])
        verdict = VERDICTS[ast.unparse(row.func)]
        yield Site(f"{path}:{row.lineno}", verdict, message, advice, code, names, exact)


@cache
def _rows(tree: ast.Module) -> dict[str, list[ast.Call]]:
    """Return the rows of a module's tables of findings by the constant that holds them."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values = node.value.values if isinstance(node.value, ast.Dict) else [node.value]
            rows = [one for one in values if isinstance(one, ast.Call) and ast.unparse(one.func) in VERDICTS]
            found[node.targets[0].id] = rows
    return found


def _passed(call: ast.Call, function: ast.AST) -> tuple[frozenset[str], bool]:
    """Return the names of a call's keyword arguments, and whether all are literal."""
    names: frozenset[str] = frozenset()
    for keyword in call.keywords:
        names |= {keyword.arg} if keyword.arg else _names_of(keyword.value, function)[0]
    return names, all(keyword.arg for keyword in call.keywords)


def records(name: str) -> list[tuple[str, frozenset[str]]]:
    """Return the code and the names of the values of each record of a class that is made with a literal code."""
    found = []
    for tree in sources().values():
        for function, call in _calls(tree):
            if not isinstance(call.func, ast.Name) or call.func.id != name:
                continue
            first, *rest = call.args
            branches = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
            names, _exact = _names_of(rest[0], function) if rest else (frozenset(), True)
            found += [(code.value, names) for code in branches if isinstance(code, ast.Constant)]
    return found


def names_in(template: str) -> set[str]:
    return {name for _text, name, _spec, _conversion in string.Formatter().parse(template) if name is not None}


@cache
def _calls(tree: ast.Module) -> list[tuple[ast.AST, ast.Call]]:
    """Return all calls with their innermost function, or the module."""
    found: list[tuple[ast.AST, ast.Call]] = []

    def visit(node: ast.AST, function: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef):
            function = node
        if isinstance(node, ast.Call):
            found.append((function, node))
        for inner in ast.iter_child_nodes(node):
            visit(inner, function)

    visit(tree, tree)
    return found


def _error(path: str, tree: ast.Module, function: ast.AST, call: ast.Call) -> Site | None:
    func, first = call.func, call.args[0] if call.args else None
    if isinstance(func, ast.Attribute) and func.attr in PASSING_ON and first is not None:
        return _site(path, tree, function, call, ast.unparse(first).removeprefix("errors."), message=1)
    name = ast.unparse(func).removeprefix("errors.")
    if name in MAKERS:
        call = _made_by(name, call)
        name = ast.unparse(call.func)
    in_maker = isinstance(function, ast.FunctionDef) and function.name in MAKERS
    if name not in error_classes() or in_maker:
        return None
    return _site(path, tree, function, call, name, message=int(name == "ProblemError"))


def _made_by(maker: str, call: ast.Call) -> ast.Call:
    """Return the call of a class that a maker makes."""
    made = ast.parse(MAKERS[maker], mode="eval").body
    assert isinstance(made, ast.Call)
    arguments = {f"_{number}": argument for number, argument in enumerate(call.args)}

    class Filling(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return arguments.get(node.id, node)

    filled = ast.copy_location(Filling().visit(made), call)
    filled.keywords += call.keywords
    return filled


def _site(
    path: str,
    tree: ast.Module,
    function: ast.AST,
    call: ast.Call,
    kind: str,
    *,
    message: int,
    advice: int | None = None,
) -> Site:
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    places = dict(enumerate(call.args))
    by_name = given.get("values")
    names, exact = _names_of(by_name, function) if by_name is not None else (None, True)
    advised = given.get("advice") if advice is None else places.get(advice)
    first = places.get(0)
    return Site(
        place=f"{path}:{call.lineno}",
        kind=kind,
        message=_text(places.get(message), tree),
        advice="" if advised is None else _text(advised, tree),
        code=_code(given.get("code"), tree),
        values=names,
        exact=exact,
        detail=_detail(by_name),
        status=first.value if isinstance(first, ast.Constant) and isinstance(first.value, int) else None,
    )


def _text(node: ast.AST | None, tree: ast.Module) -> str | None:
    """Return a literal text, also through a name of the module; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        return _constants(tree).get(node.id)
    return None


def _detail(values: ast.AST | None) -> str | None:
    """Return the literal value ``detail``, with "…" for what varies."""
    if not isinstance(values, ast.Dict):
        return None
    for key, value in zip(values.keys, values.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "detail" and isinstance(value, ast.Constant | ast.JoinedStr):
            parts = value.values if isinstance(value, ast.JoinedStr) else [value]
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
    return None


def _code(node: ast.AST | None, tree: ast.Module) -> str | None:
    """Return the code, with a question mark for parts that aren't literal."""
    if node is None:
        return ""
    if isinstance(node, ast.Attribute) and node.attr == "code":
        return None
    return _text(node, tree) or "?"


@cache
def _constants(tree: ast.Module) -> dict[str, str]:
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _names_of(node: ast.AST, function: ast.AST) -> tuple[frozenset[str], bool]:
    """Return the keys of a dictionary, and whether all are literal; a name is looked up in its function."""
    if isinstance(node, ast.Name):
        return frozenset(_set_in(function, node.id)), False
    if not isinstance(node, ast.Dict):
        return frozenset(), False
    names: set[str] = set()
    exact = True
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant):
            names.add(str(key.value))
        elif key is None:
            names |= _names_of(value, function)[0]
            exact = False
    return frozenset(names), exact


def _set_in(function: ast.AST, name: str) -> Iterator[str]:
    """Return the keys of a dictionary that a function assigns to a name, also in a tuple, and adds later."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            for one, value in pairs:
                if ast.unparse(one) == name:
                    yield from _names_of(value, function)[0]
                elif isinstance(one, ast.Subscript) and ast.unparse(one.value) == name:
                    yield str(ast.literal_eval(one.slice))


def page() -> str:
    from evergreen_groups.audit.findings import WEIGHTS
    from evergreen_groups.render.audit.wording import EVIDENCE, REASONS
    from evergreen_groups.render.plans import WARNINGS

    problems = {
        (f"`{site.code}`", "" if site.status is None else str(site.status), _shown(site.message), _advice(site))
        for site in errors()
        if site.kind == "ProblemError" and site.code and site.message is not None
    }
    verdicts = {
        (f"`{site.code}`", site.kind, _shown(site.message), _advice(site))
        for site in findings()
        if site.code and site.message is not None
    }
    parts = [
        "# Codes",
        "Errors, findings and warnings have a code that stays the same when their texts change. Programs read it: "
        "`error.code` in Python, `code` in the JSON events of `--log-format json` and in the problems of the web "
        "service. The parts of a text that vary are named values, shown here in braces.\n\n"
        "Made from the source by `python tests/support/error_catalog.py`.",
        "## Errors",
        _table(("Code", "Class", "Exit status", "Says", "Advises"), _error_rows()),
        "## Problems of the web service",
        "For events, the service also returns the errors above, with their codes.",
        _table(("Code", "HTTP status", "Says", "Advises"), problems),
        "## Findings of `doctor`",
        "What fails because of an error has that error's code; what is right has the code `well`, and what couldn't "
        "be checked `not-checked`.",
        _table(("Code", "Verdict", "Says", "Advises"), verdicts),
        "## Warnings of a plan",
        _table(("Code", "Says"), ((f"`{code}`", _shown(words.plural or words)) for code, words in WARNINGS.items())),
        "## Reasons in an audit",
        _table(("Code", "Says"), ((f"`{code}`", _shown(words.plural or words)) for code, words in REASONS.items())),
        "## Evidence that a group is accidental",
        "The confidence is the sum of the weights, but at least 0 and at most 100. It is high from 50, medium from 25, "
        "and low below that.",
        _table(
            ("Code", "Weight", "Says"),
            ((f"`{code}`", f"{WEIGHTS[code]:+}", _shown(words.plural or words)) for code, words in EVIDENCE.items()),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def default_code(kind: str) -> str:
    from evergreen_groups.errors import _code_of

    return _code_of(type(kind, (), {}))


def _error_rows() -> set[tuple[str, ...]]:
    from evergreen_groups import errors as tree
    from evergreen_groups import exit_status

    rows = set()
    for site in errors():
        if site.kind == "ProblemError" or site.code is None or site.message is None:
            continue
        kind = site.kind
        while not hasattr(tree, kind):
            kind = error_classes()[kind]
        known: type[tree.EvergreenGroupsError] = getattr(tree, kind)
        status = exit_status.for_error(known.__new__(known))
        code = site.code or default_code(site.kind)
        rows.add((f"`{code}`", f"`{site.kind}`", str(status), _shown(site.message, site.detail), _advice(site)))
    return rows


def _advice(site: Site) -> str:
    """Return the advice; an ellipsis if the source chooses it by what happened."""
    return "…" if site.advice is None else _shown(site.advice)


def _shown(template: str, detail: str | None = None) -> str:
    """Return a template with its detail, and with only the names of its other values in braces."""
    parts = string.Formatter().parse(template)
    shown = "".join(text + (f"{{{name}}}" if name else "") for text, name, _spec, _conversion in parts)
    return shown.replace("{detail}", detail or "{detail}").replace("|", "\\|")


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heading, ("---",) * len(heading), *sorted(rows, key=lambda row: (row[0].strip("`"), row))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(page())
