"""The sandbox's gateway over HTTP: the server, the wire format, the IDL file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
