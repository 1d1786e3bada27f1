from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.contracts.geoip import NetworkKind
from external_apis_services.geoip.errors import GeoDataError
from external_apis_services.geoip.networks import IPV4_CSV, IPV6_CSV, Network, open_networks


def number(address: str) -> int:
    return int(ip_address(address))


def write(directory: Path, *, v4: str = "", v6: str = "") -> Path:
    directory.joinpath(IPV4_CSV).write_text(v4, encoding="utf-8")
    directory.joinpath(IPV6_CSV).write_text(v6, encoding="utf-8")
    return directory


def find(directory: Path, address: str) -> Network:
    return open_networks(directory).find(ip_address(address))


class TestCsvNetworks:
    def test_finds_a_range_by_its_first_middle_and_last_address(self, tmp_path: Path) -> None:
        write(tmp_path, v4=f'{number("9.0.0.0")},{number("9.0.0.255")},64500,"Example, Cloud"\n')

        for address in ("9.0.0.0", "9.0.0.77", "9.0.0.255"):
            assert find(tmp_path, address) == (64500, NetworkKind.HOSTING)

    def test_finds_nothing_before_between_and_after_the_ranges(self, tmp_path: Path) -> None:
        write(
            tmp_path,
            v4=f"{number('9.0.0.0')},{number('9.0.0.255')},64500,A\n"
            f"{number('9.0.2.0')},{number('9.0.2.255')},64501,B\n",
        )

        for address in ("8.255.255.255", "9.0.1.0", "9.0.3.0", "223.0.0.1"):
            assert find(tmp_path, address) == (None, None)

    def test_finds_ipv6_ranges_also_where_their_bytes_end_in_zeros(self, tmp_path: Path) -> None:
        write(
            tmp_path,
            v6=f"{number('2a00::')},{number('2a00::')},64500,A Mobile\n"
            f"{number('2a01::')},{number('2a01:ffff::')},64501,B\n",
        )

        assert find(tmp_path, "2a00::") == (64500, NetworkKind.MOBILE)
        assert find(tmp_path, "2a00::1") == (None, None)
        assert find(tmp_path, "2a01:ffff::") == (64501, None)
        assert find(tmp_path, "2a01:ffff::1") == (None, None)

    def test_sorts_what_is_not_sorted(self, tmp_path: Path) -> None:
        write(
            tmp_path,
            v4=f"{number('9.0.2.0')},{number('9.0.2.255')},64501,B\n"
            f"{number('9.0.0.0')},{number('9.0.0.255')},64500,A\n",
        )

        assert find(tmp_path, "9.0.0.1") == (64500, None)
        assert find(tmp_path, "9.0.2.1") == (64501, None)

    def test_ends_a_range_where_the_next_one_starts(self, tmp_path: Path) -> None:
        write(
            tmp_path,
            v4=f"{number('9.0.0.0')},{number('9.0.9.255')},64500,A\n"
            f"{number('9.0.2.0')},{number('9.0.2.255')},64501,B\n",
        )

        assert find(tmp_path, "9.0.1.255") == (64500, None)
        assert find(tmp_path, "9.0.2.0") == (64501, None)
        assert find(tmp_path, "9.0.3.0") == (None, None)

    @given(
        starts=st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=20, unique=True),
        wanted=st.integers(0, (1 << 32) - 1),
    )
    def test_agrees_with_a_plain_search(
        self, tmp_path_factory: pytest.TempPathFactory, starts: list[int], wanted: int
    ) -> None:
        ordered = sorted(starts)
        ranges = [
            (start, (start + after) // 2, 64500 + index)
            for index, (start, after) in enumerate(zip(ordered, [*ordered[1:], 1 << 32], strict=True))
        ]
        ranges = [(start, min(end, (1 << 32) - 1), asn) for start, end, asn in ranges]
        directory = write(
            tmp_path_factory.mktemp("asn"),
            v4="".join(f"{start},{end},{asn},A\n" for start, end, asn in ranges),
        )
        networks = open_networks(directory)

        for address in (wanted, *ordered):
            expected = next((asn for start, end, asn in ranges if start <= address <= end), None)
            found, _ = networks.find(ip_address(address))
            assert found == expected

    @pytest.mark.parametrize(
        "line",
        [
            "1,2,64500",
            "1,2,64500,A,B",
            "1,x,64500,A",
            "2,1,64500,A",
            "-1,2,64500,A",
            "1,4294967296,64500,A",
            "1,2,0,A",
            "1,2,4294967296,A",
            "",
        ],
    )
    def test_names_the_line_that_cannot_be_read(self, tmp_path: Path, line: str) -> None:
        write(tmp_path, v4=f"0,0,64500,A\n{line}\n")

        with pytest.raises(GeoDataError, match=r"line 2 of .*asn-ipv4-num\.csv"):
            open_networks(tmp_path)

    def test_takes_empty_files_for_no_ranges(self, tmp_path: Path) -> None:
        write(tmp_path)

        assert find(tmp_path, "9.9.9.9") == (None, None)
        assert find(tmp_path, "2a00::1") == (None, None)


class TestOpenNetworks:
    def test_knows_nothing_when_no_place_is_named(self) -> None:
        networks = open_networks(None)

        assert networks.find(ip_address("9.9.9.9")) == (None, None)
        networks.close()

    def test_knows_nothing_when_the_place_is_not_there(self, tmp_path: Path) -> None:
        assert find(tmp_path / "nowhere.mmdb", "9.9.9.9") == (None, None)

    def test_knows_nothing_when_the_directory_has_one_file_only(self, tmp_path: Path) -> None:
        write(tmp_path, v4="0,4294967295,64500,A\n").joinpath(IPV6_CSV).unlink()

        assert find(tmp_path, "9.9.9.9") == (None, None)

    def test_refuses_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        file = tmp_path / "asn.mmdb"
        file.write_bytes(b"not a database")

        with pytest.raises(GeoDataError, match="GEOIP_ASN_DB"):
            open_networks(file)
