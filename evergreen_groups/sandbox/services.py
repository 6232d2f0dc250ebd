"""The modules whose methods the sandbox offers; importing one registers its methods."""

from __future__ import annotations

from importlib import import_module

MODULES = ("fielder", "pcrud")


def register() -> None:
    """Register the methods of every service."""
    for name in MODULES:
        import_module(f"evergreen_groups.sandbox.{name}")
