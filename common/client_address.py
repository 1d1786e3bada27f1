"""From which address a request comes, and what counts as one client."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from fastapi import Request

MAX_ENTRIES: Final = 1000  # of X-Forwarded-For, from its end
_CLIENT_PREFIX: Final = 64  # whoever has one IPv6 address has all that share these bits
_IN_BRACKETS: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?\Z", re.ASCII)
_IPV4_AND_PORT: Final = re.compile(r"([0-9.]+):[0-9]{1,5}\Z", re.ASCII)
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def client_address(request: Request) -> str:
    """Return the address of whoever sent `request`; empty where it is not known."""
    peer = "" if request.client is None else request.client.host
    return address_of_client(
        peer, request.headers.getlist("x-forwarded-for"), trusted=request.state.trusted_proxies
    )


def address_of_client(peer: str, forwarded_for: Sequence[str], *, trusted: Sequence[Network]) -> str:
    """Return the client behind `peer`: the peer itself, unless it is one of the `trusted` proxies.

    A trusted proxy appends the address it was asked from to X-Forwarded-For (`forwarded_for`: the lines of that
    header). Read from the end, the first address that is no trusted proxy is the client: what stands before it was
    sent by the client. Where there is none, or something else than an address in its place, it is the peer.
    """
    address = _parsed(peer)
    if address is None:
        return peer
    if not forwarded_for or not _is_one_of(address, trusted):
        return str(address)
    entries = ",".join(forwarded_for).rsplit(",", MAX_ENTRIES)[-MAX_ENTRIES:]
    for entry in reversed(entries):
        found = _parsed(_without_port(entry.strip(" \t")))
        if found is None:
            break
        if not _is_one_of(found, trusted):
            return str(found)
    return str(address)


def client_network(address: str) -> str:
    """Return what is limited as one client: an IPv4 address as it is, of an IPv6 address its /64."""
    parsed = _parsed(address)
    if not isinstance(parsed, IPv6Address):
        return address
    return str(IPv6Network((parsed, _CLIENT_PREFIX), strict=False))


def _without_port(entry: str) -> str:
    found = _IN_BRACKETS.match(entry) or _IPV4_AND_PORT.match(entry)
    return found[1] if found else entry


def _parsed(text: str) -> Address | None:
    """Return the address in `text`, an IPv4 one in IPv6 dress as what it is; None for anything else."""
    if "%" in text:  # the zone of a link-local address means nothing elsewhere
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _is_one_of(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
