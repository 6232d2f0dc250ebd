"""The first configuration file: what was asked for, as TOML that a person can go on with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from evergreen_groups.settings.sections import GatewaySettings, MailSettings, PolicySettings, ReportSettings, Settings

_HEAD = """\
# Configuration of evergreen-groups, begun by "evergreen-groups init". Every other setting is explained in the example
# that comes with the package (config/evergreen-groups.toml); "evergreen-groups doctor" says whether all is right.
"""


@dataclass(frozen=True, slots=True)
class FirstConfiguration:
    """What a new configuration file says; settings that are None or have their defaults aren't written."""

    gateway: GatewaySettings
    policy: PolicySettings
    report: ReportSettings
    mail: MailSettings

    @property
    def settings(self) -> Settings:
        """The settings that the file stands for."""
        return Settings(gateway=self.gateway, policy=self.policy, report=self.report, mail=self.mail)

    def as_toml(self) -> str:
        """The text of the file.

        >>> gateway = GatewaySettings(url="https://evergreen.example.org", username="groups_report")
        >>> first = FirstConfiguration(gateway, PolicySettings(), ReportSettings(), MailSettings())
        >>> [line for line in first.as_toml().splitlines() if line.startswith("url")]
        ['url = "https://evergreen.example.org"']
        """
        parts = (self._gateway(), self._policy(), self._report(), self._mail())
        return "\n".join([_HEAD, *("\n".join([*part, ""]) for part in (list(lines) for lines in parts) if part)])

    def _gateway(self) -> Iterator[str]:
        yield "[gateway]"
        yield f"url = {_text(self.gateway.url)}"
        yield f"username = {_text(self.gateway.username)}"
        if self.gateway.password_file is not None:
            yield f"password_file = {_text(self.gateway.password_file)}"
        if self.gateway.workstation is not None:
            yield f"workstation = {_text(self.gateway.workstation)}"
        if self.gateway.ca_bundle is not None:
            yield f"ca_bundle = {_text(self.gateway.ca_bundle)}"
        if self.gateway.allow_plain_http:
            yield "allow_plain_http = true"

    def _policy(self) -> Iterator[str]:
        yield "[policy]"
        yield """# The limit of one person's own fines, "none", or "ils" for the ILS's own."""
        limit = self.policy.limit
        yield f"limit = {_text(limit or 'none') if limit in (None, 'ils') else limit}"

    def _report(self) -> Iterator[str]:
        yield "[report]"
        yield "# Groups that together owe this much or more."
        yield f"min_total = {self.report.min_total}"
        if self.report.orgs:
            yield f"orgs = [{', '.join(_text(name) for name in self.report.orgs)}]"

    def _mail(self) -> Iterator[str]:
        mail = self.mail
        if mail.host is None:
            return
        yield "[mail]"
        yield "# Used by runs with --mail. No names of patrons are in a mail unless names_in_mail = true."
        yield f"host = {_text(mail.host)}"
        if mail.port is not None:
            yield f"port = {mail.port}"
        yield f"security = {_text(mail.security)}"
        if mail.ca_bundle is not None:
            yield f"ca_bundle = {_text(mail.ca_bundle)}"
        if mail.username is not None:
            yield f"username = {_text(mail.username)}"
        if mail.password_file is not None:
            yield f"password_file = {_text(mail.password_file)}"
        yield f"sender = {_text(mail.sender)}"
        yield ""
        yield "# Short names of libraries or systems with their addresses; * is the whole report."
        yield "[mail.recipients]"
        for name, addresses in mail.recipients:
            yield f"{_text(name)} = [{', '.join(_text(address) for address in addresses)}]"


def _text(value: object) -> str:
    """A TOML string: JSON's are, but for one character that TOML wants escaped as well."""
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
