import pytest

from user_service.mailed_tokens.texts import token_id_of, token_text

KEY, OTHER_KEY = b"k" * 32, b"o" * 32


class TestTokenIdOf:
    def test_finds_the_id_in_our_own_text(self) -> None:
        assert token_id_of(KEY, token_text(KEY, "mtk_1")) == "mtk_1"

    def test_takes_no_text_of_another_key(self) -> None:
        assert token_id_of(KEY, token_text(OTHER_KEY, "mtk_1")) is None

    def test_takes_no_other_spelling(self) -> None:
        text = token_text(KEY, "mtk_1")

        for spelling in (text.upper(), text + "0", text[:-1], text + " ", " " + text, text + "\n"):
            assert token_id_of(KEY, spelling) is None

    @pytest.mark.parametrize("text", ["", ".", "mtk_1", "mtk_1.", "\ud800.x", "é.é", "a.b.c"])
    def test_takes_nothing_else(self, text: str) -> None:
        assert token_id_of(KEY, text) is None
