"""Patron groups for the Evergreen library system.

Group fines are for information only: nobody is blocked for what the rest of the family owes.
"""

from __future__ import annotations

__version__ = "0.1.0"
