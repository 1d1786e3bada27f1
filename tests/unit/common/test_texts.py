import pytest

from common.texts import one_line


class TestOneLine:
    @pytest.mark.parametrize(
        ("sent", "kept"),
        [
            ("Mozilla/5.0 (X11)", "Mozilla/5.0 (X11)"),
            ("a\r\nX-Evil: 1", "a X-Evil: 1"),
            ("a\x00b\x1b[31mc", "a b [31mc"),
            ("a\u202eb\u2028c", "a b c"),
            ("a\xa0\xadb", "a b"),
            ("  \t ", ""),
            ("", ""),
        ],
    )
    def test_keeps_what_can_be_shown(self, sent: str, kept: str) -> None:
        assert one_line(sent) == kept
