"""Installation on a machine: systemd units, a cron job, Apache's configuration and SQL, adapted to its paths."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
