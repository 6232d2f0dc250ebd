from .frames import Frame as Frame
from .frames import QueryError as QueryError
from .frames import Source as Source
from .frames import quoted as quoted
from .search import Search as Search
from .search import count as count
from .search import run_search as run_search
from .where import subquery as subquery
