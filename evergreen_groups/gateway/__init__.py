"""A Python client for the Evergreen ILS: calls over its OpenSRF gateway, sessions, the IDL and pcrud.

>>> from evergreen_groups.gateway import TOKEN, Credentials, Gateway
>>> with Gateway("https://ils.example.org", credentials=Credentials(...)) as gateway:  # doctest: +SKIP
...     gateway.call("open-ils.actor", "open-ils.actor.usergroup.members.retrieve", TOKEN, 6001).value
[5001, 5002, 5003, 5004]
"""

from evergreen_groups.gateway.answer import Result
from evergreen_groups.gateway.client import Gateway
from evergreen_groups.gateway.idl import Class, Idl
from evergreen_groups.gateway.record import Record
from evergreen_groups.gateway.retry import RetryPolicy
from evergreen_groups.gateway.session import TOKEN, Credentials

__all__ = ["TOKEN", "Class", "Credentials", "Gateway", "Idl", "Record", "Result", "RetryPolicy"]
