"""The files of ``config/``, which the wheel carries as ``evergreen_groups/data``.

They are real files for the place that the documentation names (``/opt/evergreen-groups``), to be read and copied as
they are; :mod:`evergreen_groups.installation.rendering` puts another machine's paths in the place of those.
"""

from __future__ import annotations

from pathlib import Path

from evergreen_groups.errors import ConfigurationError

_PACKAGE = Path(__file__).resolve().parent.parent
_PLACES = (_PACKAGE / "data", _PACKAGE.parent / "config")
"""Where they are in an installed package, and in a checkout."""


def data_file(name: str) -> Path:
    """Where a file is, by its name in ``config/`` (``systemd/evergreen-groups.service``).

    Raises:
        ConfigurationError: the package was installed without it.
    """
    found = next((place / name for place in _PLACES if (place / name).is_file()), None)
    if found is None:
        raise ConfigurationError(
            "{name} didn't come with this installation of the program",
            advice="install it anew, from a whole wheel or checkout",
            code="data-file-missing",
            values={"name": name},
        )
    return found


def data_text(name: str) -> str:
    """What is in such a file; raises what :func:`data_file` does.

    >>> data_text("systemd/evergreen-groups-report.timer").splitlines()[-1]
    'WantedBy=timers.target'
    """
    return data_file(name).read_text(encoding="utf-8")
