"""Run the blocks of a page like a reader who follows it from top to bottom.

They run in a new directory that is also the home directory, with the program on the path. Later blocks see what earlier
ones export or write. If the page says so (:mod:`support.pages`), a configuration names a running sandbox, and
placeholders in the text are replaced by the sandbox's URL, account and password.
"""

import doctest
import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from support.pages import Block, run_with, tried
from support.repository import REPOSITORY
from support.web_caller import PASSWORD, served, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import reading as load
from evergreen_groups.web import close, create_app

ADDRESS = "https://evergreen.example.org"
ACCOUNTS = ("groups_report", "circulation_desk", "selfcheck")
"""Account names in the pages, replaced by one of the sandbox's."""
ACCOUNT = "consortium_staff"
ELLIPSIS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_TIMEOUT = 300
_SAVED = "exported"
_SHELL = f'set -euo pipefail; [ ! -e ~/.{_SAVED} ] || . ~/.{_SAVED}; trap "export -p > ~/.{_SAVED}" EXIT\n'


class PageReader:
    """A reader of a page in ``home``; ``url`` is the sandbox's if the page needs one."""

    def __init__(self, home: Path, url: str | None) -> None:
        self.home = home
        self.url = url
        self.printed = self.warned = ""
        self.environ = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), *os.environ["PATH"].split(os.pathsep)]),
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONPATH": str(REPOSITORY),
        }
        if url is not None:
            directory = home / ".config" / "evergreen-groups"
            directory.mkdir(parents=True)
            password = directory / "password"
            password.touch(0o600)
            password.write_text(PASSWORD)
            lines = ["[gateway]", f'url = "{url}"', f'username = "{ACCOUNT}"', f'password_file = "{password}"']
            (directory / "config.toml").write_text("\n".join(lines) + "\n")

    def try_block(self, block: Block) -> None:
        """Run a block or, if it is data, parse it.

        Raises:
            AssertionError: it fails, prints something else than the page says, or must not be run at all.
        """
        assert not block.is_for_machine, (
            f"{block.place} would change this machine: it takes a comment, see support.pages"
        )
        getattr(self, f"_{block.language}")(block)

    def _sh(self, block: Block) -> None:
        self.printed = self._run(block, ["bash", "-c", _SHELL + self._own(block.text)], block.exit_status)

    def _text(self, block: Block) -> None:
        """Compare what the block before printed, or lines of it."""
        if block.comment and block.comment[1].endswith("in part"):
            printed = {" ".join(line.split()) for line in f"{self.printed}\n{self.warned}".splitlines()}
            missing = [line for line in block.text.splitlines() if " ".join(line.split()) not in printed | {""}]
            assert missing == [], f"{block.place}: not printed: {missing}\n{self.printed}{self.warned}"
        else:
            self._compare(block, block.text, self.printed)

    def _console(self, block: Block) -> None:
        """Run each command, and compare its output; three dots on the page match anything."""
        parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
        assert not parts[0].strip(), f"{block.place}: begins without a prompt"
        for place, part in enumerate(parts[1:], start=2):
            # The command goes on after a backslash.
            command, expected = re.findall(r"\A((?:[^\n]*\\\n)*[^\n]*\n)(.*)\Z", part, re.DOTALL)[0]
            status = block.exit_status if place == len(parts) else 0
            printed = self._run(block, ["bash", "-c", _SHELL + self._own(command)], status)
            self._compare(block, expected, printed)

    def _compare(self, block: Block, expected: str, printed: str) -> None:
        if self.url is not None:
            printed = printed.replace(self.url, ADDRESS)
        printed = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
        good = doctest.OutputChecker().check_output(expected, printed, ELLIPSIS)
        assert good, f"{block.place} says\n{expected}\nand it is\n{printed}"

    def _python(self, block: Block) -> None:
        """Run a separate program, with the variables that the shell has exported."""
        file = self.home / "block.py"
        file.write_text(self._own(block.text), "utf-8")
        self.printed = self._run(block, ["bash", "-c", f"{_SHELL}{sys.executable} {file}"], block.exit_status)

    def _toml(self, block: Block) -> None:
        file = self.home / "block.toml"
        file.write_text(block.text, "utf-8")
        file.chmod(0o600)
        load.load(file, {})

    @staticmethod
    def _json(block: Block) -> None:
        json.loads(block.text)

    def _own(self, text: str) -> str:
        """Replace the reader's values in a text with the sandbox's."""
        if self.url is None:
            return text
        text = text.replace(ADDRESS, self.url).replace('"…"', f'"{PASSWORD}"')
        for account in ACCOUNTS:
            text = text.replace(f'"{account}"', f'"{ACCOUNT}"')
        return text

    def _run(self, block: Block, command: list[str], status: int) -> str:
        done = subprocess.run(
            command,
            cwd=self.home,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        assert done.returncode == status, f"{block.place} ends with {done.returncode}\n{done.stdout}{done.stderr}"
        self.warned = done.stderr
        return done.stdout


def try_page(page: Path, home: Path) -> None:
    needed = run_with(page)
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox()) if needed is not None else None
        if sandbox is not None and needed == "the service":
            app = create_app(settings_of(sandbox.url), {"XDG_STATE_HOME": str(home), "XDG_CACHE_HOME": str(home)})
            stack.callback(close, app)
            sandbox.serve_desk(stack.enter_context(served(app)))
        reader = PageReader(home, None if sandbox is None else sandbox.url)
        for block in tried(page):
            reader.try_block(block)
