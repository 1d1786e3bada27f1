import hashlib

import pytest

from common.canonical import canonical_bytes, sha256_hex


class TestCanonicalBytes:
    @pytest.mark.parametrize(
        ("value", "canonical"),
        [
            ({"b": 1, "a": [1.0, 0.1, True, None]}, b'{"a":[1.0,0.1,true,null],"b":1}'),
            ({"é": "Zoë", "e": "\n"}, '{"e":"\\n","é":"Zoë"}'.encode()),
            ({"B": 1, "a": 2}, b'{"B":1,"a":2}'),
            ([], b"[]"),
        ],
    )
    def test_are_sorted_and_compact(self, value: object, canonical: bytes) -> None:
        assert canonical_bytes(value) == canonical

    def test_are_the_same_in_any_order(self) -> None:
        assert canonical_bytes({"a": {"x": 1, "y": 2}, "b": 3}) == canonical_bytes(
            {"b": 3, "a": {"y": 2, "x": 1}}
        )


class TestSha256Hex:
    def test_is_the_digest_in_lower_case(self) -> None:
        assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        assert sha256_hex(b"x") == hashlib.sha256(b"x").hexdigest()
