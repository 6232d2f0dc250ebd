"""The site's navigation. In the repository, docs/index.md leads to the pages."""

from __future__ import annotations

NAVIGATION = {
    "For everybody": (
        "try-it",
        "The rule <rule>",
        "troubleshooting",
    ),
    "In the library": (
        "desk",
        "For the branch manager <branch-manager>",
        "Letters to families <letters>",
    ),
    "In the server room": (
        "Install the nightly report <install-report>",
        "Install the service and the panel <install-service>",
        "several-servers",
        "permissions",
        "security",
        "operations",
        "monitoring",
        "Upgrade, backup, removal <upgrading>",
        "staff-clients",
        "performance",
    ),
    "In depth": (
        "The report <report>",
        "The audit <audit>",
        "Accidental groups <accidental-groups>",
        "Changes and unclear answers <changes>",
    ),
    "To look up": (
        "Commands <cli>",
        "settings",
        "errors",
        "glossary",
    ),
    "For programmers": (
        "python",
        "gateway",
        "Python reference <python-api>",
        "http-api",
        "http-reference",
    ),
    "To work on it": (
        "architecture",
        "contributing",
        "Tests and checks <testing>",
        "translating",
        "releases",
        "changelog",
        "Security policy <security-policy>",
    ),
}
"""The navigation next to each page: pages by heading, some with a shorter title."""
