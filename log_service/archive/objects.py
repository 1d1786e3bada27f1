"""What is inside an object: one record body a line in order of sequence, as gzip without a time stamp.

The same bodies always give the same content, and its SHA-256 is what the archive is checked by: compressed bytes may
differ between versions of zlib.
"""

import zlib
from collections.abc import Iterable, Mapping

from common.canonical import sha256_hex

LEVEL = 4  # 80 MB/s where level 6 gives 30 MB/s, for 8 % more bytes
_GZIP = 31  # zlib's code for a gzip header and trailer; it writes no time into them


class DamagedObjectError(Exception):
    """These bytes are not one whole gzip member of the expected length."""


def content_of(bodies: Iterable[bytes]) -> bytes:
    """Return newline-delimited JSON: every body followed by a line feed, so no body may hold one."""
    return b"".join([line for body in bodies for line in (body, b"\n")])


def compress(content: bytes) -> bytes:
    """Return `content` as one gzip member."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    return compressor.compress(content) + compressor.flush()


def decompress(data: bytes, *, expected_bytes: int) -> bytes:
    """Return the content, which is exactly `expected_bytes` long; raises `DamagedObjectError`.

    No more than that is ever unpacked, and bytes after the gzip member are refused: other readers would take a second
    member for more records.
    """
    unpacker = zlib.decompressobj(_GZIP)
    try:
        content = unpacker.decompress(data, expected_bytes + 1)
    except zlib.error as error:
        raise DamagedObjectError from error
    if len(content) != expected_bytes or not unpacker.eof or unpacker.unused_data:
        raise DamagedObjectError
    return content


def largest_size(content_bytes: int) -> int:
    """Return how many bytes gzip needs at most for `content_bytes` that do not compress."""
    return content_bytes + content_bytes // 512 + 1024


def lines_by_digest(content: bytes) -> Mapping[str, bytes]:
    """Return each line of `content` under its own SHA-256."""
    return {sha256_hex(line): line for line in content.split(b"\n")[:-1]}
