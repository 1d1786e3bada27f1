"""Lists a page at a time, everywhere in one way: `limit` and `cursor` go in, `items` and `next_cursor` come back."""

from collections.abc import Callable, Sequence
from typing import Annotated, Final, TypeVar

from fastapi import Query

MAX_PAGE: Final = 200
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="how many items at most")]
Cursor = Annotated[str | None, Query(max_length=64, description="next_cursor of the page before")]
RowT = TypeVar("RowT")


def cut(
    found: Sequence[RowT], limit: int, cursor_of: Callable[[RowT], str]
) -> tuple[Sequence[RowT], str | None]:
    """Return the rows of a page and the cursor of the next one, None on the last; one row more than `limit` was read."""
    shown = found[:limit]
    return shown, cursor_of(shown[-1]) if len(found) > limit else None
