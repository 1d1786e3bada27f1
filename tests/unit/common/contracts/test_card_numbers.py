import random
import time
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.contracts.card_numbers import holds_card_number, is_card_number, may_hold_card_number

VISA = "4111111111111111"
CARDS = {
    "visa": VISA,
    "visa of 13": "4222222222222",
    "visa of 19": "4000000000000000006",
    "mastercard": "5555555555554444",
    "mastercard from 2": "2223003122003222",
    "american express": "378282246310005",
    "diners": "30569309025904",
    "diners 36": "36148900647913",
    "discover": "6011111111111117",
    "jcb": "3530111333300000",
    "unionpay": "6200000000000005",
    "maestro": "6759649826438453",
    "mir": "2200000000000004",
}


def with_check_digit(digits: str) -> str:
    return next(f"{digits}{last}" for last in range(10) if _adds_up(f"{digits}{last}"))


def _adds_up(digits: str) -> bool:
    total = 0
    for position, character in enumerate(reversed(digits)):
        value = int(character) * (1 + position % 2)
        total += value // 10 + value % 10
    return total % 10 == 0


class TestCardNumbers:
    @pytest.mark.parametrize("number", CARDS.values(), ids=CARDS)
    def test_of_every_scheme_are_known(self, number: str) -> None:
        assert is_card_number(number)

    @pytest.mark.parametrize("number", CARDS.values(), ids=CARDS)
    def test_add_up(self, number: str) -> None:
        for wrong in range(1, 10):
            changed = number[:-1] + str((int(number[-1]) + wrong) % 10)

            assert not is_card_number(changed)

    @pytest.mark.parametrize(
        "digits",
        [
            "411111111111",
            "41111111111111111111",
            "",
            "1" * 16,
            "0" * 16,
            "9999999999999995",
            "٤" * 16,
            "4111x111",
        ],
    )
    def test_are_not_whatever_else_is_a_number(self, digits: str) -> None:
        assert not is_card_number(digits)

    @given(st.from_regex(r"4[0-9]{14}", fullmatch=True))
    def test_are_all_that_begin_like_one_and_add_up(self, digits: str) -> None:
        assert is_card_number(with_check_digit(digits))


