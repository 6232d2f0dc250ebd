"""The web service: the hooks over HTTP, for the staff client, for other systems and for events from the ILS."""

from evergreen_groups.web.app import PREFIX, close, create_app

__all__ = ["PREFIX", "close", "create_app"]
