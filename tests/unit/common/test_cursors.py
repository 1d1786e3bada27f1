import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.cursors import CursorInvalidError, from_cursor, to_cursor


class TestCursors:
    @given(st.integers(1, 2**63 - 1))
    def test_give_back_the_number(self, number: int) -> None:
        assert from_cursor(to_cursor(number)) == number

    def test_none_is_none(self) -> None:
        assert from_cursor(None) is None

    @pytest.mark.parametrize(
        "cursor",
        ["", "a", "é", "MA", "LTE", "MDE", to_cursor(2**63), to_cursor(10**19), "\x00", "=" * 5, "x" * 5000],
    )
    def test_refuse_what_was_not_given_out(self, cursor: str) -> None:
        with pytest.raises(CursorInvalidError):
            from_cursor(cursor)

    @given(st.text(max_size=40))
    def test_refuse_or_read_any_text(self, cursor: str) -> None:
        try:
            number = from_cursor(cursor)
        except CursorInvalidError:
            return

        assert number is not None
        assert 1 <= number < 2**63
