import random
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
        ],
    )  # fmt: skip
    def test_that_hold_none_are_left_alone(self, text: str) -> None:
        assert not holds_card_number(text)

    def test_ids_that_machines_make_are_left_alone(self) -> None:
        draw = random.Random(20261102)  # noqa: S311 - ids for a test
        ids = [uuid.UUID(int=draw.getrandbits(128), version=4) for _ in range(20_000)]

        assert not [each for each in ids if holds_card_number(str(each)) or holds_card_number(each.hex)]

    @settings(max_examples=300)
    @given(st.text(max_size=80) | st.from_regex(r"[ 0-9._-]{10,40}", fullmatch=True))
    def test_that_hold_one_are_never_passed_over_by_the_quick_look(self, text: str) -> None:
        utf8 = text.encode("utf-8", "replace")

        assert may_hold_card_number(utf8) or not holds_card_number(text)