class TestTexts:
    @pytest.mark.parametrize(
        "text",
        [
            VISA, f" {VISA}", "4111 1111 1111 1111", "4111-1111-1111-1111", "4111.1111.1111.1111", "4111_1111_1111_1111",
            "4111 - 1111 / 1111 1111", "4111\u00a01111\u00a01111\u00a01111", "4111–1111–1111–1111", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
            "４１１１１１１１１１１１１１１１", "٤١١١١١١١١١١١١١١١", f"tok_{VISA}", f"card{VISA}", f"cc{VISA}", f"{VISA}x", f"order-{VISA}-2",
            f"{VISA}@example.org", f"paid with {VISA}, thanks", "my card 4111 1111 1111 1111 12/29 123", "12 4111 1111 1111 1111",
            "3782 822463 10005", "3782-822463-10005 amex", f"Mozilla/5.0 ({VISA})", f'{{"pan":"{VISA}"}}', f"{VISA}|12|29|123",
            "41111111 11111111", "4222 2222 2222 2", "4000 0000 0000 0000 006", f"é{VISA}é", f"DE{VISA}",
            "4111,1111,1111,1111", "4111|1111|1111|1111", "4111:1111:1111:1111", "4111*1111*1111*1111", "4111+1111+1111+1111", "4111·1111·1111·1111",
            "4111=1111=1111=1111", "4111;1111;1111;1111", "4111, 1111, 1111, 1111", "pan (4111) (1111) (1111) (1111)", "[4111][1111][1111][1111]", '4111"1111"1111\\1111',
            "card 4111    1111    1111    1111", f"card 4111{' ' * 40}1111 1111 1111", "card 4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 12/29", "1 4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 is it",
            "card 4.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1", "card 41 11 11 11 11 11 11 11", "12/29 41 11 11 11 11 11 11 11", "amex 37 82 82 24 63 10 00 5", "card 3782:822463:10005",
            "x4111 1111 1111 1111", "4111 1111 1111 1111x", "4111 1111 1111 1111EUR", "card4111-1111-1111-1111exp1229", "tok:411111:1111111111", "é4111 1111 1111 1111é",
            "④①①①①①①①①①①①①①①①", "⁴¹¹¹ ¹¹¹¹ ¹¹¹¹ ¹¹¹¹", "₄₁₁₁₁₁₁₁₁₁₁₁₁₁₁₁", "𝟒𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏", "❹❶❶❶❶❶❶❶❶❶❶❶❶❶❶❶", "㊶⑪⑪⑪⑪⑪⑪⑪", "４１１１－１１１１－１１１１－１１１１", "⑷⑴⑴⑴⑴⑴⑴⑴⑴⑴⑴⑴⑴⑴⑴⑴",
            "550e8400-e29b-41d4-a716-446655440000 4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00, 4111 1111 1111 1111",
        ],
    )  # fmt: skip
    def test_that_hold_one_are_found(self, text: str) -> None:
        assert holds_card_number(text)
        assert may_hold_card_number(text.encode())

    @pytest.mark.parametrize("number", CARDS.values(), ids=CARDS)
    @pytest.mark.parametrize("frame", ["{}", "tok_{}", "a {} b", "{}@example.org", "ref:{};"])
    def test_of_every_scheme_are_found(self, number: str, frame: str) -> None:
        assert holds_card_number(frame.format(number))
        assert may_hold_card_number(frame.format(number).encode())

    @pytest.mark.parametrize(
        "text",
        [
            "", "order-20261102-7781", "4111111111111112", "4111 1111", "1767225600000", "1767225600000000",
            "1767225600000000000", "20261102140322", "2026-11-02 14:03:22", "2026-11-02T14:03:22.123456+01:00", "411111****1111",
            "1" * 64, "1584738294738294739", "DE89370400440532013000", "BE68 5390 0754 7034", "NO9386011117947", "GB29NWBK60161331926819",
            "550e8400-e29b-41d4-a716-446655440000", "4111111111111111aaaaaaaaaaaaaaaa", "d41d8cd98f00b204e9800998ecf8427e",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.6099.109 Safari/537.36",
            "+49 151 23456789", "52.520006599999995", "customer-4711", "a" * 512,
            "2026-11-22 12:30:45 0001", "2026-11-22 12:30:45.123456+00:00", "on 22.11.2026, 12:30:45", "22.11.26 12:30:45 - 12:45:30", "25.05.16 10:38:20 - 16:34:40",
            "from 2026-11-22T12:30:45.123456Z to 2026-11-22T12:45:30.654321Z", "2026/11/22 12:30:45 order 4711-0815", "order 2026-11-22/4711/0001", "INV-2026-000123, INV-2026-000124",
            "IBAN DE89 3704 0044 0532 0130 00", "refund to BE68 5390 0754 7034, thanks", "GB29NWBK60161331926819 or NO9386011117947", "FR14 2004 1010 0505 0001 3M02 606",
            "IBAN: GB82 WEST 1234 5698 7654 32", "52.520008, 13.404954", "-41.40338000,174.17403000", "1,234,567,890.00 EUR", "4.111.111.111,11", "4,111,111.11 + 41,111.11",
            "10.0.0.1:8080, 10.0.0.2:8080, 10.0.0.3:8443", "2001:4860:4860:0:0:0:0:8888", "45:12:33:44:55:66", "+1 (415) 555-2671", "call +49 (30) 1234-5678 or +49 151 23456789",
            "ISBN 978-3-16-148410-0", "rated 4,3,5,4,3,5,3,4,1,4,4,4,1,5,3,1,4,5,1,1", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "01JD3V7K2M9QRSTVWXYZ012345",
            "sku 4711-0815-12", "2019, 2020, 2021, 2022, 2023", "order_550e8400-e29b-41d4-a716-446655440000_2", "\ufdfa" * 256, "½ ¾ ⅒ ㋀ ㏠",
        ],
    )  # fmt: skip
    def test_that_hold_none_are_left_alone(self, text: str) -> None:
        assert not holds_card_number(text)

    def test_ids_that_machines_make_are_left_alone(self) -> None:
        draw = random.Random(20261102)  # noqa: S311 - ids for a test
        ids = [uuid.UUID(int=draw.getrandbits(128), version=4) for _ in range(20_000)]

        assert not [each for each in ids if holds_card_number(str(each)) or holds_card_number(each.hex)]

    @pytest.mark.parametrize(
        "piece",
        ["4", "4 ", "41 ", "4111 ", "4111,,,", "4   ", "AB12 AAAA ", "411111:", "\ufdfa", "④", "550e8400-"],
    )
    def test_take_no_longer_than_their_length_allows(self, piece: str) -> None:
        started = time.process_time()

        holds_card_number(piece * (20_000 // len(piece)))

        assert time.process_time() - started < 5  # a tenth of it on a quiet machine

    @settings(max_examples=300)
    @given(
        st.text(max_size=80)
        | st.from_regex(r"[ 0-9._-]{10,40}", fullmatch=True)
        | st.text('41 ,:;|*+=()[]"\\\u00b7④⁴㊶⑪４x', min_size=13, max_size=60)
    )
    def test_that_hold_one_are_never_passed_over_by_the_quick_look(self, text: str) -> None:
        utf8 = text.encode("utf-8", "replace")

        assert may_hold_card_number(utf8) or not holds_card_number(text)
