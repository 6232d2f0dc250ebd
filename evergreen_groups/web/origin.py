"""Same-origin only: what a browser sends along tells whose page asks."""

from __future__ import annotations

from werkzeug.datastructures import Headers

from evergreen_groups.web.problems import ProblemError


def refuse_other_origins(headers: Headers, origin: str) -> None:
    """Refuse a request that a page of another origin than ``origin`` makes.

    ``Sec-Fetch-Site`` is sent by every browser of today; ``none`` is an address that somebody typed. Programs send
    neither header.

    Raises:
        ProblemError: 403.
    """
    if headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none") or headers.get("Origin", origin) != origin:
        raise ProblemError(403, "This is for pages of the staff client's own origin only.")
