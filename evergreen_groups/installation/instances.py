"""Further instances of the web service: a socket and a service for each, and Apache's balancer for all.

The first instance has the plain units. The others follow it: they are started, stopped and reloaded with it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.configured import listen_address
from evergreen_groups.installation.files import data_text, render_file, service_address
from evergreen_groups.settings import Settings

if TYPE_CHECKING:
    from evergreen_groups.installation.machine import Machine

UNITS = Path("/etc/systemd/system")
APACHE_DIRECTORY = Path("/etc/apache2")
BALANCER = APACHE_DIRECTORY / "evergreen-groups-balancer.conf"
BALANCER_MODULES = ("proxy_balancer", "lbmethod_bybusyness")
_BALANCER_SOURCE = "apache/evergreen-groups-balancer.conf"
_PORT_AT_THE_END = re.compile(r"\d+$")
_MEMBERS = re.compile(r'(    BalancerMember "http://[^#\n]*\n)+')


def installed_instances(machine: Machine) -> int:
    """Return the number of instances that are installed, at least 1."""
    return 1 + len(list(machine.below_root(UNITS).glob("evergreen-groups@*.socket")))


def further_files(machine: Machine, instances: int) -> list[tuple[Path, str]]:
    """Return the paths and texts of the files that ``instances`` need besides those of the first."""
    units = [unit for number in range(1, instances) for unit in _units(machine, number)]
    if instances > 1 and machine.below_root(APACHE_DIRECTORY).is_dir():
        units.append((BALANCER, render_balancer(machine, instances)))
    return units


def all_further_files(machine: Machine) -> list[Path]:
    """Return the paths of all files of further instances on the machine."""
    units = machine.below_root(UNITS)
    found = [
        UNITS / file.name for kind in ("service", "socket") for file in sorted(units.glob(f"evergreen-groups@*.{kind}"))
    ]
    return [*found, *([BALANCER] if machine.below_root(BALANCER).exists() else [])]


def _units(machine: Machine, number: int) -> list[tuple[Path, str]]:
    """Return socket and service of an instance. ``number`` is added to the ports of the first one, which is 0."""
    settings = machine.settings or Settings()
    first = listen_address(settings.serve)
    own = _shifted(first, number)
    name = f"evergreen-groups@{own.rpartition(':')[2]}"
    socket = render_file("systemd/evergreen-groups.socket", machine)
    socket = socket.replace(f"ListenStream={first}", f"ListenStream={own}")
    service = render_file("systemd/evergreen-groups.service", machine)
    service = service.replace("evergreen-groups.socket", f"{name}.socket")
    if settings.metrics.listen:
        service = service.replace(
            " -v serve\n", f" -v serve --metrics {_shifted(settings.metrics.listen, number)}\n", 1
        )
    service = service.replace("WantedBy=multi-user.target", "WantedBy=evergreen-groups.service")
    socket = socket.replace("\n\n[Socket]", "\nPartOf=evergreen-groups.socket\n\n[Socket]")
    follow = "PartOf=evergreen-groups.service\nReloadPropagatedFrom=evergreen-groups.service"
    service = service.replace("\n\n[Service]", f"\n{follow}\n\n[Service]")
    return [(UNITS / f"{name}.socket", socket), (UNITS / f"{name}.service", service)]


def _shifted(address: str, number: int) -> str:
    """Return the address with a port that is higher by ``number``."""
    return _PORT_AT_THE_END.sub(lambda port: str(int(port[0]) + number), address)


def render_balancer(machine: Machine, instances: int) -> str:
    """Return Apache's configuration that shares requests among ``instances`` on this machine."""
    text, first = data_text(_BALANCER_SOURCE), service_address(machine.settings)
    example = next(line for line in text.splitlines() if line.startswith("    BalancerMember"))
    default = service_address(None)
    members = [example.replace(default, _shifted(first, number)) + "\n" for number in range(instances)]
    return _MEMBERS.sub(lambda _found: "".join(members), text, count=1)
