"""Who may still get in, as user_service's feed says it. Every request asks here, so all questions are look-ups."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf

from common.auth.principal import Principal
from common.cache.metrics import HITS, MISSES
from common.clock import epoch_ms
from common.contracts.access import AccessFeed, Allowance, ApiKeyAccess, EndedSession, InstitutionAccess
from common.contracts.tokens import TokenUse

STALE_S = 60.0
MAX_KEY_BYTES = 256
_FOUND, _UNKNOWN = HITS.labels("api_keys", "process"), MISSES.labels("api_keys")
NEVER = 253_402_300_799  # the last second of the year 9999


@dataclass
class _Known:
    """What the pages of one feed came to, up to a version."""

    hash_key: str = ""
    version: int = 0
    mark: str = ""
    institutions: dict[str, InstitutionAccess] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    keys: dict[str, ApiKeyAccess] = field(default_factory=dict)
    keys_by_digest: dict[str, ApiKeyAccess] = field(default_factory=dict)
    scopes: dict[str, frozenset[str]] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._mac = hmac.new(base64.b64decode(self.hash_key), digestmod=hashlib.sha256)

    def digest(self, presented: bytes) -> str:
        """Return what the feed knows a key by."""
        mac = self._mac.copy()
        mac.update(presented)
        return mac.hexdigest()

    def take(self, feed: AccessFeed, *, now: int) -> None:
        """Take in one page; what has run out by itself is forgotten."""
        self.version, self.mark = feed.version, feed.mark
        for institution in feed.institutions:
            self._take_institution(institution)
        for key in feed.api_keys:
            self._take_key(key)
        self.ended.update((each.session_id, each.until) for each in feed.ended_sessions)
        for session_id in [each for each, until in self.ended.items() if until <= now]:
            del self.ended[session_id]

    def _take_institution(self, changed: InstitutionAccess) -> None:
        institution_id = changed.institution.institution_id
        self.institutions[institution_id] = changed
        if changed.suspended:
            self.suspended.add(institution_id)
        else:
            self.suspended.discard(institution_id)

    def _take_key(self, changed: ApiKeyAccess) -> None:
        former = self.keys.pop(changed.key_id, None)
        if former is not None:
            del self.keys_by_digest[former.digest], self.scopes[former.key_id]
        if not changed.revoked:
            self.keys[changed.key_id] = self.keys_by_digest[changed.digest] = changed
            self.scopes[changed.key_id] = frozenset(scope.value for scope in changed.scopes)


class AccessState:
    """What one service knows of ended sessions, API keys and suspended institutions, and how old that is.

    One that does not `go_stale` counts as known and fresh at any time: whoever makes it keeps it so. `changes` counts
    how often what is known became something else; all of it was true at `as_of`, by the state's clock.
    """

    def __init__(self, *, goes_stale: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.changes = 0
        self._goes_stale = goes_stale
        self._clock = clock
        self.as_of = -inf
        self._is_known = False
        self._known = _Known()
        self._coming: _Known | None = None
        self._holders: dict[str, Principal] = {}
        self._uses: dict[str, int] = {}

    def apply(self, feed: AccessFeed, *, as_of: float, now: int) -> bool:
        """Take in one page, asked for at `as_of` by the state's clock; return whether to ask on at once.

        Everything anew replaces what was known when its last page is in, not before. `now` is in seconds since 1970.
        """
        if feed.after == 0:
            self._coming = _Known(feed.hash_key)
        known = self._asking
        if feed.after != known.version or feed.hash_key != known.hash_key:
            self.start_over()
            return True
        known.take(feed, now=now)
        if feed.institutions or feed.api_keys or self._coming is not None:
            self._holders.clear()
        if feed.institutions or feed.api_keys or feed.ended_sessions or self._coming is not None:
            self.changes += 1
        if feed.more:
            return True
        self._known, self._coming = known, None
        self.as_of, self._is_known = as_of, True
        return False

    def start_over(self) -> None:
        """Ask for everything anew; until that is there, what is known holds."""
        self._coming = _Known()

    def restore(self, feed: AccessFeed, *, age_s: float, now: int) -> None:
        """Know what `as_feed` returned once, and that was confirmed `age_s` ago."""
        self.apply(feed, as_of=self._clock() - age_s, now=now)

    def as_feed(self) -> Callable[[], AccessFeed]:
        """Return what makes the one page that tells all that is known now; it may be called in another thread."""
        known = self._known
        institutions, keys = tuple(known.institutions.values()), tuple(known.keys.values())
        ended, version, mark, hash_key = tuple(known.ended.items()), known.version, known.mark, known.hash_key

        def made() -> AccessFeed:
            return AccessFeed(
                after=0,
                version=version,
                mark=mark,
                more=False,
                hash_key=hash_key,
                institutions=institutions,
                api_keys=keys,
                ended_sessions=tuple([EndedSession(session_id=each, until=until) for each, until in ended]),
            )

        return made

    @property
    def version(self) -> int:
        """Return after which version to ask on."""
        return self._asking.version

    @property
    def mark(self) -> str:
        """Return the mark of that version."""
        return self._asking.mark

    @property
    def known(self) -> tuple[int, str]:
        """Return version and mark of what holds now."""
        return self._known.version, self._known.mark

    @property
    def _asking(self) -> _Known:
        return self._known if self._coming is None else self._coming

    @property
    def loaded(self) -> bool:
        """Whether it was ever known who may get in."""
        return not self._goes_stale or self._is_known

    @property
    def age_s(self) -> float:
        """Return how long ago all of this was true; infinite before the first feed."""
        return self._clock() - self.as_of

    @property
    def is_stale(self) -> bool:
        """Whether rights that were taken away may have been missed for more than a minute."""
        return self._goes_stale and self.age_s > STALE_S

    def admits(self, caller: Principal) -> bool:
        """Return whether nothing has ended the rights of `caller`, whose token is good.

        A token that an API key was exchanged for ends with the first of its scopes that the key has no more.
        """
        known = self._known
        if caller.session_id in known.ended:
            return False
        institution = caller.institution
        if institution is None:
            return True
        if institution.institution_id in known.suspended:
            return False
        return caller.use is not TokenUse.API_KEY or self._is_in_use(caller)

    def may_be_new(self, caller: Principal) -> bool:
        """Return whether `caller` is a key that nothing is known of, or not all its scopes: ended, or a moment old."""
        return caller.use is TokenUse.API_KEY and not self._has_scopes(caller)

    def holder_of(self, presented: bytes) -> Principal | None:
        """Return who holds an API key, None for one that is unknown, revoked or expired, or suspended with its owner.

        Only the digest is looked up, so the time taken tells nothing about any key.
        """
        if len(presented) > MAX_KEY_BYTES:
            return None
        digest = self._known.digest(presented)
        holder = self._holders.get(digest) or self._new_holder(digest)
        (_UNKNOWN if holder is None else _FOUND).inc()
        return holder if holder is not None and self.admits(holder) else None

    def allowance(self, institution_id: str) -> Allowance | None:
        """Return what an institution may ask for; None while it is not known."""
        found = self._known.institutions.get(institution_id)
        return None if found is None else found.allowance

    def take_uses(self) -> Mapping[str, int]:
        """Return when keys were last used (milliseconds since 1970), each use once."""
        uses, self._uses = self._uses, {}
        return uses

    def put_back(self, uses: Mapping[str, int]) -> None:
        """Keep uses that could not be told."""
        self._uses = {**uses, **self._uses}

    def sizes(self) -> dict[str, int]:
        """Return how much is known, by kind."""
        known = self._known
        return {
            "institutions": len(known.institutions),
            "suspended_institutions": len(known.suspended),
            "api_keys": len(known.keys),
            "ended_sessions": len(known.ended),
        }

    def _is_in_use(self, caller: Principal) -> bool:
        """Return whether a key holds and has the scopes of `caller`, and note that it was used."""
        key = self._known.keys.get(caller.session_id)
        now_ms = epoch_ms()
        if key is None or (key.expires_at is not None and key.expires_at * 1000 <= now_ms):
            return False
        if not self._has_scopes(caller):
            return False
        self._uses[key.key_id] = now_ms
        return True

    def _has_scopes(self, caller: Principal) -> bool:
        scopes = self._known.scopes.get(caller.session_id)
        return scopes is not None and caller.scopes <= scopes

    def _new_holder(self, digest: str) -> Principal | None:
        key = self._known.keys_by_digest.get(digest)
        owner = None if key is None else self._known.institutions.get(key.institution_id)
        if key is None or owner is None:
            return None
        self._holders[digest] = Principal(
            use=TokenUse.API_KEY,
            subject=key.key_id,
            scopes=self._known.scopes[key.key_id],
            token_id=key.key_id,
            expires_at=NEVER if key.expires_at is None else key.expires_at,
            institution=owner.institution,
            session_id=key.key_id,
        )
        return self._holders[digest]
