"""A Python client for the Evergreen ILS: calls over its OpenSRF gateway, sessions, the IDL and pcrud::

    with connect("https://evergreen.example.org", username="…", password="…") as gateway:
        ids = gateway.call("open-ils.actor", "open-ils.actor.usergroup.members.retrieve", TOKEN, 6001).value
        for patron in gateway.pcrud.search("au", {"usrgroup": 6001, "deleted": "f"}):
            print(patron.family_name, patron.expire_date)

The first call that needs a session logs in; closing the gateway logs out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
