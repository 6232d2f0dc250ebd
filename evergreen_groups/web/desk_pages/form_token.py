"""What shows that a form was made for this very session.

A form of another site, or of another tab that somebody got to stand in this one, doesn't know it. It is a digest of
the session's own token with the user it belongs to: another origin can't read the cookie, so it can't work it out, and
nothing has to be remembered, so that any of several servers can check it, and a restart or the end of the session
needs no care. A digest gives nothing away about the token. The token alone wouldn't do: an answer with it in it would
lend the session to whoever sees the page's source. Beside it, a request that writes has to say that it comes from a
page of the same origin (see :func:`evergreen_groups.web.requests.refuse_other_origins`).
"""

from __future__ import annotations

import hmac
from hashlib import sha256

_LABEL = b"evergreen-groups desk form 1"


def form_token(session_token: str, user: int) -> str:
    """The form's token for a session of a user (``au.id``)."""
    return hmac.new(session_token.encode(), _LABEL + str(user).encode(), sha256).hexdigest()


def is_form_token(given: str, session_token: str, user: int) -> bool:
    """Whether ``given`` is that token; in the same time however much of it is right."""
    return hmac.compare_digest(given.encode(), form_token(session_token, user).encode())
