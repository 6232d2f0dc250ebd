"""Metrics for Prometheus. They contain no patron data, and only as many series as there are routes, methods and
libraries.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
