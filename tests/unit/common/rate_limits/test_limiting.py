from collections.abc import Mapping
from typing import Any

import pytest

from common.auth.principal import Principal
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.tokens import TokenUse
from common.headers import RATE_LIMITS
from common.rate_limits.limiting import NoAllowances, RateLimitedError, RateLimits
from tests.fakes import FakeAllowances, allowance
from tests.unit.common.rate_limits.clocks import Clock

ALLOWED = allowance(requests_per_second=5, caller_requests_per_second=3)


def caller(
    subject: str = "usr_a",
    *,
    use: TokenUse = TokenUse.USER,
    institution_id: str = "ins_a",
    sid: str = "ses_1",
) -> Principal:
    institution = None
    if use is not TokenUse.SERVICE:
        institution = Institution(
            institution_id=institution_id, mode=InstitutionMode.LIVE, base_currency="EUR"
        )
    return Principal(use, subject, frozenset(), "tok_1", 2**40, institution=institution, session_id=sid)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> RateLimits:
    return RateLimits(
        unauthenticated_per_minute=100,
        failures_per_minute=100,
        allowances=FakeAllowances(ins_a=ALLOWED, ins_b=ALLOWED),
        clock=clock,
    )


async def count(limits: RateLimits, who: Principal) -> dict[str, str]:
    """Count one request and return the headers of its answer."""
    scope: dict[str, Any] = {}
    await limits.count_caller(scope, who)
    return headers(scope)


def headers(scope: Mapping[str, Any]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in scope.get(RATE_LIMITS, ())}


class TestCallers:
    async def test_hear_what_is_allowed_and_what_is_left(self, limits: RateLimits) -> None:
        await count(limits, caller())

        assert await count(limits, caller()) == {
            "ratelimit-policy": '"caller";q=3;w=1, "institution";q=5;w=1',
            "ratelimit": '"caller";r=1;t=1, "institution";r=3;t=1',
        }

    async def test_are_refused_beyond_that(self, limits: RateLimits) -> None:
        for _ in range(3):
            await count(limits, caller())
        scope: dict[str, Any] = {}

        with pytest.raises(RateLimitedError) as refused:
            await limits.count_caller(scope, caller())

        assert refused.value.headers == {"Retry-After": "1"}
        assert headers(scope)["ratelimit"].startswith('"caller";r=0;t=1')

    async def test_may_send_more_a_second_later(self, limits: RateLimits, clock: Clock) -> None:
        for _ in range(3):
            await count(limits, caller())
        clock.now += 2

        assert '"caller";r=2' in (await count(limits, caller()))["ratelimit"]

    async def test_share_what_their_institution_has(self, limits: RateLimits) -> None:
        for _ in range(3):
            await count(limits, caller("usr_a"))
        await count(limits, caller("usr_b"))
        await count(limits, caller("usr_b"))

        with pytest.raises(RateLimitedError):
            await count(limits, caller("usr_b"))

        assert (
            '"institution";r=4' in (await count(limits, caller("usr_c", institution_id="ins_b")))["ratelimit"]
        )

    async def test_cost_their_institution_nothing_when_they_are_refused(self, limits: RateLimits) -> None:
        for _ in range(3):
            await count(limits, caller("usr_a"))
        for _ in range(10):
            with pytest.raises(RateLimitedError):
                await count(limits, caller("usr_a"))

        assert '"institution";r=1' in (await count(limits, caller("usr_b")))["ratelimit"]

    async def test_are_one_user_whatever_the_session(self, limits: RateLimits) -> None:
        await count(limits, caller(sid="ses_1"))

        assert '"caller";r=1' in (await count(limits, caller(sid="ses_2")))["ratelimit"]

    async def test_are_one_key_each(self, limits: RateLimits) -> None:
        await count(limits, caller("ins_a", use=TokenUse.API_KEY, sid="key_1"))

        left = (await count(limits, caller("ins_a", use=TokenUse.API_KEY, sid="key_2")))["ratelimit"]
        assert '"caller";r=2' in left

    async def test_are_counted_once_for_one_request(self, limits: RateLimits) -> None:
        scope: dict[str, Any] = {}

        for _ in range(10):
            await limits.count_caller(scope, caller())

        assert headers(scope)["ratelimit"].startswith('"caller";r=2')

    async def test_of_an_unknown_institution_are_not_bounded(self, limits: RateLimits) -> None:
        assert [await count(limits, caller(institution_id="ins_new")) for _ in range(20)] == [{}] * 20

    async def test_that_are_our_own_services_are_not_bounded(self, limits: RateLimits) -> None:
        service = caller("ai_service", use=TokenUse.SERVICE)

        assert [await count(limits, service) for _ in range(20)] == [{}] * 20


def test_without_allowances_nobody_is_known() -> None:
    assert NoAllowances().allowance("ins_a") is None
