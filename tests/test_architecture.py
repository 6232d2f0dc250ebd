"""Arrows between the rooms point down only, and what must stay light stays light."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "evergreen_groups"

ROOMS = [
    {"__main__"},
    {"cli"},
    {"web"},
    {"hooks"},
    {"documents"},
    {"client"},
    {"diagnosis"},
    {"mail"},
    {"events"},
    {"report", "moves", "batch", "details", "checks", "audit", "recalculation", "cleared"},
    {"audit_groups", "audit_search"},
    {"planner"},
    {"plans", "settling"},
    {"journal", "audit_trail"},
    {"summaries"},
    {"penalties"},
    {"history"},
    {"history_file"},
    {"comparison", "split"},
    {"groups"},
    {"decisions", "reference_data"},
    {"limit_bounds"},
    {"limits"},
    {"membership", "group_search"},
    {"group_rows", "own_fines"},
    {"hidden_members", "patrons"},
    {"audit_query"},
    {"access", "group_query", "thresholds"},
    {"org_units", "profiles"},
    {"connection"},
    {"run_status", "append_only"},
    {"gateway", "state"},
    {"first_configuration"},
    {"config"},
    {"passwords"},
    {"settings"},
    {"converters"},
    {"findings"},
    {"models"},
    {"policy", "changes"},
    {"editions"},
    {"files", "lock", "file_names"},
    {"errors", "kept", "progress"},
]
APART = {
    "render": {
        "checks",
        "details",
        "diagnosis",
        "findings",
        "recalculation",
        "moves",
        "plans",
        "journal",
        "models",
        "split",
        "changes",
        "policy",
        "editions",
        "files",
        "file_names",
        "errors",
        "progress",
    },
    "sandbox": {"errors"},
}
LEVEL = {room: depth for depth, rooms in enumerate(ROOMS) for room in rooms}


def imports(path: Path) -> set[str]:
    """The rooms of the package that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("evergreen_groups"):
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
            found |= {name for name in names if name != "__version__"}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("evergreen_groups.")}
    return found


def files() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        room = relative.parts[0] if len(relative.parts) > 1 else relative.stem
        if room != "__init__":
            found.append((room, path))
    return found


def test_arrows_point_down() -> None:
    wrong = []
    for room, path in files():
        for other in imports(path) - {room}:
            if room in APART:
                allowed = other in APART[room]
            elif other in APART:
                allowed = room == "cli"
            else:
                allowed = LEVEL[other] > LEVEL[room]
            if not allowed:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not wrong


def test_the_gateway_stands_alone() -> None:
    for room, path in files():
        if room == "gateway":
            assert imports(path) <= {"gateway", "errors"}, path


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom evergreen_groups.cli.main import run\nrun(['report', '--help'])\n"
        "heavy = {'requests', 'lxml', 'rich', 'sqlite3', 'flask', 'waitress', 'evergreen_groups.gateway', "
        "'evergreen_groups.sandbox'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: evergreen-groups report" in done.stdout
