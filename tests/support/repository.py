"""The repository's root directory."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
