"""Odd command lines, and commands with damaged state files: how each ends, and that none ends with a traceback.

``python tests/bench/command_lines.py [--lines 1500] [--damaged 1000] [--seed 1]`` prints a table, and the input of each
run that went wrong. It exits with 1 if there was one. All runs share this process and one sandbox; a run that takes
longer than ``TIMEOUT`` seconds counts as hanging.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NoReturn

import click

sys.path.insert(0, str(Path(__file__).parents[1]))  # like pytest (pythonpath)

from support.command import Command

from evergreen_groups.cli import application
from evergreen_groups.cli.application import COMMANDS
from evergreen_groups.sandbox import Sandbox


def _parameters(command: str) -> list[click.Parameter]:
    """Return the parameters of a command, or those of the program."""
    found = application.cli.get_command(click.Context(application.cli), command) if command else application.cli
    assert found is not None
    return found.params


TIMEOUT = 30
NEVER_ENDING = {"serve", "sandbox"}
WORDS = [
    "", " ", "-", "--", "0", "1", "-1", "7", "1.5", "1e999", "1e999999999", "NaN", "Infinity", "-0", "0x10", "१२३",
    "9" * 5000, str(2**63), str(2**63 - 1), str(2**31), "1001", "20000000001007", "20000000001052", "BR1", "CONS",
    "none", "ils", "total", "csv", "html", "table", "json", "xlsx", "txt", "library", "on", "lead", "x" * 5000,
    "\x1b[31m", "\u202e", "\udcff", "ü\u0308", "😀", "{}", "{0}", "%s", "%(x)s", "'; DROP TABLE entries; --",
    "http://[", "https://x:99999", "*", "~/x", "~no-such-user/x", "/", ".", "..", "/dev/null", "/dev/full",
    "/proc/self/mem", "/nonexistent/x.csv", "n" * 300, "today.csv", "today.doc", "today", "today.xlsx", "reports",
    "a\nb", "a=b", "127.0.0.1", "::1", "300.1.1.1",
]  # fmt: skip
DOCUMENTS = [
    "", "{}", "[]", "null", "1e400", "Infinity", "[" * 20_000, '{"a":' * 20_000, "9" * 5000, '"\\ud800"', "\x00" * 100,
    '{"outcome": "done"}', '{"pid": "x", "since": 3}', '{"au": [1]}', "action,barcode,target\nmove,1,2\n",
    "action,barcode,target\n" + "move,,\n" * 50, "[report]\nmin_total = " + "9" * 5000, "[report]\nmin_total = -1",
    "[gateway]\nurl = 3", "[report\n", "[[policy.limits]]\nlimit = 1", "[policy]\nlimits = " + "[" * 3000 + "]" * 3000,
    '[mail]\nhost = "x\\u0000y"', "\ufeff[report]", "a = 1\n" * 3, '[report]\noutput = "a\\u0000b"',
]  # fmt: skip
OPTIONS = [
    "--nonsense",
    *sorted({name for command in ("", *COMMANDS) for one in _parameters(command) for name in one.opts}),
]
OVER_DAMAGE = [
    ["report"], ["report", "--no-history"], ["journal"], ["journal", "1"], ["undo", "1-k7q4tz", "--yes"], ["status"],
    ["status", "--json"], ["move", "20000000001052", "--to", "20000000001007", "--dry-run"],
    ["lead", "20000000001052", "--yes"], ["audit", "--fix", "--dry-run"], ["state", "check"], ["state", "export"],
    ["state", "upgrade"], ["state", "forget", "1052"],
]  # fmt: skip


class HungError(BaseException):
    """A run took too long; not an Exception, so that no code catches it."""


def _hung(*_signal: object) -> NoReturn:
    raise HungError


def ended(words: Sequence[str], environ: Mapping[str, str]) -> tuple[str, str]:
    """Return how a command ended (``done``, ``error``, or a kind of failure), and the place of a failure."""
    os.environ.clear()
    os.environ.update(environ)
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="replace")
    stdin, sys.stdin = sys.stdin, io.StringIO("")
    signal.alarm(TIMEOUT)
    try:
        with redirect_stdout(shown), redirect_stderr(said):
            status = application.run(["-v", *words])
    except HungError as error:
        return "hung", traceback.format_exc(limit=-3) + str(error)
    except SystemExit:
        return "error", ""
    except BaseException:
        return "traceback", traceback.format_exc(limit=-3)
    finally:
        signal.alarm(0)
        sys.stdin = stdin
    said.seek(0)
    text = said.read()
    if "unexpected error (report" in text or "Traceback" in text:
        return "unforeseen", text[-1500:]
    return ("error" if status else "done"), ""


def fitting(command: str, chance: random.Random, odd: Sequence[str]) -> list[str]:
    """Return options and arguments of the command, with some odd and some valid values."""
    good = {"--to": "20000000001007", "--from": "20000000001052", "--user": "1001", "--org": "BR1", "--format": "json"}
    words = []
    for parameter in _parameters(command):
        fits = chance.random() < 0.7
        if isinstance(parameter, click.Argument):
            known = ["20000000001052", "20000000001007", "1"]
            words += [chance.choice(known if fits else odd) for _ in range(1 if chance.random() < 0.9 else 3)]
        elif parameter.required or chance.random() < 0.2:
            flag = parameter.opts[0]
            words.append(flag)
            if not getattr(parameter, "is_flag", False):
                words.append(good.get(flag, "3") if fits else chance.choice(odd))
    return words if chance.random() < 0.9 else [*words, "--yes"]


def odd_line(chance: random.Random, directory: Path) -> tuple[list[str], dict[str, str]]:
    documents = [directory / f"document-{number}" for number in range(3)]
    for document in documents:
        document.unlink(missing_ok=True)
        document.write_text(chance.choice(DOCUMENTS), encoding="utf-8")
    odd = [*WORDS, *map(str, documents)]
    command = chance.choice([*(set(COMMANDS) - NEVER_ENDING), *(set(COMMANDS) - NEVER_ENDING), chance.choice(odd)])
    if chance.random() < 0.1:
        command = chance.choice(sorted(NEVER_ENDING))
        return [command, chance.choice(OPTIONS), chance.choice(["", "x", "-1", "9" * 5000]), "--nonsense"], {}
    before = [chance.choice(OPTIONS + odd)] if chance.random() < 0.1 else []
    if chance.random() < 0.2:
        before += ["--config", str(chance.choice(documents))]
    if command in COMMANDS and chance.random() < 0.7:
        rest = fitting(command, chance, odd)
    else:
        rest = [chance.choice(OPTIONS if chance.random() < 0.5 else odd) for _ in range(chance.randrange(6))]
    if command == "batch":
        rest.insert(0, str(chance.choice(documents)))
    variables = ["REPORT_MIN_TOTAL", "REPORT_OUTPUT", "REPORT_ORGS", "POLICY_LIMIT", "GATEWAY_TIMEOUT"]
    some = [chance.choice(variables)] if chance.random() < 0.2 else []
    return [*before, command, *rest], {f"EVERGREEN_GROUPS_{name}": chance.choice(odd) for name in some}


def _cells(path: Path, chance: random.Random) -> None:
    """Write random values into a table."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = chance.choice(tables)
        for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {trigger}")
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        value = chance.choice([None, "", "x", "9" * 400, -1, 2**63 - 1, 1.5, "NaN", b"\x00", "0001-01-01", "[1", "{}"])
        try:
            database.execute(f"UPDATE {table} SET {chance.choice(columns)} = ?", (value,))
        except sqlite3.Error:
            database.execute(f"PRAGMA user_version={chance.randrange(-2, 9)}")


