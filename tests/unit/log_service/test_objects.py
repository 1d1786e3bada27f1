import gzip
import zlib

import pytest

from common.canonical import sha256_hex
from log_service.archive.objects import (
    DamagedObjectError,
    compress,
    content_of,
    decompress,
    largest_size,
    lines_by_digest,
)

BODIES = [b'{"a":1}', b'{"b":"\xc3\xa9"}', b'{"c":[]}']
CONTENT = b'{"a":1}\n{"b":"\xc3\xa9"}\n{"c":[]}\n'


class TestContentOf:
    def test_is_one_body_a_line(self) -> None:
        assert content_of(BODIES) == CONTENT

    def test_is_empty_for_no_bodies(self) -> None:
        assert content_of([]) == b""


class TestCompress:
    def test_gives_the_same_bytes_for_the_same_content(self) -> None:
        assert compress(CONTENT) == compress(bytes(bytearray(CONTENT)))

    def test_writes_no_time(self) -> None:
        assert compress(CONTENT)[4:8] == bytes(4)

    def test_is_read_by_any_gzip(self) -> None:
        assert gzip.decompress(compress(CONTENT)) == CONTENT

    def test_never_needs_more_than_the_largest_size(self) -> None:
        noise = b"".join(bytes.fromhex(sha256_hex(str(n).encode())) for n in range(10_000))

        assert len(noise) < len(compress(noise)) <= largest_size(len(noise))


class TestDecompress:
    def test_returns_the_content(self) -> None:
        assert decompress(compress(CONTENT), expected_bytes=len(CONTENT)) == CONTENT

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"no gzip at all", id="no gzip"),
            pytest.param(compress(CONTENT)[:-1], id="cut in the trailer"),
            pytest.param(compress(CONTENT)[:20], id="cut in the content"),
            pytest.param(compress(CONTENT) + compress(b"more\n"), id="a second member"),
            pytest.param(compress(CONTENT) + b"x", id="something behind it"),
            pytest.param(compress(CONTENT[:-1]), id="shorter"),
            pytest.param(compress(CONTENT + b"x"), id="longer"),
            pytest.param(zlib.compress(CONTENT), id="zlib without gzip"),
        ],
    )
    def test_refuses_what_is_not_exactly_one_member(self, data: bytes) -> None:
        with pytest.raises(DamagedObjectError):
            decompress(data, expected_bytes=len(CONTENT))

    def test_unpacks_no_more_than_expected_of_a_bomb(self) -> None:
        bomb = compress(bytes(50_000_000))

        with pytest.raises(DamagedObjectError):
            decompress(bomb, expected_bytes=10)

    def test_notices_a_changed_byte(self) -> None:
        data = bytearray(compress(CONTENT))
        data[-6] ^= 1  # inside the check sum

        with pytest.raises(DamagedObjectError):
            decompress(bytes(data), expected_bytes=len(CONTENT))


class TestLinesByDigest:
    def test_finds_each_line_by_its_digest(self) -> None:
        lines = lines_by_digest(CONTENT)

        assert [lines[sha256_hex(body)] for body in BODIES] == BODIES
        assert len(lines) == 3

    def test_is_empty_for_no_content(self) -> None:
        assert lines_by_digest(b"") == {}
