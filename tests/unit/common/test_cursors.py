import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.cursors import CursorInvalidError, from_cursor, from_id_cursor, to_cursor, to_id_cursor
from common.ids import new_id


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


class TestIdCursor:
    def test_comes_back_as_the_id_it_was_made_of(self) -> None:
        row_id = new_id("apr")

        assert from_id_cursor(to_id_cursor(row_id)) == row_id
        assert from_id_cursor(None) is None

    @pytest.mark.parametrize(
        "cursor",
        ["", "é", "%%%", to_cursor(7), to_id_cursor("apr_short"), to_id_cursor("x' OR 1=1 --" + "0" * 20)],
    )
    def test_is_refused_unless_it_was_given_out_here(self, cursor: str) -> None:
        with pytest.raises(CursorInvalidError):
            from_id_cursor(cursor)
