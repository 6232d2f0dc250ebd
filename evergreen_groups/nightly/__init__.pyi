from .environment import ReportEnvironment as ReportEnvironment
from .file_names import INDEX as INDEX
from .file_names import library_file_names as library_file_names
from .options import ReportOptions as ReportOptions
from .options import Target as Target
from .output import Rendered as Rendered
from .recipients import EVERYTHING as EVERYTHING
from .run import ReportRun as ReportRun
