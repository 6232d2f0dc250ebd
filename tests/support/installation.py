"""An installation for the doctor: configuration, password and state in a temporary directory."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from support.gateways import PASSWORD

from evergreen_groups.doctor import Diagnosis, Finding, Subject, Verdict, run


@dataclass
class Installation:
    """A configuration file, a password file and a state directory, all valid at first."""

    directory: Path
    url: str
    username: str = "consortium_staff"
    more: str = ""
    changes: bool = False
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.config = self.directory / "config.toml"
        self.password = self.directory / "password"
        self.state = self.directory / "state"
        self.state.mkdir(mode=0o700)
        self.password.write_text(PASSWORD + "\n")
        self.password.chmod(0o600)
        self.environ = {"STATE_DIRECTORY": str(self.state), "HOME": str(self.directory)}

    def write(self) -> Path:
        gateway = {"url": self.url, "username": self.username, "password_file": self.password}
        lines = [f'{name} = "{value}"\n' for name, value in gateway.items()]
        self.config.write_text("[gateway]\n" + "".join(lines) + self.more)
        self.config.chmod(0o600)
        return self.config

    def examined(self, only: Collection[str] = ()) -> Diagnosis:
        if not self.config.exists():
            self.write()
        with Subject(self.config, self.environ, changes=self.changes) as subject:
            return run(subject, only=only)


def only(diagnosis: Diagnosis, *verdicts: Verdict) -> list[Finding]:
    return [finding for finding in diagnosis.findings if finding.verdict in verdicts]


def said(finding: Finding) -> str:
    return f"{finding.check}: {finding.found} -> {finding.advice}"
