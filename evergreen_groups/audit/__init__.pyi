from .build import build_audit as build_audit
from .findings import RECALCULABLE as RECALCULABLE
from .findings import Audit as Audit
from .findings import AuditCriteria as AuditCriteria
from .findings import FindingKind as FindingKind
from .findings import GroupFinding as GroupFinding
from .findings import PatronFinding as PatronFinding
from .findings import Reason as Reason
