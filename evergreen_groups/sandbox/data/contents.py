"""What a sandbox's database begins with: a dataset and, where that is wanted, a population."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from functools import cached_property
from importlib import resources
from operator import attrgetter
from pathlib import Path

from evergreen_groups.sandbox.data import dataset
from evergreen_groups.sandbox.data.population import Population
from evergreen_groups.sandbox.data.portions import LISTED
from evergreen_groups.sandbox.database import schema_statements

LARGE = 100_000
"""From so many patrons on, the families built in are those of one of ten systems with sixty branches."""
_BYTES_EACH = 700


class Contents:
    """A dataset's rows and ``patrons`` more people, written step by step.

    ``dataset_file`` is a JSON file of rows (None: the families built in). Of the people, ``listed_groups`` groups of
    two and more owe 25.00 and more together; None: as many as is usual for so many people.

    Raises:
        ValueError: more listed groups than one for 25 patrons.
    """

    def __init__(self, dataset_file: Path | None, patrons: int = 0, listed_groups: int | None = None) -> None:
        self._dataset_file = dataset_file
        self._patrons = patrons
        self._listed = round(patrons * LISTED) if listed_groups is None else listed_groups
        self._population = Population(patrons, self._listed)

    @property
    def steps(self) -> int:
        """How many steps there are: the dataset, each portion of the people, and what follows from all of them."""
        return len(self._population) + 2 if self._patrons else 1

    @property
    def size(self) -> int:
        """About how many bytes it will take on disk, more rather than less."""
        return self._patrons * _BYTES_EACH

    @cached_property
    def key(self) -> str:
        """A text that is another one wherever something else would be written, by other source of ours as well."""
        parts = [str(self._patrons), str(self._listed)]
        if self._dataset_file is not None:
            parts.append(json.dumps(dataset.read(self._dataset_file)))
        folder = resources.files(__package__)
        sources = sorted((item for item in folder.iterdir() if item.is_file()), key=attrgetter("name"))
        parts += [item.read_text(encoding="utf-8") for item in sources]
        parts += schema_statements(indexes=False) + schema_statements(indexes=True)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """A name for a file that holds just this."""
        return f"{self._kind}{self.key}"

    @property
    def _kind(self) -> str:
        return f"sandbox-{self._patrons}-{self._listed}-"

    def remove_former(self, directory: Path) -> None:
        """Remove the files that an earlier release has made for as many people, which nobody can use any more."""
        for path in directory.glob(f"{self._kind}*"):
            if not path.name.startswith(self.name):
                path.unlink(missing_ok=True)

    def write(self, connection: sqlite3.Connection, step: int) -> None:
        """Write one step, from 0 on; those before it are there already.

        Raises:
            ConfigurationError: the dataset can't be read, or a row doesn't fit its class.
        """
        if step == 0:
            dataset.load(connection, self._dataset_file)
            if self._dataset_file is None and self._patrons >= LARGE:
                dataset.fill(connection, dataset.consortium())
        elif step <= len(self._population):
            self._population.write(connection, step - 1)
        else:
            self._population.write_passwords(connection)
            dataset.set_sequences(connection, {})
