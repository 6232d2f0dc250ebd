"""The modules whose methods the sandbox offers; importing one registers its methods."""

from __future__ import annotations

from importlib import import_module

MODULES = (
    "actor_circulation",
    "actor_fines",
    "actor_groups",
    "actor_orgs",
    "actor_patrons",
    "actor_penalties",
    "actor_permissions",
    "actor_search",
    "actor_settings",
    "auth",
    "auth_sessions",
    "billing",
    "fielder",
    "patron_update",
    "pcrud",
)


def register() -> None:
    """Register the methods of every service."""
    for name in MODULES:
        import_module(f"evergreen_groups.sandbox.{name}")
