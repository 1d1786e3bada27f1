from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from external_apis_services.geoip.addresses import NotAnAddressError, read_address

RESERVED = [
    # test plan, section 6 E, in its order
    "127.0.0.1",
    "10.0.0.0",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "169.254.169.254",
    "0.0.0.0",  # noqa: S104 - nothing is bound
    "0.1.2.3",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.255",
    "192.0.2.1",
    "198.51.100.7",
    "203.0.113.9",
    "198.18.0.0",
    "198.19.255.255",
    "::1",
    "::",
    "fc00::1",
    "fdff:ffff::1",
    "fe80::1",
    "febf::1",
    "::ffff:10.0.0.1",
    "::ffff:7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    # the rest of the registries
    "192.0.0.9",
    "192.88.99.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.175.48.1",
    "::8.8.8.8",
    "64:ff9b:1::808:808",
    "100::1",
    "2001:2::1",
    "2001:20::1",
    "2001:1ff:ffff::1",
    "2001:db8::1",
    "2620:4f:8000::1",
    "3fff::1",
    "3fff:fff:ffff::1",
    "4000::1",
    "5f00::1",
    "fec0::1",
    "ff02::1",
    "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # Teredo for 10.0.0.1
]

PUBLIC = [
    "1.0.0.0",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.0.3.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "203.0.114.0",
    "223.255.255.255",
    "2000::1",
    "2001:200::1",
    "2001:db7:ffff::1",
    "2001:db9::1",
    "2003::1",
    "2a00:1450:4001:80b::200e",
    "2606:4700:4700::1111",
    "3ffe:ffff::1",
]

REFUSED = [
    # test plan, section 6 E 98 and 101 to 105
    "fe80::1%eth0",
    "fe80::1%<script>",
    "fe80::1%",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "01.2.3.4",
    "127.1",
    "0x7f.1",
    "1.2.3.4:80",
    "1.2.3.4/32",
    "1.2.3.4/../admin",
    "::1/128",
    "255.255.255.256",
    "1.2.3",
    "1.2.3.4.5",
    "",
    "localhost",
    "example.org",
    "1.2.3.4, 5.6.7.8",
    "[::1]",
    "[::1]:443",
    "1.2.3.4," * 1000,
    # and what else has been seen to slip through parsers
    " 1.2.3.4",
    "1.2.3.4 ",
    "1.2.3.4\n",
    "1.2.3.4\x00",
    "١.2.3.4",
    "1\uff0e2.3.4",
    "1。2。3。4",
    "-1.2.3.4",
    "+1.2.3.4",
    "1e1.2.3.4",
    "1..2.3",
    ":::",
    "1::2::3",
    "12345::1",
    "::ffff:1.2.3.256",
    "::ffff:1.2.3.04",
    "\ud800",
    "0" * 46,
]


class TestReadAddress:
    @pytest.mark.parametrize("text", RESERVED)
    def test_says_that_a_reserved_address_cannot_be_located(self, text: str) -> None:
        assert read_address(text).locatable is None

    @pytest.mark.parametrize("text", PUBLIC)
    def test_lets_a_public_address_be_located_as_itself(self, text: str) -> None:
        address = read_address(text)

        assert address.canonical == address.locatable == ip_address(text)

    @pytest.mark.parametrize("text", REFUSED)
    def test_refuses_everything_that_is_not_one_plain_address(self, text: str) -> None:
        with pytest.raises(NotAnAddressError) as caught:
            read_address(text)

        assert caught.value.args == ()

    @pytest.mark.parametrize(
        "text", ["::ffff:8.8.8.8", "::FFFF:808:808", "0:0:0:0:0:ffff:8.8.8.8", "::ffff:0808:0808"]
    )
    def test_unwraps_a_mapped_address(self, text: str) -> None:
        address = read_address(text)

        assert str(address.canonical) == "8.8.8.8"
        assert address.locatable == address.canonical

    @pytest.mark.parametrize(
        ("text", "canonical"),
        [
            ("2002:0808:0808::1", "2002:808:808::1"),
            ("64:ff9b::808:808", "64:ff9b::808:808"),
            ("64:ff9b::8.8.8.8", "64:ff9b::808:808"),
            ("2001:0:4136:e378:8000:63bf:f7f7:f7f7", "2001:0:4136:e378:8000:63bf:f7f7:f7f7"),
        ],
    )
    def test_locates_a_transition_address_by_the_ipv4_address_in_it(self, text: str, canonical: str) -> None:
        address = read_address(text)

        assert str(address.canonical) == canonical
        assert str(address.locatable) == "8.8.8.8"

    def test_writes_ipv6_in_its_shortest_form(self) -> None:
        assert (
            str(read_address("2A00:1450:4001:080B:0000:0000:0000:200E").canonical)
            == "2a00:1450:4001:80b::200e"
        )

    @given(st.ip_addresses(v=4))
    def test_treats_a_mapped_address_like_its_ipv4_address(self, address: object) -> None:
        assert read_address(f"::ffff:{address}") == read_address(str(address))

    @given(st.text(max_size=60))
    def test_gives_an_address_or_a_refusal_for_any_text(self, text: str) -> None:
        try:
            address = read_address(text)
        except NotAnAddressError:
            return

        assert read_address(str(address.canonical)) == address

    @given(st.ip_addresses())
    def test_never_lets_an_address_be_located_that_python_knows_to_be_off_the_network(
        self, address: object
    ) -> None:
        read = read_address(str(address))

        if read.locatable is not None:
            located = read.locatable
            known = (located.is_loopback, located.is_link_local, located.is_multicast, located.is_unspecified)
            assert not any((*known, located.is_private))
