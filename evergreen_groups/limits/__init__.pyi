from .decisions import decide_all as decide_all
from .limits import LimitFinder as LimitFinder
from .limits import Limits as Limits
from .limits import OneLimit as OneLimit
from .limits import ResolvedLimit as ResolvedLimit
from .reference_data import ReferenceData as ReferenceData
