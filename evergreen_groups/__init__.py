"""Patron groups for the Evergreen library system: who belongs together, and what they owe together.

Group fines are for information only. They never block anyone: only a member's own fines do. ::

    import evergreen_groups as eg

    with eg.connect("https://evergreen.example.org", username="groups_report", password="…") as client:
        group = client.group("20000000001015")
        print(group.group_fines, [member.name for member in group.members])
        plan = client.move(["20000000001037"], to="20000000001015")
        print(plan)  # nothing has been changed yet
        outcome = plan.apply()
        outcome.undo()

``connect`` returns a :class:`Client`. ``Sandbox`` is an Evergreen with sample data, for tests. ``gateway.connect`` is
for programs that need Evergreen and no groups.
"""

from __future__ import annotations

__version__ = "1.0.0"


def __getattr__(name: str) -> object:
    """Find the names of the stub on first use, because most of their modules take long to import."""
    import lazy_loader

    load, listed, _names = lazy_loader.attach_stub(__name__, __file__)
    globals().update(__getattr__=load, __dir__=listed)
    return load(name)


def __dir__() -> list[str]:
    """List the names of the stub."""
    import lazy_loader

    return list(lazy_loader.attach_stub(__name__, __file__)[2])
