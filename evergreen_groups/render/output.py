"""The writing of files, under the name it had here."""

from evergreen_groups.files import write_atomically, write_bytes_atomically

__all__ = ["write_atomically", "write_bytes_atomically"]
