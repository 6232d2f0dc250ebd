from .check import Checker as Checker
from .check import GroupCheck as GroupCheck
from .details import DetailsReader as DetailsReader
from .details import GroupDetails as GroupDetails
from .summary import GroupSummary as GroupSummary
from .summary import PatronDecision as PatronDecision
from .summary import PatronSummary as PatronSummary
from .summary import SummaryReader as SummaryReader
