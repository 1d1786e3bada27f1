from common.contracts.roles import SCOPES_BY_ROLE, Role
from common.contracts.tokens import Scope
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID
from user_service.users.roles import leading_role, may_hold

SERVICE_SCOPES = {
    Scope.ALERTS_WRITE,
    Scope.AUDIT_WRITE,
    Scope.GEOIP_READ,
    Scope.GEOIP_CONTROL,
    Scope.RATES_READ,
    Scope.RECIPIENTS_READ,
    Scope.ACCESS_READ,
    Scope.KEY_USE_WRITE,
    Scope.NOTICES_WRITE,
}
PLATFORM_SCOPES = {Scope.PLATFORM_READ, Scope.PLATFORM_WRITE}
TENANT_SCOPES = {Scope.SCORE_WRITE, Scope.DECISIONS_READ, Scope.ALERTS_READ, Scope.AUDIT_READ}


class TestScopesByRole:
    def test_knows_every_role(self) -> None:
        assert set(SCOPES_BY_ROLE) == set(Role)

    def test_gives_no_user_what_only_services_may_do(self) -> None:
        for scopes in SCOPES_BY_ROLE.values():
            assert not SERVICE_SCOPES & set(scopes)

    def test_gives_admins_everything_users_can_have(self) -> None:
        assert set(SCOPES_BY_ROLE[Role.ADMIN]) == set(Scope) - SERVICE_SCOPES - PLATFORM_SCOPES

    def test_gives_operators_nothing_that_belongs_to_tenants(self) -> None:
        assert set(SCOPES_BY_ROLE[Role.OPERATOR]) >= PLATFORM_SCOPES
        assert not TENANT_SCOPES & set(SCOPES_BY_ROLE[Role.OPERATOR])

    def test_gives_nobody_else_the_platform(self) -> None:
        for role in set(Role) - {Role.OPERATOR}:
            assert not PLATFORM_SCOPES & set(SCOPES_BY_ROLE[role])

    def test_lets_everybody_change_their_own_profile(self) -> None:
        assert all(Scope.PROFILE_WRITE in scopes for scopes in SCOPES_BY_ROLE.values())

    def test_lets_viewers_only_look(self) -> None:
        assert Scope.SCORE_WRITE not in SCOPES_BY_ROLE[Role.VIEWER]


class TestInstitutions:
    def test_have_every_role_but_operators(self) -> None:
        assert {role for role in Role if may_hold(role, institution_id="ins_1")} == set(Role) - {
            Role.OPERATOR
        }

    def test_of_the_platform_have_operators_alone(self) -> None:
        held = {role for role in Role if may_hold(role, institution_id=PLATFORM_INSTITUTION_ID)}

        assert held == {Role.OPERATOR}

    def test_are_led_by_a_role_they_have_and_that_can_make_others(self) -> None:
        for institution_id in ("ins_1", PLATFORM_INSTITUTION_ID):
            role = leading_role(institution_id)
            assert may_hold(role, institution_id=institution_id)
            assert Scope.USERS_WRITE in SCOPES_BY_ROLE[role]