def _bytes(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 10, 1000]) if content else 0):
        content[chance.randrange(len(content))] = chance.randrange(256)
    path.write_bytes(content)


def _replaced(make: Callable[[Path], object]) -> Callable[[Path, random.Random], None]:
    def damage(path: Path, _chance: random.Random) -> None:
        path.unlink()
        make(path)

    return damage


DAMAGES: dict[str, Callable[[Path, random.Random], object]] = {
    "bytes changed": _bytes,
    "cut off": lambda path, chance: os.truncate(path, chance.randrange(path.stat().st_size + 1)),
    "empty": lambda path, _chance: os.truncate(path, 0),
    "made longer": lambda path, chance: path.open("ab").write(chance.randbytes(5000)),
    "another text": lambda path, chance: path.write_text(chance.choice(DOCUMENTS), encoding="utf-8"),
    "random bytes": lambda path, chance: path.write_bytes(chance.randbytes(chance.choice([1, 100, 20_000]))),
    "a pipe": _replaced(os.mkfifo),
    "a directory": _replaced(Path.mkdir),
    "a link to itself": _replaced(lambda path: path.symlink_to(path)),
    "a link elsewhere": _replaced(lambda path: path.symlink_to("/dev/zero")),
    "gone": lambda path, _chance: path.unlink(),
}


