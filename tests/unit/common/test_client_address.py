from ipaddress import ip_network

import pytest

from common.client_address import MAX_ENTRIES, address_of_client, client_network

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("2001:db8:aaaa::/48")]
PROXY = "10.0.0.1"
CLIENT = "203.0.113.7"


def client_behind(peer: str, *forwarded_for: str) -> str:
    return address_of_client(peer, forwarded_for, trusted=TRUSTED)


class TestAddressOfClient:
    @pytest.mark.parametrize("peer", [CLIENT, "2001:db8::7", "11.0.0.1", "9.255.255.255"])
    def test_is_the_peer_unless_that_is_a_trusted_proxy(self, peer: str) -> None:
        assert client_behind(peer, "198.51.100.1") == peer

    def test_is_the_peer_when_no_proxy_is_trusted(self) -> None:
        assert address_of_client(PROXY, [CLIENT], trusted=[]) == PROXY

    @pytest.mark.parametrize(
        ("forwarded_for", "client"),
        [
            ([CLIENT], CLIENT),
            ([f"  {CLIENT}\t"], CLIENT),
            ([f"198.51.100.1, {CLIENT}"], CLIENT),
            ([f"198.51.100.1,{CLIENT},10.1.2.3, 10.9.9.9"], CLIENT),
            (["198.51.100.1", CLIENT], CLIENT),
            ([CLIENT, "10.1.2.3"], CLIENT),
            ([f"{CLIENT}:8443"], CLIENT),
            (["2001:db8::7"], "2001:db8::7"),
            (["2001:DB8:0:0::7"], "2001:db8::7"),
            (["[2001:db8::7]"], "2001:db8::7"),
            (["[2001:db8::7]:443"], "2001:db8::7"),
            (["2001:db8::7, 2001:db8:aaaa::1"], "2001:db8::7"),
            ([f"::ffff:{CLIENT}"], CLIENT),
            ([f"[::ffff:{CLIENT}]:80"], CLIENT),
            ([f"{CLIENT}, ::ffff:10.1.2.3"], CLIENT),
        ],
    )
    def test_is_the_last_one_that_is_no_trusted_proxy(self, forwarded_for: list[str], client: str) -> None:
        assert client_behind(PROXY, *forwarded_for) == client

    def test_is_found_behind_a_proxy_whose_ipv4_address_comes_as_ipv6(self) -> None:
        assert client_behind(f"::ffff:{PROXY}", CLIENT) == CLIENT

    @pytest.mark.parametrize(
        "junk",
        [
            "", " ", ",", "unknown", "_hidden", "localhost", "203.0.113", "203.0.113.256", "203.0.113.07", "2130706433", "0x7f.1", f"{CLIENT}:", f"{CLIENT}:port", f"{CLIENT}:123456",
            f"[{CLIENT}", "[2001:db8::7", "2001:db8::7]", "[2001:db8::7]443", "[2001:db8::7]:", "fe80::1%eth0", "[fe80::1%25eth0]:1", f"{CLIENT}/32", f'"{CLIENT}"', f"for={CLIENT}",
            f"{CLIENT} {CLIENT}", f"{CLIENT}\n", "２０３.0.113.7", "2001:db8::7::1", "x" * 10_000, "\x00", "é",
        ],
    )  # fmt: skip
    def test_is_the_peer_when_something_else_stands_there(self, junk: str) -> None:
        assert client_behind(PROXY, f"{CLIENT}, {junk}") == PROXY
        assert client_behind(PROXY, f"{CLIENT}, {junk}, 10.1.2.3") == PROXY

    @pytest.mark.parametrize("forwarded_for", [[], ["10.1.2.3"], ["10.1.2.3, 10.1.2.4", "10.0.0.1"]])
    def test_is_the_peer_when_nobody_stands_before_the_proxies(self, forwarded_for: list[str]) -> None:
        assert client_behind(PROXY, *forwarded_for) == PROXY

    def test_is_looked_for_among_the_last_thousand_entries(self) -> None:
        proxies = ",10.1.2.3" * (MAX_ENTRIES - 1)

        assert client_behind(PROXY, CLIENT + proxies) == CLIENT
        assert client_behind(PROXY, CLIENT + proxies + ",10.1.2.3") == PROXY

    @pytest.mark.parametrize("peer", ["", "testclient", "/run/socket"])
    def test_is_a_peer_without_an_address_as_it_is(self, peer: str) -> None:
        assert client_behind(peer, CLIENT) == peer


class TestClientNetwork:
    def test_is_an_ipv4_address_itself(self) -> None:
        assert client_network(CLIENT) == CLIENT

    @pytest.mark.parametrize("address", ["2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"])
    def test_is_the_64_of_an_ipv6_address(self, address: str) -> None:
        assert client_network(address) == "2001:db8::/64"

    def test_tells_two_of_those_apart(self) -> None:
        assert client_network("2001:db8:0:1::1") != client_network("2001:db8:0:2::1")

    @pytest.mark.parametrize("address", ["", "testclient"])
    def test_is_what_it_is_given_when_that_is_no_address(self, address: str) -> None:
        assert client_network(address) == address
