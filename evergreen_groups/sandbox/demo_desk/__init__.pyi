from .desk import CLIENTS as CLIENTS
from .desk import DemoDesk as DemoDesk
from .desk import Request as Request
from .desk import StaffClients as StaffClients
