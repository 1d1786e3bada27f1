import pytest

from common.auth.principal import ForbiddenError, Principal, UnauthenticatedError
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.tokens import Scope, TokenUse

BANK = Institution(institution_id="ins_bank", mode=InstitutionMode.LIVE, base_currency="EUR")


def user(*scopes: Scope) -> Principal:
    return Principal(
        use=TokenUse.USER,
        subject="usr_1",
        scopes=frozenset(scope.value for scope in scopes),
        token_id="tok_1",
        expires_at=1,
        role="admin",
        institution=BANK,
    )


def api_key(*scopes: Scope) -> Principal:
    return Principal(
        use=TokenUse.API_KEY,
        subject="key_1",
        scopes=frozenset(scope.value for scope in scopes),
        token_id="tok_3",
        expires_at=1,
        institution=BANK,
        session_id="key_1",
    )


def service(*scopes: Scope) -> Principal:
    return Principal(
        use=TokenUse.SERVICE,
        subject="ai_service",
        scopes=frozenset(scope.value for scope in scopes),
        token_id="tok_2",
        expires_at=1,
    )


class TestTenant:
    def test_of_a_user_is_its_institution(self) -> None:
        assert user().tenant == BANK
        assert user().institution_id == "ins_bank"

    def test_of_a_service_there_is_none(self) -> None:
        with pytest.raises(ForbiddenError):
            _ = service().tenant
        with pytest.raises(ForbiddenError):
            _ = service().institution_id


class TestRequire:
    def test_lets_a_caller_with_the_scope_through(self) -> None:
        user(Scope.SCORE_WRITE).require(Scope.SCORE_WRITE)
        api_key(Scope.SCORE_WRITE).require(Scope.SCORE_WRITE)
        service(Scope.AUDIT_WRITE).require_service(Scope.AUDIT_WRITE)

    @pytest.mark.parametrize(
        "caller", [user(), user(Scope.ALERTS_READ), api_key(), service(), service(Scope.AUDIT_WRITE)]
    )
    def test_refuses_everybody_else(self, caller: Principal) -> None:
        with pytest.raises(ForbiddenError):
            caller.require(Scope.AUDIT_WRITE)

    @pytest.mark.parametrize(
        "caller",
        [service(), service(Scope.ALERTS_WRITE), user(Scope.AUDIT_WRITE), api_key(Scope.AUDIT_WRITE)],
    )
    def test_an_internal_route_takes_services_only(self, caller: Principal) -> None:
        with pytest.raises(ForbiddenError):
            caller.require_service(Scope.AUDIT_WRITE)


class TestErrors:
    def test_an_unknown_caller_is_told_the_scheme_and_no_reason(self) -> None:
        error = UnauthenticatedError()

        assert error.status_code == 401
        assert error.headers == {"WWW-Authenticate": "Bearer"}
        assert error.detail == ""
