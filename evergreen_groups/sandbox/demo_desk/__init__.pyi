from .clients import StaffClients as StaffClients
from .desk import CLIENTS as CLIENTS
from .desk import DemoDesk as DemoDesk
from .http import Request as Request
