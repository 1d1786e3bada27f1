from common.contracts.tokens import Scope
from user_service.users.roles import SCOPES_BY_ROLE, Role

SERVICE_SCOPES = {
    Scope.ALERTS_WRITE,
    Scope.AUDIT_WRITE,
    Scope.GEOIP_READ,
    Scope.GEOIP_CONTROL,
    Scope.RATES_READ,
    Scope.RECIPIENTS_READ,
}


class TestScopesByRole:
    def test_knows_every_role(self) -> None:
        assert set(SCOPES_BY_ROLE) == set(Role)

    def test_gives_no_user_what_only_services_may_do(self) -> None:
        for scopes in SCOPES_BY_ROLE.values():
            assert not SERVICE_SCOPES & set(scopes)

    def test_gives_admins_everything_users_can_have(self) -> None:
        assert set(SCOPES_BY_ROLE[Role.ADMIN]) == set(Scope) - SERVICE_SCOPES

    def test_lets_everybody_change_their_own_profile(self) -> None:
        assert all(Scope.PROFILE_WRITE in scopes for scopes in SCOPES_BY_ROLE.values())

    def test_lets_viewers_only_look(self) -> None:
        assert Scope.SCORE_WRITE not in SCOPES_BY_ROLE[Role.VIEWER]
