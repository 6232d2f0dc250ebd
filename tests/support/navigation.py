"""The site's navigation. In the repository, docs/index.md leads to the pages."""

from __future__ import annotations

NAVIGATION = {
    "For everybody": ("try-it", "The rule <rule>", "troubleshooting", "glossary"),
    "In the library": (
        *("desk", "For the branch manager <branch-manager>", "The report <report>"),
        "Letters to families <letters>",
    ),
    "In the server room": (
        *("install", "permissions", "security", "Monitoring <monitoring>", "Data, backup, upgrade <upgrading>"),
        *("Performance <performance>", "The audit <audit>", "Releases and staff clients <releases>"),
    ),
    "For programmers": ("python", "gateway", "http-api", "architecture"),
    "Reference": ("Commands <cli>", "settings", "errors", "http-reference", "Python reference <python-api>"),
}
"""The navigation next to each page: pages by heading, some with a shorter title. The index leads to the other pages."""


def in_navigation() -> list[str]:
    """Return the names of the pages."""
    return [entry.rpartition("<")[2].rstrip(">") for entries in NAVIGATION.values() for entry in entries]
