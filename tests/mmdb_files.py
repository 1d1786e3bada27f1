"""Writes small .mmdb files (MaxMind DB format 2.0), so that tests read real ones without shipping anybody's data."""

import struct
from collections.abc import Mapping
from ipaddress import IPv4Network, ip_network
from pathlib import Path

Value = str | int | float | list["Value"] | dict[str, "Value"]
_MARKER = b"\xab\xcd\xefMaxMind.com"
_SEPARATOR = bytes(16)
_UINT16, _UINT32, _MAP, _UINT64, _ARRAY = 5, 6, 7, 9, 11


def write_mmdb(path: Path, records: Mapping[str, Value], *, ip_version: int = 6) -> Path:
    """Write a database that holds `records` by network; networks must not overlap."""
    nodes: list[list[int | None]] = [[None, None]]
    data = b""
    placed: list[tuple[int, int, int]] = []
    for network, value in records.items():
        position = 0
        bits = _bits(network, ip_version)
        for bit in bits[:-1]:
            following = nodes[position][bit]
            if following is None:
                following = len(nodes)
                nodes[position][bit] = following
                nodes.append([None, None])
            position = following
        placed.append((position, bits[-1], len(data)))
        data += _encode(value)
    count = len(nodes)
    for position, bit, offset in placed:
        nodes[position][bit] = count + len(_SEPARATOR) + offset
    tree = b"".join(struct.pack(">I", count if side is None else side)[1:] for node in nodes for side in node)
    path.write_bytes(tree + _SEPARATOR + data + _MARKER + _metadata(count, ip_version))
    return path


def _bits(network: str, ip_version: int) -> list[int]:
    parsed = ip_network(network)
    skipped = 96 if ip_version == 6 and isinstance(parsed, IPv4Network) else 0
    number = int(parsed.network_address)
    width = parsed.max_prefixlen
    return [0] * skipped + [number >> (width - 1 - index) & 1 for index in range(parsed.prefixlen)]


def _metadata(node_count: int, ip_version: int) -> bytes:
    fields = {
        "node_count": _uint(node_count, _UINT32),
        "record_size": _uint(24, _UINT16),
        "ip_version": _uint(ip_version, _UINT16),
        "database_type": _encode("test"),
        "languages": _encode(["en"]),
        "binary_format_major_version": _uint(2, _UINT16),
        "binary_format_minor_version": _uint(0, _UINT16),
        "build_epoch": _uint(1_781_725_900, _UINT64),
        "description": _encode({"en": "made by a test"}),
    }
    return _control(_MAP, len(fields)) + b"".join(_encode(name) + value for name, value in fields.items())


def _encode(value: Value) -> bytes:
    if isinstance(value, str):
        encoded = value.encode()
        return _control(2, len(encoded)) + encoded
    if isinstance(value, float):
        return _control(3, 8) + struct.pack(">d", value)
    if isinstance(value, int):
        return _uint(value, _UINT32)
    if isinstance(value, list):
        return _control(_ARRAY, len(value)) + b"".join(map(_encode, value))
    return _control(_MAP, len(value)) + b"".join(
        _encode(name) + _encode(item) for name, item in value.items()
    )


def _uint(value: int, kind: int) -> bytes:
    encoded = value.to_bytes(8, "big").lstrip(b"\0")
    return _control(kind, len(encoded)) + encoded


def _control(kind: int, size: int) -> bytes:
    """Return the control byte; the kinds above 7 and the sizes above 28 take one more."""
    first, more = (size, b"") if size < 29 else (29, bytes([size - 29]))
    return bytes([kind << 5 | first]) + more if kind < 8 else bytes([first, kind - 7]) + more
