import re

import pytest

from common.contracts.institutions import InstitutionMode
from user_service.api_keys.texts import new_key, visible_prefix


class TestNewKey:
    @pytest.mark.parametrize(("mode", "word"), [("live", "live"), ("sandbox", "test")])
    def test_says_what_it_is_for_and_which_it_is(self, mode: str, word: str) -> None:
        key = new_key(InstitutionMode(mode))

        assert re.fullmatch(rf"ask_{word}_{key.key_id[-8:]}_[A-Za-z0-9_-]{{43}}", key.text)
        assert key.prefix == f"ask_{word}_{key.key_id[-8:]}"

    def test_is_never_the_same(self) -> None:
        keys = [new_key(InstitutionMode.LIVE) for _ in range(1000)]

        assert len({key.text[18:] for key in keys}) == len({key.key_id for key in keys}) == 1000

    def test_is_not_shown_when_it_is_printed(self) -> None:
        key = new_key(InstitutionMode.LIVE)

        assert key.text not in repr(key)


class TestVisiblePrefix:
    @pytest.mark.parametrize(
        "text",
        [
            "0123456789abcdef0123456789abcdef",
            "ask_live_not-one-of-ours-but-long-enough-for-one",
            "ask_test_0123abcd_" + "x" * 42,
        ],
    )
    def test_shows_little_of_a_key_that_was_made_elsewhere(self, text: str) -> None:
        assert visible_prefix(text) == text[:4]
