"""The pages for maintainers: links resolve, the diagram matches the table of packages, and examples work."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import openpyxl
import pytest
from support.documents import strict
from support.pages import PAGES
from support.repository import REPOSITORY
from test_architecture import MAY_IMPORT, allowed

ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text("utf-8")


def section(heading: str) -> str:
    """Return a section of the page."""
    (found,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", ARCHITECTURE, re.DOTALL | re.MULTILINE)
    return str(found)


def test_links_lead_to_what_they_name() -> None:
    """A name in a link's text occurs in the linked file; ``nox -s links`` checks links to other places."""
    wrong = []
    for page in PAGES:
        for text, target in re.findall(r"\[([^\]]+)\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            file = (page.parent / target).resolve()
            if "://" in target:
                if not re.fullmatch(r"https://[\w.-]+\.\w+(/\S*)?", target):
                    wrong.append(f"{page.name}: {target} is no address")
            elif not file.exists():
                wrong.append(f"{page.name}: {target} isn't there")
            else:
                names = re.findall(r"`(\w+)`", text)
                missing = [name for name in names if not re.search(rf"\b{name}\b", file.read_text("utf-8"))]
                wrong += [f"{page.name}: {name} isn't in {target}" for name in missing]
    assert not wrong, "\n".join(wrong)


def test_the_picture_is_the_table() -> None:
    """The diagram leaves out arrows that others imply, so that it stays readable."""
    (picture,) = re.findall(r"```mermaid\nflowchart TD\n(.*?)```", ARCHITECTURE, re.DOTALL)
    wanted = [
        f"    {name} --> {other}"
        for name, others in MAY_IMPORT.items()
        for other in sorted(others)
        if not any(other in allowed(between) for between in others)
    ]
    assert picture.splitlines() == wanted, "\n".join(["the picture should be:", *wanted])


def test_the_page_has_every_package() -> None:
    rows = "\n".join(line.split("|")[1] for line in section("The packages").splitlines() if line.startswith("| ["))
    assert set(re.findall(r"\[(\w+)\]", rows)) == set(MAY_IMPORT) - {"__main__"} | {"policy"}


class Copy:
    """A copy of the package, with an example added as the page tells."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shutil.copytree(
            REPOSITORY / "evergreen_groups",
            directory / "evergreen_groups",
            ignore=shutil.ignore_patterns("__pycache__"),
        )

    def put(self, text: str) -> set[str]:
        """Make the edits, and return the files they touch."""
        touched, path = set(), ""
        for words, code in re.findall(
            r"^((?:\*\*`|and at).*?:)\n\n<!--.*?-->\n```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
        ):
            path = next(iter(re.findall(r"\*\*`(.+?)`\*\*", words)), path)
            touched.add(path)
            if "a new file" in words:
                assert not (self.directory / path).exists()
                (self.directory / path).write_text(code, "utf-8")
            else:
                (name,) = re.findall(r"at the end of `(\w+)`", words)
                self._insert(self.directory / path, name, code)
        return touched

    @staticmethod
    def _insert(file: Path, name: str, code: str) -> None:
        lines = file.read_text("utf-8").splitlines(keepends=True)
        for node in ast.parse("".join(lines)).body:
            targets = [*getattr(node, "targets", ()), getattr(node, "target", None)]
            named = [getattr(node, "name", None), *(getattr(target, "id", None) for target in targets)]
            if name in named:
                assert node.end_lineno is not None
                lines.insert(node.end_lineno - (not isinstance(node, ast.ClassDef)), code)
                file.write_text("".join(lines), "utf-8")
                return
        raise AssertionError(f"{name} isn't in {file}")

    def run(self, *arguments: str, status: int = 0, width: int = 80) -> str:
        """Run Python on the copy."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=os.environ
            | {
                "PYTHONPATH": str(self.directory),
                "XDG_STATE_HOME": str(self.directory / "state"),
                "COLUMNS": str(width),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    def command(self, *arguments: str, status: int = 0, width: int = 80) -> str:
        return self.run("-m", "evergreen_groups", "-q", "--sandbox", *arguments, status=status, width=width)


@pytest.mark.long
def test_the_example_of_an_output_format(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    assert len(copy.put(section("Example: an output format of the report"))) == 2
    listed = copy.command("report", "--format", "markdown")
    assert listed.startswith("- van der Meer, Marijke: $84.35\n  - ")
    assert "  - " not in copy.command("report", "--format", "markdown", "--no-members")
    copy.command("report", "--output", "today.md")
    assert (tmp_path / "today.md").read_text("utf-8") == listed
    copy.command("report", "--split", "library", "--format", "markdown", "--output", "libraries")
    assert (tmp_path / "libraries" / "latest" / "PINE.md").read_text("utf-8").startswith("- van der Meer")
    assert "markdown" in copy.run("-m", "evergreen_groups.cli.manual")
    copy.command("audit", "--format", "markdown", status=2)
    # It goes with a mail, too.
    (tmp_path / "config.toml").write_text(
        '[report]\nformat = "markdown"\nformats = ["markdown"]\n[mail]\nattach = "markdown"\nnames_in_mail = true\n'
        'sender = "ils@example.org"\n[mail.recipients]\n"*" = ["director@example.org"]\n'
    )
    code = """
from pathlib import Path
from evergreen_groups.gateway import Credentials, Gateway
from evergreen_groups.nightly.mailing import messages
from evergreen_groups.report import Criteria, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import reading

settings = reading.load(Path("config.toml"), {})
print(settings.report.format, settings.report.formats)
with Sandbox() as sandbox:
    username, password = sandbox.report_account
    with Gateway(sandbox.url, credentials=Credentials(username=username, password=password)) as gateway:
        report = build_report(gateway, Criteria())
for message in messages(report, settings.mail):
    for part in message.iter_attachments():
        print(part.get_content_type(), part.get_filename())
"""
    settings, attached = copy.run("-c", code).splitlines()
    assert settings == "markdown ('markdown',)"
    assert re.fullmatch(r"text/markdown groups-\d{4}-\d\d-\d\d\.md", attached)


@pytest.mark.long
def test_the_example_of_a_finding(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    assert len(copy.put(section("Example: a finding of the audit"))) == 3
    kind, heading = "member-without-card", "Groups with a member without a card"
    document = json.loads(copy.command("audit", "--format", "json"))
    (found,) = [group for group in document["groups"] if group["kind"] == kind]
    assert found["group"] == 1014
    assert document["kinds"][-1]["title"] == heading
    (reason,) = found["reasons"]
    assert reason.endswith(" has no card")
    listed = copy.command("audit")
    assert f"{heading} (1)\n" in listed
    assert reason in listed
    rows = [line for line in copy.command("audit", "--format", "csv").splitlines() if line.startswith(f"{kind},1014,")]
    assert len(rows) == 4
    page = copy.command("audit", "--format", "html")
    assert page.count(f'<section class="kind" aria-labelledby="{kind}">') == 1
    assert page.count(reason) == 1
    assert f". {heading}\n" in copy.command("audit", "--help")


@pytest.mark.long
def test_the_example_of_a_column(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    assert len(copy.put(section("Example: a column of the report"))) == 1
    copy.command("report", "--output", "today.xlsx")
    header, *rows = openpyxl.load_workbook(tmp_path / "today.xlsx")["Members"].iter_rows(values_only=True)
    names = {(row[header.index("Name")], row[header.index("Family name")]) for row in rows}
    assert ("van der Meer, Marijke", "van der Meer") in names
    header, first, *_ = copy.command("report", "--format", "csv").splitlines()
    assert header.endswith(",collections_since,member_family_name")
    assert first.endswith(",van der Meer")
    document = json.loads(copy.command("report", "--format", "json"))
    assert document["groups"][0]["members"][0]["family_name"] == "van der Meer"
    schema = json.loads(copy.run("-m", "evergreen_groups.render.report.json"))
    jsonschema.validate(document, strict(schema))
    assert schema["$defs"]["Member"]["properties"]["family_name"]["description"] == "Legal family name."
    schema = json.loads(copy.run("-m", "evergreen_groups.render.report.json", "--lines"))
    _about, *groups = lines = [json.loads(line) for line in copy.command("report", "--format", "jsonl").splitlines()]
    for line in lines:
        jsonschema.validate(line, strict(schema))
    assert groups == document["groups"]
    page = copy.command("report", "--format", "html")
    assert "<th>Family name<" in page
    assert "<td>van der Meer" in page
    assert "Family name" in copy.command("report", "--format", "table", width=160)


@pytest.mark.long
def test_the_example_of_a_setting(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    assert len(copy.put(section("Example: a setting"))) == 1
    (tmp_path / "config.toml").write_text('[desk]\nhelp_phone = "555-0123"\n')
    shown = copy.run("-m", "evergreen_groups", "--config", "config.toml", "config", "show")
    assert 'help_phone = "555-0123"' in shown
    assert "The help desk's phone number." in copy.run("-m", "evergreen_groups.settings.reference")
    assert 'help_phone = "555-0100"' in copy.run("-m", "evergreen_groups.settings.toml")
