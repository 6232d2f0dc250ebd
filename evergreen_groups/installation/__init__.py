"""Installing on a machine: units, a crontab, Apache's configuration and SQL, filled in for where the program lives."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
