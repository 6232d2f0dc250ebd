"""The architecture of ``docs/architecture.md``: imports point down and go through faces.

The table below lists the packages from the top down. A package may import the packages in its row, the
packages that those may import, and the ground.
"""

import ast
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

from support.repository import PACKAGE, REPOSITORY, syntax_tree

MAY_IMPORT = {
    "__main__": {"cli"},
    "cli": {"web", "doctor", "sandbox", "installation"},
    "web": {"hooks", "metrics", "nightly"},
    "hooks": {"client"},
    "client": {"render"},
    "nightly": {"render", "mail", "metrics"},
    "metrics": {"report"},
    "render": {"follow_up", "doctor", "letters"},
    "doctor": {"report", "mail", "configured"},
    "installation": {"configured"},
    "letters": {"desk"},
    "desk": {"report", "changes"},
    "follow_up": {"report"},
    "changes": {"audit"},
    "report": {"groups", "state"},
    "audit": {"groups", "state"},
    "groups": {"ils"},
    "mail": {"settings", "state"},
    "configured": {"settings", "gateway", "state"},
    "settings": {"language", "policy"},
    "ils": {"gateway", "settings"},
    "gateway": set(),
    "state": set(),
    "sandbox": {"language"},
    "language": set(),
}
"""The packages and what each may import; what follows from another entry is left out."""

