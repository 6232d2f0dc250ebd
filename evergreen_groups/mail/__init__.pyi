from .mailer import Delivery as Delivery
from .mailer import HeldMails as HeldMails
from .mailer import Mailer as Mailer
from .mailer import Outbox as Outbox
from .message import Attachment as Attachment
from .message import Letter as Letter
from .message import Mail as Mail
from .message import build_message as build_message
