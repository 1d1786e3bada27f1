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
    def test_lets_a_caller_of_the_kind_with_the_scope_through(self) -> None:
        user(Scope.SCORE_WRITE).require(Scope.SCORE_WRITE, use=TokenUse.USER)
        service(Scope.AUDIT_WRITE).require(Scope.AUDIT_WRITE, use=TokenUse.SERVICE)

    @pytest.mark.parametrize(
        ("caller", "use"),
        [
            (user(), TokenUse.USER),
            (user(Scope.ALERTS_READ), TokenUse.USER),
            (service(), TokenUse.SERVICE),
            (user(Scope.AUDIT_WRITE), TokenUse.SERVICE),
            (service(Scope.AUDIT_WRITE), TokenUse.USER),
        ],
    )
    def test_refuses_everybody_else(self, caller: Principal, use: TokenUse) -> None:
        with pytest.raises(ForbiddenError):
            caller.require(Scope.AUDIT_WRITE, use=use)


class TestErrors:
    def test_an_unknown_caller_is_told_the_scheme_and_no_reason(self) -> None:
        error = UnauthenticatedError()

        assert error.status_code == 401
        assert error.headers == {"WWW-Authenticate": "Bearer"}
        assert error.detail == ""
