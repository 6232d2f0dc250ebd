from .handler import Event as Event
from .handler import EventHandler as EventHandler
from .handler import EventOutcome as EventOutcome
