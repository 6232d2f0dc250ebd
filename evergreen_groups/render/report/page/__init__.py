"""The report as one HTML file that needs nothing else, and the index of a report by library."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
