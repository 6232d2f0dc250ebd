"""The web service: the API, the panel's script, the report's pages and Evergreen's events over HTTP."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
