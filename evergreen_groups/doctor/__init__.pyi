from .checks import run as run
from .finding import Diagnosis as Diagnosis
from .finding import Finding as Finding
from .finding import Subject as Subject
from .finding import Verdict as Verdict
from .offline import LocatedFinding as LocatedFinding
from .offline import check_configuration as check_configuration
