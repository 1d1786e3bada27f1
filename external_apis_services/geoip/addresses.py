"""Reads addresses strictly and says which of them no location can be known for.

Python's own `is_private` and `is_global` are not enough: in 3.11 carrier NAT space (100.64/10) is not private,
multicast is global, and NAT64 and 6to4 forms of a loopback address are global too. The ranges here are those of
IANA's special-purpose registries (RFC 6890) and of RFC 9637, each end included.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

MAX_TEXT_LENGTH = 45
IpAddress = IPv4Address | IPv6Address


class NotAnAddressError(ValueError):
    """The text is not one IPv4 or IPv6 address; it says nothing of the text."""


@dataclass(frozen=True, slots=True)
class PlacedAddress:
    """An address in canonical form, and the address whose location is its own; None when it can have none."""

    canonical: IpAddress
    locatable: IpAddress | None


def read_address(text: str) -> PlacedAddress:
    """Read one address and decide whether it can be located; raises `NotAnAddressError`.

    A mapped IPv4 address is unwrapped. A 6to4, NAT64 or Teredo address keeps its form and is located by the IPv4
    address in it, because that is the end that was connected to the public network.
    """
    if len(text) > MAX_TEXT_LENGTH or "%" in text:
        raise NotAnAddressError
    try:
        address = ip_address(text)
    except ValueError:
        raise NotAnAddressError from None
    if isinstance(address, IPv4Address):
        return PlacedAddress(address, _locatable_v4(address))
    mapped = address.ipv4_mapped
    if mapped is not None:
        return PlacedAddress(mapped, _locatable_v4(mapped))
    return PlacedAddress(address, _locatable_v6(address))


def _locatable_v4(address: IPv4Address) -> IPv4Address | None:
    return None if _within(int(address), _RESERVED_V4) else address


def _locatable_v6(address: IPv6Address) -> IpAddress | None:
    number = int(address)
    embedded = _embedded_v4(number)
    if embedded is not None:
        return _locatable_v4(embedded)
    return None if _within(number, _RESERVED_V6) else address


def _embedded_v4(number: int) -> IPv4Address | None:
    if number >> 112 == 0x2002:  # 6to4, RFC 3056
        return IPv4Address(number >> 80 & 0xFFFF_FFFF)
    if number >> 32 == 0x0064_FF9B << 64:  # NAT64's well-known prefix, RFC 6052
        return IPv4Address(number & 0xFFFF_FFFF)
    if number >> 96 == 0x2001_0000:  # Teredo, RFC 4380: the client's address with every bit inverted
        return IPv4Address(~number & 0xFFFF_FFFF)
    return None


_Ranges = tuple[Sequence[int], Sequence[int]]


def _within(number: int, ranges: _Ranges) -> bool:
    starts, ends = ranges
    position = bisect_right(starts, number) - 1
    return position >= 0 and number <= ends[position]


def _ranges(networks: Sequence[IPv4Network] | Sequence[IPv6Network]) -> _Ranges:
    spans = sorted((int(net.network_address), int(net.broadcast_address)) for net in networks)
    return [start for start, _ in spans], [end for _, end in spans]


_RESERVED_V4 = _ranges(
    [
        IPv4Network("0.0.0.0/8"),  # this network
        IPv4Network("10.0.0.0/8"),  # private
        IPv4Network("100.64.0.0/10"),  # carrier NAT
        IPv4Network("127.0.0.0/8"),  # loopback
        IPv4Network("169.254.0.0/16"),  # link-local
        IPv4Network("172.16.0.0/12"),  # private
        IPv4Network("192.0.0.0/24"),  # IETF protocol assignments
        IPv4Network("192.0.2.0/24"),  # documentation
        IPv4Network("192.31.196.0/24"),  # AS112
        IPv4Network("192.52.193.0/24"),  # automatic multicast tunnelling
        IPv4Network("192.88.99.0/24"),  # 6to4 relays, withdrawn
        IPv4Network("192.168.0.0/16"),  # private
        IPv4Network("192.175.48.0/24"),  # AS112
        IPv4Network("198.18.0.0/15"),  # benchmarks
        IPv4Network("198.51.100.0/24"),  # documentation
        IPv4Network("203.0.113.0/24"),  # documentation
        IPv4Network("224.0.0.0/3"),  # multicast, reserved, broadcast
    ]
)

# Only 2000::/3 is handed out for use on the public network, so everything beside it is reserved.
_RESERVED_V6 = _ranges(
    [
        IPv6Network("::/3"),  # unspecified, loopback, IPv4-compatible, discard-only, local NAT64
        IPv6Network("2001::/23"),  # IETF protocol assignments: benchmarks, ORCHID
        IPv6Network("2001:db8::/32"),  # documentation
        IPv6Network("2620:4f:8000::/48"),  # AS112
        IPv6Network("3fff::/20"),  # documentation
        IPv6Network("4000::/2"),  # not handed out; holds 5f00::/16, segment routing
        IPv6Network("8000::/1"),  # not handed out; unique local, link-local, site-local, multicast
    ]
)