def damaged(chance: random.Random, state: Path) -> str:
    """Damage a file in a directory, and describe how."""
    path = chance.choice(sorted(file for file in state.rglob("*") if file.is_file() and not file.is_symlink()))
    if path.suffix == ".sqlite3" and chance.random() < 0.5:
        _cells(path, chance)
        return f"cells of {path.name}"
    name = chance.choice(sorted(DAMAGES))
    DAMAGES[name](path, chance)
    return f"{path.name}: {name}"


def main() -> int:
    """Run both, print the table, and return whether anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1500)
    parser.add_argument("--damaged", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    signal.signal(signal.SIGALRM, _hung)
    chance = random.Random(given.seed)
    table: dict[str, Counter[str]] = {"odd command lines": Counter(), "damaged state files": Counter()}
    wrong: list[str] = []

    def count(kind: str, words: Sequence[str], how: str, environ: Mapping[str, str]) -> None:
        verdict, place = ended(words, environ)
        table[kind][verdict] += 1
        if verdict not in ("done", "error"):
            shown = [word if len(word) < 60 else f"{word[:20]}…({len(word)})" for word in words]
            wrong.append(f"{verdict}: {json.dumps(shown)} {how}\n{place}")

    with Sandbox() as sandbox, tempfile.TemporaryDirectory() as name, chdir(name):
        directory, environ = Path(name), Command(Path(name), sandbox.url).environ
        environ |= {"STATE_DIRECTORY": f"{name}/state", "CACHE_DIRECTORY": f"{name}/cache"}
        (directory / "reports").mkdir()
        for _ in range(given.lines):
            words, more = odd_line(chance, directory)
            count("odd command lines", words, json.dumps(more)[:200], {**environ, **more})
        for words in (["report"], ["report"], ["move", "20000000001052", "--to", "20000000001007", "--yes"]):
            ended(words, environ)
        whole = directory / "whole"
        whole.mkdir()
        for part in ("state", "cache"):
            shutil.copytree(directory / part, whole / part, symlinks=True)
        for _ in range(given.damaged):
            for part in ("state", "cache"):
                shutil.rmtree(directory / part, ignore_errors=True)
                shutil.copytree(whole / part, directory / part, symlinks=True)
            how = damaged(chance, directory / chance.choice(["state", "state", "state", "cache"]))
            count("damaged state files", chance.choice(OVER_DAMAGE), how, environ)

    print("\n".join(wrong))
    columns = ("done", "error", "traceback", "unforeseen", "hung")
    print(f"{'':24}{'runs':>8}" + "".join(f"{column:>12}" for column in columns))
    for kind, counted in table.items():
        print(f"{kind:24}{counted.total():>8}" + "".join(f"{counted[column]:>12}" for column in columns))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
