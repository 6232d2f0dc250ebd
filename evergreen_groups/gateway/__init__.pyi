from .address import Address as Address
from .gateway import Gateway as Gateway
from .record import Record as Record
from .record import columns as columns
from .retry import RetryPolicy as RetryPolicy
from .session import TOKEN as TOKEN
from .session import Credentials as Credentials
