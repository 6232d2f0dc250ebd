"""Which files systemd hands to a unit's user: the configuration, and the secrets that it names and that are there."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.installation.machine import closed_to_others, refuse_unusual
from evergreen_groups.settings import Settings, declared, secret_of, value_of

if TYPE_CHECKING:
    from evergreen_groups.installation.machine import Machine
    from evergreen_groups.settings import Setting

_FOR_THE_SERVICE_ALONE = frozenset({"events", "redis", "serve", "metrics"})
_FOR_THE_REPORT_ALONE = frozenset({"mail"})
_CERTIFICATES = "ca_bundle"


@dataclass(frozen=True, slots=True)
class HandedFile:
    """A file that a unit's user gets to read: the credential's name, the file, and the variable that names it there.

    ``is_set`` says whether the configuration names the very file.
    """

    credential: str
    file: Path
    variable: str
    is_set: bool = True

    @property
    def lines(self) -> tuple[str, str]:
        """What a unit needs for it."""
        return (
            f"LoadCredential={self.credential}:{self.file}",
            f"Environment={self.variable}=%d/{self.credential}",
        )


def files_for_report(machine: Machine, settings: Settings) -> list[HandedFile]:
    """What the nightly report reads: certificates, the password, and that of mail and database where they have one.

    Raises:
        ConfigurationError: there is no password, or a file that is set isn't there.
    """
    left_out = _FOR_THE_SERVICE_ALONE if settings.mail.host else _FOR_THE_SERVICE_ALONE | _FOR_THE_REPORT_ALONE
    found = list(_files(machine, settings, left_out))
    if not any(handed.credential == "password" for handed in found):
        raise ConfigurationError(
            "there is no file with the account's password",
            advice="write it into {file}, alone on one line, with chmod 600",
            setting="gateway.password_file",
            code="unit-without-password",
            values={"file": machine.config_file.with_name("password")},
        )
    return found


def files_for_service(machine: Machine, settings: Settings) -> list[HandedFile]:
    """What the web service reads: with a secret for events that, and the password with which their work is done.

    Raises:
        ConfigurationError: a file that is set isn't there.
    """
    found = list(_files(machine, settings, _FOR_THE_REPORT_ALONE))
    takes_events = any(handed.credential == "events_secret" for handed in found)
    return [handed for handed in found if takes_events or handed.credential != "password"]


def configuration_for_unit(machine: Machine) -> HandedFile:
    """The configuration itself."""
    return HandedFile("config.toml", machine.config_file, "EVERGREEN_GROUPS_CONFIG")


def _files(machine: Machine, settings: Settings, left_out: Collection[str]) -> Iterator[HandedFile]:
    for setting in declared(Settings):
        if setting.section in left_out:
            continue
        chosen = value_of(settings, setting)
        if setting.secret is not None:
            yield from _secret_file(machine, setting, chosen, is_needed=_is_needed(setting, settings))
        elif setting.name == _CERTIFICATES and chosen and closed_to_others(machine.below_root(chosen)) is not None:
            yield _handed(machine, setting, f"{setting.section}_{setting.name}", chosen)


def _is_needed(setting: Setting, settings: Settings) -> bool:
    """Whether something else in the section says that there is a secret: an account, a server."""
    opens = {"gateway": "username", "mail": "username", "state": "database", "redis": "url"}.get(setting.section)
    return opens is None or getattr(getattr(settings, setting.section), opens) is not None


def _secret_file(machine: Machine, setting: Setting, chosen: Path | None, *, is_needed: bool) -> Iterator[HandedFile]:
    """The file that is set, else one of the usual name beside the configuration, if that is there."""
    credential = secret_of(setting).credential
    if chosen is not None:
        yield _handed(machine, setting, credential, chosen)
        return
    if not is_needed:
        return
    usual = machine.config_file.with_name(Path(str(setting.example)).name)
    if machine.below_root(usual).is_file():
        yield _handed(machine, setting, credential, usual, is_set=False)


def _handed(machine: Machine, setting: Setting, credential: str, file: Path, *, is_set: bool = True) -> HandedFile:
    refuse_unusual(file)
    if not machine.below_root(file).is_file():
        raise ConfigurationError(
            "{file}, which {setting} names, isn't there, and so no unit would start",
            advice="make the file, or take the setting out",
            setting=setting.key,
            code="unit-file-missing",
            values={"file": file, "setting": f"[{setting.section}] {setting.name}"},
        )
    return HandedFile(credential, file, setting.variable, is_set)
