"""Text, CSV, JSON, HTML and XLSX: a writer for each subject and format."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
