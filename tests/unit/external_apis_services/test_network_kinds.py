import pytest

from common.contracts.geoip import NetworkKind
from external_apis_services.geoip.network_kinds import kind_of


class TestKindOf:
    @pytest.mark.parametrize(
        "organisation",
        [
            "Amazon.com, Inc.",
            "Amazon Data Services Ireland Ltd",
            "Google LLC",
            "Google Cloud EMEA Ltd",
            "Microsoft Corporation",
            "Hetzner Online GmbH",
            "OVH SAS",
            "DigitalOcean, LLC",
            "Cloudflare, Inc.",
            "UCLOUD INFORMATION TECHNOLOGY (HK) LIMITED",
            "InMotion Hosting, Inc.",
            "Hostinger International Limited",
            "GTHost",
            "PloxHost",
            "HostIT Servers",
            "ZINVPS COMPANY LIMITED",
            "Secure Data Center Aps",
            "bit datacenters GmbH",
            "FranTech Solutions",
            "Colocation America Corporation",
            "Mobile Cloud Hosting Ltd",
        ],
    )
    def test_knows_hosts_by_their_words_and_names(self, organisation: str) -> None:
        assert kind_of(organisation) is NetworkKind.HOSTING

    @pytest.mark.parametrize(
        "organisation",
        [
            "T-Mobile USA, Inc.",
            "China Mobile Hong Kong Company Limited",
            "AT&T Mobility LLC",
            "Consumer Cellular Inc.",
            "Telefonia Celular de Nicaragua SA.",
            "Telefonica Moviles Argentina S.A.",
            "America Móvil Peru S.A.C.",
            "ALIMBEK GSM LLC",
        ],
    )
    def test_knows_mobile_networks_by_their_words(self, organisation: str) -> None:
        assert kind_of(organisation) is NetworkKind.MOBILE

    @pytest.mark.parametrize(
        "organisation",
        [
            "",
            "Deutsche Telekom AG",
            "Comcast Cable Communications, LLC",
            "Montana Outback Wireless Inc.",
            "AMAZON TELECOM LTDA",
            "AMAZONET TELECOM LTDA",
            "Google Fiber Inc.",
            "St Cloud State University",
            "SAINT-CLOUD Commune",
            "Ghost Network",
            "GhostFiber",
            "FIBERHOST S.A.",
            "Host Hotels and Resorts, L.P.",
            "The Hostel Group",
            "Observers Inc",
            "Automobile Club",
        ],
    )
    def test_says_nothing_where_the_name_says_nothing(self, organisation: str) -> None:
        assert kind_of(organisation) is None
