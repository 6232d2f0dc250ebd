"""The report by mail: who gets which part of it, the messages, the server that takes them, and those kept for later."""

from evergreen_groups.mail.delivery import Delivery, Mailer
from evergreen_groups.mail.message import Attachment, Letter, build_message
from evergreen_groups.mail.recipients import addressed
from evergreen_groups.mail.spool import Spool

__all__ = ["Attachment", "Delivery", "Letter", "Mailer", "Spool", "addressed", "build_message"]
