from .library_index import IndexedLibrary as IndexedLibrary
from .library_index import write_index as write_index
from .page import write_page as write_page
from .page import write_parts as write_parts
