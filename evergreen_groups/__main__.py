"""Run the command as ``python -m evergreen_groups``."""

from __future__ import annotations

from evergreen_groups.cli import main

if __name__ == "__main__":
    main()
