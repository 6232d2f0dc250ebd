from .checks import LocatedFinding as LocatedFinding
from .checks import check_configuration as check_configuration
from .checks import run as run
from .finding import Diagnosis as Diagnosis
from .finding import Finding as Finding
from .finding import Subject as Subject
from .finding import Verdict as Verdict
from .machine import STORED as STORED
