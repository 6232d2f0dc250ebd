"""A Python client for the Evergreen ILS: calls over its OpenSRF gateway, sessions, the IDL and pcrud::

    with Gateway("https://ils.example.org", credentials=credentials) as gateway:
        ids = gateway.call("open-ils.actor", "open-ils.actor.usergroup.members.retrieve", TOKEN, 6001).value
        for patron in gateway.pcrud.search("au", {"usrgroup": 6001, "deleted": "f"}):
            print(patron.family_name, patron.expire_date)

It logs in with the first call that needs a session, and out at the end.
"""

from evergreen_groups.gateway.answer import Result
from evergreen_groups.gateway.client import Gateway
from evergreen_groups.gateway.columns import columns
from evergreen_groups.gateway.idl import Class, Field, Idl, Link
from evergreen_groups.gateway.pcrud import Pcrud
from evergreen_groups.gateway.record import Record
from evergreen_groups.gateway.retry import RetryPolicy
from evergreen_groups.gateway.session import TOKEN, Credentials
from evergreen_groups.gateway.statistics import Statistics

__all__ = [
    "TOKEN",
    "Class",
    "Credentials",
    "Field",
    "Gateway",
    "Idl",
    "Link",
    "Pcrud",
    "Record",
    "Result",
    "RetryPolicy",
    "Statistics",
    "columns",
]
