"""Which certificates of servers are accepted: the same on every Python, and no fewer than by browsers and curl.

From 3.13 on, Python refuses a certificate that breaks RFC 5280 in form (``VERIFY_X509_STRICT``): above all an
authority without the extension *key usage*, which is what ``openssl req -x509`` makes unless told otherwise, and so
most self-signed certificates and authorities of libraries. And only from 3.13 on is it content with a server's own
certificate in place of its authority's (``VERIFY_X509_PARTIAL_CHAIN``). Who vouches for a certificate, for whom it
is and until when are looked at all the same.
"""

from __future__ import annotations

import ssl
from pathlib import Path


def forgive_form(context: ssl.SSLContext) -> ssl.SSLContext:
    """Have ``context`` accept certificates that aren't quite as RFC 5280 wants them, and return it.

    Each certificate that it trusts is trusted by itself, whether it is an authority's or a server's own.
    """
    context.verify_flags = (context.verify_flags & ~ssl.VERIFY_X509_STRICT) | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def verifying_context(bundle: Path | str | None) -> ssl.SSLContext:
    """A context that trusts the certificates in the file ``bundle`` (PEM), or else those that the system trusts.

    Raises:
        OSError: the file can't be read, or (ssl.SSLError) holds no certificate.
    """
    return forgive_form(ssl.create_default_context(cafile=bundle))
