"""Which autonomous system announces an address: from sorted arrays, or from an .mmdb file."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import maxminddb
import numpy as np
import numpy.typing as npt

from common.contracts.geoip import NetworkKind
from external_apis_services.geoip.errors import GeoDataError
from external_apis_services.geoip.network_kinds import kind_of
from external_apis_services.geoip.records import MAX_ASN, network_of

IPV4_CSV = "asn-ipv4-num.csv"
IPV6_CSV = "asn-ipv6-num.csv"
_NOTHING = (None, None)
Network = tuple[int | None, NetworkKind | None]
_Row = tuple[int, int, int, str]


class Networks(Protocol):
    """Knows which network an address belongs to."""

    def find(self, address: IPv4Address | IPv6Address) -> Network:
        """Return the number of the autonomous system and the kind of its network, as far as known."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


@lru_cache(maxsize=65_536)
def _remembered_kind(organisation: str) -> NetworkKind | None:
    return kind_of(organisation)


class NoNetworks:
    """Stands in when the operator has no such file."""

    def find(self, _address: IPv4Address | IPv6Address) -> Network:
        """Know nothing."""
        return _NOTHING

    def close(self) -> None:
        """Nothing is open."""


class MmdbNetworks:
    """Reads an .mmdb file with `autonomous_system_number`."""

    def __init__(self, reader: maxminddb.Reader) -> None:
        self._reader = reader
        self._takes_v6 = reader.metadata().ip_version == 6

    def find(self, address: IPv4Address | IPv6Address) -> Network:
        """Return what the file says."""
        if address.version == 6 and not self._takes_v6:
            return _NOTHING
        number, organisation = network_of(self._reader.get(address))
        return number, _remembered_kind(organisation)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


@dataclass(frozen=True)
class _Ranges:
    """Ranges in ascending order, ends included. Keys are uint32 for IPv4 and 16 bytes, big end first, for IPv6."""

    starts: npt.NDArray[Any]
    ends: npt.NDArray[Any]
    numbers: npt.NDArray[np.uint32]
    names: npt.NDArray[np.uint32]
    """Positions in `all_names`."""
    all_names: list[str]

    def find(self, key: np.uint32 | np.bytes_) -> Network:
        position = int(self.starts.searchsorted(key, side="right")) - 1
        # numpy's own comparison: as Python bytes, an end that ran out of zeros would be shorter and so smaller
        if position < 0 or np.greater(key, self.ends[position]):
            return _NOTHING
        name = self.all_names[self.names[position]]
        return int(self.numbers[position]), _remembered_kind(name)


class CsvNetworks:
    """Holds the two CSV files `start,end,asn,name` (numbers, ends included) as arrays."""

    def __init__(self, directory: Path) -> None:
        self._v4 = _read(directory / IPV4_CSV, bits=32)
        self._v6 = _read(directory / IPV6_CSV, bits=128)

    def find(self, address: IPv4Address | IPv6Address) -> Network:
        """Search the ranges of the address's family."""
        if isinstance(address, IPv4Address):
            # a plain int would make numpy convert the whole array first
            return self._v4.find(np.uint32(int(address)))
        return self._v6.find(np.bytes_(address.packed))

    def close(self) -> None:
        """Nothing stays open."""


def open_networks(place: Path | None) -> Networks:
    """Open an .mmdb file or a directory with the two CSV files; what is not there is `NoNetworks`.

    Raises `GeoDataError` for a file that cannot be read.
    """
    if place is None:
        return NoNetworks()
    if place.is_dir():
        both = (place / IPV4_CSV).is_file() and (place / IPV6_CSV).is_file()
        return CsvNetworks(place) if both else NoNetworks()
    if not place.is_file():
        return NoNetworks()
    try:
        return MmdbNetworks(maxminddb.open_database(place))
    except (maxminddb.InvalidDatabaseError, OSError) as error:
        raise GeoDataError(f"GEOIP_ASN_DB is no .mmdb file that can be read: {place}") from error


def _read(path: Path, *, bits: int) -> _Ranges:
    rows = sorted(_rows(path, limit=1 << bits))
    # The published data has ranges that reach into the next one; the later start is the more specific.
    ends = [max(row[0], min(row[1], after[0] - 1)) for row, after in pairwise(rows)]
    ends += [row[1] for row in rows[-1:]]
    positions: dict[str, int] = {}
    names = [positions.setdefault(row[3], len(positions)) for row in rows]
    return _Ranges(
        starts=_keys([row[0] for row in rows], bits=bits),
        ends=_keys(ends, bits=bits),
        numbers=np.array([row[2] for row in rows], dtype=np.uint32),
        names=np.array(names, dtype=np.uint32),
        all_names=list(positions),
    )


def _rows(path: Path, *, limit: int) -> Iterator[_Row]:
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        try:
            for cells in lines:
                yield _row(cells, limit=limit)
        except (ValueError, csv.Error) as error:
            message = f"GEOIP_ASN_DB: line {lines.line_num} of {path} is not start,end,asn,name."
            raise GeoDataError(message) from error


def _row(cells: list[str], *, limit: int) -> _Row:
    first, last, number, name = cells
    row = (int(first), int(last), int(number), name)
    if not 0 <= row[0] <= row[1] < limit or not 0 < row[2] <= MAX_ASN:
        raise ValueError("a number is out of range")
    return row


def _keys(numbers: list[int], *, bits: int) -> npt.NDArray[Any]:
    if bits == 32:
        return np.array(numbers, dtype=np.uint32)
    # bytes compare like the numbers they stand for; an empty array needs its width named
    return np.array([number.to_bytes(16, "big") for number in numbers], dtype="S16")
