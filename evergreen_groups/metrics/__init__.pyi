from .metrics import FAMILIES as FAMILIES
from .metrics import METRICS_CONTENT_TYPE as METRICS_CONTENT_TYPE
from .metrics import ServiceCounters as ServiceCounters
from .metrics import StateCollector as StateCollector
from .metrics import samples_of as samples_of
from .metrics import write_textfile as write_textfile
