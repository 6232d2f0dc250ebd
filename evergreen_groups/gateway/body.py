"""The body of an HTTP answer, read and unpacked portion by portion, and given up as soon as it is too large.

A few kilobytes can unpack to gigabytes, and packed twice to more than any machine has. So nothing is unpacked further
than to the limit, and what is packed in another way than asked for is refused.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import urllib3.exceptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import urllib3

ACCEPTED = "gzip"
"""What a request says about packing."""

_PORTION = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS


class TooLargeError(Exception):
    """The body is larger than it may be."""


def read(response: urllib3.HTTPResponse, limit: int) -> bytes:
    """The whole body, unpacked: ``limit`` bytes of it at most.

    Raises:
        TooLargeError: there is more.
        DecodeError: it is packed otherwise than asked for, or what it is packed in is broken.
    """
    body = bytearray()
    for portion in _unpacked(response, limit):
        body += portion
        if len(body) > limit:
            raise TooLargeError
    return bytes(body)


def _unpacked(response: urllib3.HTTPResponse, limit: int) -> Iterator[bytes]:
    packing = response.headers.get("Content-Encoding", "").strip().lower()
    if packing not in ("", "identity", "gzip", "x-gzip"):
        raise urllib3.exceptions.DecodeError("packed in another way than asked for")
    portions = iter(lambda: response.read(_PORTION, decode_content=False), b"")
    if not packing.endswith("gzip"):
        yield from portions
        return
    unpack = None
    for packed in portions:
        while packed:
            unpack = unpack or zlib.decompressobj(_GZIP)
            try:
                yield unpack.decompress(packed, limit + 1)
            except zlib.error as error:
                raise urllib3.exceptions.DecodeError("broken packing") from error
            packed, unpack = unpack.unused_data, None if unpack.eof else unpack  # noqa: PLW2901
    if unpack is not None:
        raise urllib3.exceptions.DecodeError("the packing ends in the middle")
