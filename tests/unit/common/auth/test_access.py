from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from common.auth.access import NEVER, STALE_S, AccessState
from common.auth.principal import Principal
from common.clock import epoch_ms
from common.contracts.access import AccessFeed, EndedSession
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.tokens import Scope, TokenUse
from tests.factories import SANDBOX
from tests.fakes import UNBOUNDED, AccessChange, access_feed, institution_access, key_access

KEY = "ask_test_0123abcd_" + "s" * 43
OWNER = institution_access(SANDBOX)
SCORES = key_access(KEY, SANDBOX, Scope.SCORE_WRITE)
USER = Principal(
    use=TokenUse.USER,
    subject="usr_1",
    scopes=frozenset({"score:write"}),
    token_id="tok_1",
    expires_at=NEVER,
    role="admin",
    institution=SANDBOX,
    session_id="ses_1",
)
TOKEN_OF_KEY = replace(USER, use=TokenUse.API_KEY, subject="key_test", role=None, session_id="key_test")
SERVICE = Principal(
    use=TokenUse.SERVICE, subject="ai_service", scopes=frozenset(), token_id="tok_2", expires_at=NEVER
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> AccessState:
    return AccessState(clock=clock)


def told(state: AccessState, *changes: AccessChange, now: int | None = None) -> AccessState:
    """Tell `state` everything anew."""
    apply(state, access_feed(list(changes)), now=now)
    return state


def apply(state: AccessState, feed: AccessFeed, *, as_of: float = 1000.0, now: int | None = None) -> bool:
    return state.apply(feed, as_of=as_of, now=seconds() if now is None else now)


def seconds() -> int:
    return epoch_ms() // 1000


class TestAdmits:
    def test_everybody_of_whom_nothing_is_said(self, state: AccessState) -> None:
        assert state.admits(USER)
        assert state.admits(SERVICE)

    def test_no_user_of_an_ended_session(self, state: AccessState) -> None:
        told(state, EndedSession(session_id="ses_1", until=seconds() + 60))

        assert not state.admits(USER)
        assert state.admits(replace(USER, session_id="ses_2"))

    def test_nobody_of_a_suspended_institution_until_it_is_resumed(self, state: AccessState) -> None:
        suspended = institution_access(SANDBOX, suspended=True)
        told(state, suspended, SCORES)
        were_out = [state.admits(USER), state.admits(TOKEN_OF_KEY), state.holder_of(KEY.encode())]
        apply(state, access_feed([suspended, SCORES, OWNER], after=2))

        assert were_out == [False, False, None]
        assert state.admits(USER)
        assert state.holder_of(KEY.encode()) is not None

    def test_a_token_of_an_api_key_as_long_as_the_key_holds(self, state: AccessState) -> None:
        unknown = state.admits(TOKEN_OF_KEY)
        told(state, OWNER, SCORES)
        known = state.admits(TOKEN_OF_KEY)
        expired = key_access(KEY, SANDBOX, Scope.SCORE_WRITE, expires_at=seconds() - 1)
        apply(state, access_feed([OWNER, SCORES, expired], after=2))

        assert (unknown, known, state.admits(TOKEN_OF_KEY)) == (False, True, False)

    def test_a_token_of_an_api_key_with_no_more_scopes_than_the_key_has_now(self, state: AccessState) -> None:
        both = replace(TOKEN_OF_KEY, scopes=frozenset({"score:write", "decisions:read"}))
        none = replace(TOKEN_OF_KEY, scopes=frozenset())
        has_both = key_access(KEY, SANDBOX, Scope.SCORE_WRITE, Scope.DECISIONS_READ)
        told(state, OWNER, has_both)
        before = [state.admits(each) for each in (both, TOKEN_OF_KEY, none)]
        apply(state, access_feed([OWNER, has_both, SCORES], after=2))
        lowered = [state.admits(each) for each in (both, TOKEN_OF_KEY, none)]

        assert (before, lowered) == ([True] * 3, [False, True, True])
        assert state.admits(replace(USER, scopes=both.scopes))

    def test_notes_no_use_of_a_token_that_has_too_much(self, state: AccessState) -> None:
        told(state, OWNER, SCORES)

        state.admits(replace(TOKEN_OF_KEY, scopes=frozenset({"decisions:read"})))

        assert state.take_uses() == {}


class TestMayBeNew:
    def test_is_who_is_a_key_of_which_not_everything_is_known(self, state: AccessState) -> None:
        more = replace(TOKEN_OF_KEY, scopes=frozenset({"score:write", "decisions:read"}))
        unknown = state.may_be_new(TOKEN_OF_KEY)
        told(state, OWNER, SCORES)

        assert (unknown, state.may_be_new(TOKEN_OF_KEY), state.may_be_new(more)) == (True, False, True)
        assert not state.may_be_new(USER)


class TestHolder:
    def test_of_a_key_has_its_scopes_and_its_institution(self, state: AccessState) -> None:
        told(state, SCORES, OWNER)

        holder = state.holder_of(KEY.encode())

        assert holder == Principal(
            use=TokenUse.API_KEY,
            subject="key_test",
            scopes=frozenset({"score:write"}),
            token_id="key_test",
            expires_at=NEVER,
            institution=SANDBOX,
            session_id="key_test",
        )

    @pytest.mark.parametrize(
        "presented",
        [b"", KEY[:-1].encode(), KEY[:-1].encode() + b"t", KEY.encode() + b"x", b"x" * 10_000, b"\xff\x00"],
    )
    def test_is_nobody_for_any_other_text(self, state: AccessState, presented: bytes) -> None:
        told(state, OWNER, SCORES)

        assert state.holder_of(presented) is None

    @pytest.mark.parametrize("changes", [{"revoked": True}, {"expires_at": 1}])
    def test_is_nobody_when_the_key_has_ended(self, state: AccessState, changes: dict[str, object]) -> None:
        told(state, OWNER, SCORES)
        held = state.holder_of(KEY.encode())
        apply(state, access_feed([OWNER, SCORES, key_access(KEY, SANDBOX, **changes)], after=2))

        assert held is not None
        assert state.holder_of(KEY.encode()) is None

    def test_has_the_rights_of_the_last_change(self, state: AccessState) -> None:
        told(state, OWNER, SCORES)
        state.holder_of(KEY.encode())
        live = Institution(
            institution_id=SANDBOX.institution_id, mode=InstitutionMode.LIVE, base_currency="USD"
        )
        changed: list[AccessChange] = [
            OWNER,
            SCORES,
            institution_access(live),
            key_access(KEY, SANDBOX, Scope.AUDIT_READ, expires_at=NEVER - 1),
        ]
        apply(state, access_feed(changed, after=2))

        holder = state.holder_of(KEY.encode())

        assert holder is not None
        assert (holder.institution, set(holder.scopes)) == (live, {"audit:read"})
        assert holder.expires_at == NEVER - 1

    def test_is_counted_as_found_or_not(self, state: AccessState) -> None:
        told(state, institution_access(SANDBOX), key_access("ask_test_0123abcd_one", SANDBOX))

        def counted(metric: str, **labels: str) -> float:
            return REGISTRY.get_sample_value(metric, {"namespace": "api_keys", **labels}) or 0.0

        hits, misses = counted("assay_cache_hits_total", tier="process"), counted("assay_cache_misses_total")
        for key in (b"ask_test_0123abcd_one", b"ask_test_0123abcd_one", b"ask_test_0123abcd_other"):
            state.holder_of(key)

        assert counted("assay_cache_hits_total", tier="process") - hits == 2
        assert counted("assay_cache_misses_total") - misses == 1

    def test_is_nobody_while_the_institution_is_not_known(self, state: AccessState) -> None:
        told(state, SCORES)

        assert state.holder_of(KEY.encode()) is None


class TestUses:
    def test_are_told_once_with_the_last_time(self, state: AccessState) -> None:
        told(state, OWNER, SCORES)
        before = epoch_ms()
        state.holder_of(KEY.encode())
        state.admits(TOKEN_OF_KEY)

        uses = state.take_uses()

        assert list(uses) == ["key_test"]
        assert before <= uses["key_test"] <= epoch_ms()
        assert state.take_uses() == {}

    def test_that_could_not_be_told_are_kept_unless_there_are_later_ones(self, state: AccessState) -> None:
        told(state, OWNER, SCORES)
        state.holder_of(KEY.encode())
        state.put_back({"key_test": 1, "key_other": 2})

        uses = state.take_uses()

        assert uses["key_test"] > 1
        assert uses["key_other"] == 2

    def test_are_none_of_a_key_that_has_ended(self, state: AccessState) -> None:
        told(state, OWNER, key_access(KEY, SANDBOX, expires_at=1))
        state.holder_of(KEY.encode())

        assert state.take_uses() == {}


class TestApply:
    def test_forgets_ended_sessions_when_their_last_token_has_expired(self, state: AccessState) -> None:
        told(state, EndedSession(session_id="ses_1", until=1060), now=1000)
        before = state.sizes()["ended_sessions"]
        apply(state, access_feed([OWNER] * 2, after=1), now=1060)

        assert (before, state.sizes()["ended_sessions"]) == (1, 0)

    def test_says_whether_there_is_more_to_ask_for(self, state: AccessState) -> None:
        first = apply(state, access_feed([OWNER], more=True))
        second = apply(state, access_feed([OWNER, SCORES], after=1))

        assert (first, second, state.version) == (True, False, 2)

    def test_takes_everything_anew_at_once_and_only_when_it_is_complete(self, state: AccessState) -> None:
        told(state, OWNER, SCORES, EndedSession(session_id="ses_1", until=seconds() + 60))
        other = key_access("another key", SANDBOX, key_id="key_other")
        apply(state, access_feed([OWNER], more=True))
        meanwhile = (state.admits(USER), state.holder_of(KEY.encode()) is None)
        apply(state, access_feed([OWNER, other], after=1))

        assert meanwhile == (False, False)
        assert state.admits(USER)
        assert state.holder_of(KEY.encode()) is None
        assert state.holder_of(b"another key") is not None

    def test_starts_over_when_a_page_does_not_follow_what_is_known(self, state: AccessState) -> None:
        told(state, OWNER, SCORES)
        asks_on = apply(state, access_feed([OWNER] * 6, after=5))

        assert (asks_on, state.version) == (True, 0)
        assert state.holder_of(KEY.encode()) is not None

    def test_starts_over_when_digests_are_made_with_another_key(self, state: AccessState) -> None:
        told(state, OWNER, SCORES)
        other = access_feed([OWNER] * 3, after=2).model_copy(update={"hash_key": "b3RoZXI="})

        assert apply(state, other)
        assert state.version == 0

    def test_of_a_database_that_was_restored_forgets_what_that_never_knew(self, state: AccessState) -> None:
        told(state, OWNER, SCORES, EndedSession(session_id="ses_1", until=seconds() + 60))
        apply(state, access_feed([OWNER]))

        assert state.version == 1
        assert state.admits(USER)
        assert state.sizes() == {
            "institutions": 1,
            "suspended_institutions": 0,
            "api_keys": 0,
            "ended_sessions": 0,
        }

    def test_keeps_what_an_institution_may_ask_for(self, state: AccessState) -> None:
        told(state, OWNER)

        assert state.allowance(SANDBOX.institution_id) == UNBOUNDED
        assert state.allowance("ins_unknown") is None


class TestAge:
    def test_is_unknown_before_the_first_feed(self, state: AccessState) -> None:
        assert (state.loaded, state.is_stale) == (False, True)

    def test_counts_from_when_the_last_page_was_asked_for(self, state: AccessState, clock: Clock) -> None:
        apply(state, access_feed([]), as_of=990.0)
        fresh = (state.age_s, state.loaded, state.is_stale)
        clock.now = 990.0 + STALE_S
        edge = state.is_stale
        clock.now += 0.5

        assert fresh == (10.0, True, False)
        assert (edge, state.is_stale, state.loaded) == (False, True, True)

    def test_is_not_lowered_by_a_page_that_is_not_the_last(self, state: AccessState, clock: Clock) -> None:
        apply(state, access_feed([]), as_of=1000.0)
        clock.now = 1100.0
        apply(state, access_feed([OWNER], more=True), as_of=1100.0)

        assert state.is_stale

    def test_does_not_matter_to_one_that_is_kept_fresh_in_another_way(self) -> None:
        state = AccessState(goes_stale=False)

        assert (state.loaded, state.is_stale) == (True, False)
