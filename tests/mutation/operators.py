"""Mutation operators: those of cosmic-ray, and three that it lacks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator
from parso.python.tree import Keyword

COSMIC_RAY = (
    *(f"ReplaceComparisonOperator_{one}_{other}" for one, other in (
        ("Lt", "LtE"), ("LtE", "Lt"), ("Gt", "GtE"), ("GtE", "Gt"),
        ("Eq", "NotEq"), ("NotEq", "Eq"), ("Is", "IsNot"), ("IsNot", "Is"),
    )),
    *(f"ReplaceBinaryOperator_{one}_{other}" for one, other in (
        ("Add", "Sub"), ("Sub", "Add"), ("Mul", "FloorDiv"), ("Div", "Mul"), ("FloorDiv", "Mul"), ("Mod", "Mul"),
        ("BitOr", "BitAnd"), ("BitAnd", "BitOr"), ("Pow", "Mul"),
    )),
    "ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not",
    "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer", "RemoveDecorator",
    "ZeroIterationForLoop",
)  # fmt: skip
"""One replacement per operator. Cosmic-ray would try a dozen, all of which the same test kills."""


class _Ours(Operator):
    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class RemoveStatement(_Ours):
    """Remove a statement that has an effect: a call, a raise, or a change of an existing object."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        # An abstract method's body never runs.
        if node.type == "simple_stmt" and _acts(node.children[0]) and "NotImplementedError" not in node.get_code():
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        first = node.children[0]
        node.children[0] = Keyword("pass", first.start_pos, prefix=first.get_first_leaf().prefix)
        return node


class ReturnNone(_Ours):
    """Return None instead of a value, but not instead of False, which callers can't tell apart from it."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "return_stmt" and node.children[1].get_code().strip() not in ("None", "False"):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.children[1] = Keyword("None", node.children[1].start_pos, prefix=" ")
        return node


class RemoveKeywordArgument(_Ours):
    """Remove a keyword argument, so that the default applies."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        for child in _named_arguments(node):
            yield child.start_pos, child.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        child = _named_arguments(node)[index]
        place = node.children.index(child)
        last = place + 1 < len(node.children) and node.children[place + 1] == ","
        del node.children[place : place + 1 + last]
        return node


OURS = {one.__name__: one for one in (RemoveStatement, ReturnNone, RemoveKeywordArgument)}


def places_of(source: str) -> list[tuple[str, int]]:
    """Return where a module could be changed: the name of the operator, and which of its occurrences."""
    nodes = list(ast_nodes(get_ast(source)))
    counts = {
        name: sum(len(list(_operator(name).mutation_positions(node))) for node in nodes)
        for name in (*COSMIC_RAY, *OURS)
    }
    return [(name, occurrence) for name, count in counts.items() for occurrence in range(count)]


def mutated(source: str, name: str, occurrence: int) -> str | None:
    """Return a module with one change, or None if that changes nothing that Python runs.

    Numbers in constants of the module stay: how many at once, how often, how long. They were chosen by measuring, and
    one more or less is as right.
    """
    try:
        changed = mutate_code(source, _operator(name), occurrence)
    except AttributeError:  # ExceptionReplacer knows plain names only, not ``errors.StateError``
        return None
    if changed is None or _meaning(changed) == _meaning(source):
        return None
    return None if name == "NumberReplacer" and _constants(changed) != _constants(source) else str(changed)


def _operator(name: str) -> Any:
    return OURS[name]() if name in OURS else get_operator(f"core/{name}")()


def _constants(source: str) -> list[str]:
    return re.findall(r"^_?[A-Z][A-Z0-9_, ]* = .*", source, re.MULTILINE)


def _acts(node: Any) -> bool:
    if node.type == "expr_stmt":
        changes = node.children[1].get_code().strip() != "="
        return node.children[1].type != "annassign" and (changes or node.children[0].type in ("atom_expr", "power"))
    return node.type in ("atom_expr", "power", "raise_stmt", "del_stmt", "yield_expr")


def _named_arguments(node: Any) -> list[Any]:
    if node.type not in ("arglist", "trailer"):
        return []
    return [it for it in node.children if it.type == "argument" and it.children[1] == "="]


class _OnlyWhatRuns(ast.NodeTransformer):
    """Removes what has no effect at runtime: annotations, code for mypy, docstrings.

    Also removes ``frozen`` and ``slots`` from data classes, ``init`` and ``repr`` from their fields, and ``strict`` of
    ``zip``: they prevent mistakes and save memory, but tests can't notice.
    """

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        # Our static methods are called by their class, nobody tries to make an abstract object, and caches save time.
        unseen = ("staticmethod", "abstractmethod", "cache", "lru_cache")
        node.decorator_list = [one for one in node.decorator_list if ast.unparse(one).partition("(")[0] not in unseen]
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Name("annotation")
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        checking = ast.unparse(node.test).removeprefix("not ") == "TYPE_CHECKING"
        return ast.Pass() if checking else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.Pass() if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        unseen = {"dataclass": ("slots", "frozen"), "field": ("init", "repr"), "zip": ("strict",)}
        names = unseen.get(ast.unparse(node.func), ())
        node.keywords = [one for one in node.keywords if one.arg not in names]
        return self.generic_visit(node)


def _meaning(source: str) -> str:
    try:
        return ast.dump(_OnlyWhatRuns().visit(ast.parse(source)))
    except SyntaxError:
        return source
