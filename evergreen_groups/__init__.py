"""Patron groups for the Evergreen library system.

Group fines are for information only. They never block anyone: only a member's own fines do.
"""

from __future__ import annotations

__version__ = "0.1.0"
