"""TLS contexts that accept the same certificates on every Python version, and at least those browsers and curl accept.

Python 3.13 changed two defaults. It refuses certificates that deviate from RFC 5280 (``VERIFY_X509_STRICT``), like
authorities without the *key usage* extension. ``openssl req -x509`` creates those by default, so most self-signed
certificates in libraries would fail. It also trusts a server's own certificate in place of its authority's
(``VERIFY_X509_PARTIAL_CHAIN``), which older versions don't. Issuer, host name and expiry are always checked.
"""

from __future__ import annotations

import ssl
from pathlib import Path


def relax_verification(context: ssl.SSLContext) -> ssl.SSLContext:
    """Turn off strict RFC 5280 checks, trust server certificates without their authority, and return ``context``."""
    context.verify_flags = (context.verify_flags & ~ssl.VERIFY_X509_STRICT) | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def verifying_context(bundle: Path | str | None) -> ssl.SSLContext:
    """Return a context that trusts the certificates in the PEM file ``bundle``, or the system's if it is None.

    Raise OSError if the file can't be read, or (ssl.SSLError) contains no certificate.
    """
    return relax_verification(ssl.create_default_context(cafile=bundle))