GROUND = {
    "arguments",
    "batches",
    "breaker",
    "certificates",
    "errors",
    "exit_status",
    "formats",
    "message",
    "plugins",
    "policy",
    "threads",
    "ttl_cache",
    "values",
}
"""The modules below all packages, which any package may import."""
GROUND_MAY_IMPORT = {
    "arguments": {"errors", "message"},
    "errors": {"message"},
    "exit_status": {"errors", "message"},
    "formats": {"errors", "language", "message"},
    "plugins": {"threads"},
    "policy": {"arguments", "errors", "message"},
}
STANDS_APART = {
    "gateway": {"arguments", "batches", "certificates", "errors", "message", "threads", "ttl_cache", "values"},
    "state": {"breaker", "errors", "message", "plugins", "threads"},
    "sandbox": {"errors", "message", "values"},
    "language": {"errors", "message", "values"},
}
"""Rooms that import only part of the ground, so that they can be used or reviewed alone."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def exports(package: str) -> dict[str, str]:
    """Return each name that a face exports with the module that defines it (a module exports itself)."""
    stub = modules()[package].with_suffix(".pyi")
    found = {}
    if stub.exists():
        for node in ast.parse(stub.read_text("utf-8")).body:
            if isinstance(node, ast.AnnAssign):  # __version__
                continue
            assert isinstance(node, ast.ImportFrom), f"{stub}: a face only imports"
            for alias in node.names:
                assert alias.asname == alias.name, f"{stub}: {alias.name} is not handed out"
                found[alias.name] = f"{package}.{node.module}" if node.module else f"{package}.{alias.name}"
    return found


def is_package(module: str) -> bool:
    return modules()[module].name == "__init__.py"


def syntax(module: str) -> ast.Module:
    return syntax_tree(modules()[module])


@cache
def imports(module: str, *, at_start: bool = False) -> list[tuple[str, str]]:
    """Return a module's imports from the package, as (module, name); ``at_start``: only imports at import time."""
    found = []
    tree = syntax(module)
    for node in tree.body if at_start else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "evergreen_groups":
            found += [(str(node.module), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if alias.name.startswith("evergreen_groups.")]
    return found


def source(module: str, name: str) -> str:
    """Return the module that defines an imported name."""
    if is_package(module):
        if name in exports(module):
            return exports(module)[name]
        if f"{module}.{name}" in modules():
            return f"{module}.{name}"
    return module


def package(module: str) -> str:
    """Return a module's package; a top-level file is a package by itself."""
    return module.split(".")[1] if "." in module else "__init__"


@cache
def allowed(start: str) -> set[str]:
    found, waiting = set(), [start]
    while waiting:
        for other in MAY_IMPORT.get(waiting.pop(), ()):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def test_the_table_has_every_package_and_nothing_else() -> None:
    there = {package(module) for module in modules()} - {"__init__"}
    assert there == set(MAY_IMPORT) | GROUND


def test_arrows_point_down() -> None:
    wrong = []
    for module in modules():
        here = package(module)
        if here == "__init__":
            continue
        ground = STANDS_APART.get(here, GROUND) if here not in GROUND else GROUND_MAY_IMPORT.get(here, set())
        may = (allowed(here) if here in MAY_IMPORT else set()) | ground | {here}
        for other, name in imports(module):
            there = package(source(other, name))
            if there not in may and there != "__init__":
                wrong.append(f"{module} imports {other}.{name}")
    assert not wrong


def test_modules_import_each_other_in_no_circle() -> None:
    arrows = defaultdict(set)
    for module in modules():
        for other, name in imports(module, at_start=True):
            arrows[module].add(source(other, name))
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for other in arrows[module]:
                visit(other, (*way, module))
            done.add(module)

    for module in modules():
        visit(module, ())


def test_folders_of_a_package_import_each_other_in_no_circle() -> None:
    """A lazy face hides which of its modules an import loads, so look at folders as a whole.

    The sandbox is a program of its own: its services and its database know each other, as Evergreen's do. ``web.app``
    puts the service together, from the desk's pages as well, and nothing imports it but the commands.
    """
    arrows = defaultdict(set)
    for module in (one for one in modules() if package(one) != "sandbox" and one != "evergreen_groups.web.app"):
        here = module if is_package(module) else module.rpartition(".")[0]
        for other, name in imports(module, at_start=True):
            found = source(other, name)
            there = found if is_package(found) else found.rpartition(".")[0]
            if there not in (here, "evergreen_groups"):
                arrows[here].add((there, f"{module} imports {other}.{name}"))
    circles = {
        frozenset((why, back))
        for here, others in list(arrows.items())
        for there, why in others
        for again, back in arrows.get(there, ())
        if again == here
    }
    assert not circles, "\n".join(sorted(" / ".join(sorted(one)) for one in circles))


def test_packages_are_entered_by_their_faces() -> None:
    """Import another package's names from its face, and names of the same package from their modules.

    A folder within a package, like ``render/report``, may also import from the modules of that package.
    """
    wrong = []
    for module in modules():
        own = module if is_package(module) else module.rpartition(".")[0]
        for other, name in imports(module):
            parent = other if is_package(other) else other.rpartition(".")[0]
            if parent == "evergreen_groups" or f"{own}.".startswith(f"{parent}."):
                continue
            if not is_package(other) or (name and name not in exports(other) and not is_package(f"{other}.{name}")):
                wrong.append(f"{module} imports {other}.{name}")
    assert not wrong


def test_faces_say_what_their_packages_are_and_hand_out_what_is_there() -> None:
    wrong = []
    for name in filter(is_package, modules()):
        if not ast.get_docstring(syntax(name)):
            wrong.append(f"{name} has no docstring")
        for exported, module in exports(name).items():
            if not module.endswith(f".{exported}") and exported not in modules()[source(module, exported)].read_text(
                "utf-8"
            ):
                wrong.append(f"{exported} is not in {module}")
            # With Debian 13's lazy-loader (0.4), the name would give the module once the module is imported.
            own = f"from .{exported} import {exported} as" in modules()[name].with_suffix(".pyi").read_text("utf-8")
            if (own or module != f"{name}.{exported}") and f"{name}.{exported}" in modules():
                wrong.append(f"{name}: {exported} is also a module of the package")
    assert not wrong, "\n".join(wrong)


def test_the_top_of_the_package_is_small() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 17


def test_the_tests_mirror_the_packages() -> None:
    """Each package's tests are in a folder with the package's name."""
    folders = {path.name for path in (REPOSITORY / "tests").iterdir() if path.is_dir()} - {"__pycache__"}
    packages = {package(module) for module in modules() if is_package(module)} - {"__init__"}
    assert folders - packages <= {
        "apache",
        "bench",
        "faults",
        "mutation",
        "package",
        "reckoning",
        "recorded",
        "support",
    }


def test_help_of_every_command_loads_nothing_heavy() -> None:
    """The build makes the manual from it as well, without the packages that only a run needs."""
    code = (
        "import sys\nfrom evergreen_groups.cli.manual import contexts\n"
        "print(*(context.command_path for context in contexts()), sep='\\n')\n"
        "heavy = {'requests', 'lxml', 'msgspec', 'rich', 'sqlite3', 'sqlalchemy', 'flask', 'waitress', 'jinja2', "
        "'babel', 'evergreen_groups.gateway.gateway', 'evergreen_groups.sandbox.sandbox'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "evergreen-groups report" in done.stdout
    assert "evergreen-groups serve" in done.stdout
