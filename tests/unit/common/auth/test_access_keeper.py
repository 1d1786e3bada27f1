import time
from collections.abc import Callable
from math import inf
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from common.auth.access import STALE_S, AccessState
from common.auth.access_file import AccessFile, Moment
from common.auth.access_keeper import AccessKeeper
from common.auth.keys import MAX_AGE_S, PublicKeys
from common.auth.signing import public_jwk
from common.clock import epoch_ms
from common.contracts.access import AccessFeed, EndedSession
from common.contracts.tokens import Scope
from tests.access_files import confirmed_at
from tests.factories import SANDBOX
from tests.fakes import AccessChange, access_feed, institution_access, key_access, shared_key

GOOD, REVOKED = b"ask_test_0123abcd_good", b"ask_test_0123abcd_revoked"
KNOWN: list[AccessChange] = [
    institution_access(SANDBOX),
    key_access(GOOD.decode(), SANDBOX, Scope.SCORE_WRITE, key_id="key_good"),
    key_access(REVOKED.decode(), SANDBOX, Scope.SCORE_WRITE, key_id="key_revoked"),
    key_access(REVOKED.decode(), SANDBOX, Scope.SCORE_WRITE, key_id="key_revoked", revoked=True),
    EndedSession(session_id="ses_1", until=2**40),
]


class Known:
    """What one start of a service knows, and what keeps it."""

    def __init__(self, folder: Path) -> None:
        self.file = AccessFile(folder / "ai_service.access", source="assay at http://users.test")
        self.state = AccessState()
        self.key_set = [public_jwk(shared_key())]
        self.keys = PublicKeys(
            httpx.AsyncClient(transport=httpx.MockTransport(self._answer), base_url="http://users.test")
        )
        self.keeper = AccessKeeper(self.file, self.state, self.keys)

    def hear(self, changes: list[AccessChange], *, after: int = 0, seconds_ago: float = 0) -> None:
        feed = access_feed(changes, after=after)
        self.state.apply(feed, as_of=time.monotonic() - seconds_ago, now=epoch_ms() // 1000)

    def _answer(self, _request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"keys": self.key_set})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "access"


@pytest.fixture
async def known(folder: Path) -> Known:
    known = Known(folder)
    await known.keys.refresh()
    known.hear(KNOWN)
    return known


@pytest.fixture
def in_the_way(folder: Path) -> Path:
    """A file where the folder should be."""
    folder.touch()
    return folder


async def restarted(folder: Path) -> Known:
    known = Known(folder)
    await known.keeper.load()
    return known


class TestRestart:
    async def test_knows_what_was_known(self, folder: Path, known: Known) -> None:
        await known.keeper.save()

        again = await restarted(folder)

        assert again.state.as_feed()() == known.state.as_feed()()
        assert (again.state.version, again.state.mark) == (5, known.state.mark)
        assert again.state.holder_of(GOOD) == known.state.holder_of(GOOD) is not None
        assert again.state.holder_of(REVOKED) is None
        assert again.state.sizes()["ended_sessions"] == 1
        assert again.keys.as_key_set() == known.keys.as_key_set()
        assert (again.state.loaded, again.state.is_stale, again.keys.loaded) == (True, False, True)

    async def test_goes_on_growing_old(self, folder: Path, known: Known) -> None:
        known.hear(KNOWN[:1], after=5, seconds_ago=STALE_S + 1)
        await known.keeper.save()

        again = await restarted(folder)

        assert again.state.age_s >= STALE_S + 1
        assert (again.state.loaded, again.state.is_stale, again.keys.loaded) == (True, True, True)
        assert again.state.holder_of(GOOD) is not None

    async def test_does_not_trust_keys_that_are_older_than_a_day(self, folder: Path, known: Known) -> None:
        await known.keeper.save()
        confirmed_at(known.file, Moment.ago(MAX_AGE_S + 1))

        again = await restarted(folder)

        assert (again.state.loaded, again.state.is_stale, again.keys.loaded) == (True, True, False)

    async def test_takes_what_is_of_the_future_for_old(self, folder: Path, known: Known) -> None:
        await known.keeper.save()
        confirmed_at(known.file, Moment.ago(-60))

        again = await restarted(folder)

        assert (again.state.age_s, again.keys.age_s) == (inf, inf)
        assert (again.state.loaded, again.state.is_stale, again.keys.loaded) == (True, True, False)
        assert await again.keeper.save()

    async def test_begins_with_nothing_where_nothing_was_kept(self, folder: Path) -> None:
        with capture_logs() as lines:
            first = await restarted(folder)

        assert (first.state.loaded, first.keys.loaded, lines) == (False, False, [])

    @pytest.mark.parametrize(
        "damage",
        [
            lambda file: file.path.write_bytes(b"damaged"),
            lambda file: file.path.chmod(0o666),
            lambda file: file.write(file.read().head, access_feed([]).model_copy(update={"hash_key": "x"})),
            lambda file: file.write(
                file.read().head.model_copy(update={"keys": ({},) * 99}), access_feed([])
            ),
        ],
    )
    async def test_leaves_a_file_aside_that_is_not_usable_and_says_so(
        self, folder: Path, known: Known, damage: Callable[[AccessFile], object]
    ) -> None:
        await known.keeper.save()
        damage(known.file)

        with capture_logs() as lines:
            again = await restarted(folder)

        assert not again.state.loaded
        assert [(line["event"], line["log_level"]) for line in lines] == [("access.file_ignored", "warning")]
        assert lines[0]["file"] == str(known.file.path)

    async def test_can_be_had_without_a_file(self, known: Known) -> None:
        keeper = AccessKeeper(None, known.state, known.keys)
        await keeper.load()

        assert await keeper.save()
        assert known.state.loaded


class TestSave:
    async def test_writes_nothing_before_anything_is_known(self, folder: Path) -> None:
        known = Known(folder)
        saved = [await known.keeper.save()]
        await known.keys.refresh()
        saved.append(await known.keeper.save())

        assert (saved, known.file.read()) == ([True, True], None)

    async def test_writes_what_changed_and_nothing_else(self, folder: Path, known: Known) -> None:
        inodes: list[tuple[int, bool]] = []

        async def look() -> None:
            await known.keeper.save()
            confirmation = folder / "ai_service.confirmed"
            inodes.append((known.file.path.stat().st_ino, confirmation.exists()))
            confirmation.unlink(missing_ok=True)

        await look()
        await look()  # nothing happened
        known.hear(KNOWN, after=5)
        await look()  # it was confirmed
        known.hear([*KNOWN, institution_access(SANDBOX, suspended=True)], after=5)
        await look()  # an institution was suspended
        await known.keys.refresh()
        await look()  # the same keys
        known.key_set = [{**known.key_set[0], "kid": "another"}]
        await known.keys.refresh()
        await look()  # other keys

        files = [inode for inode, _ in inodes]
        assert [confirmed for _, confirmed in inodes] == [False, False, True, False, True, False]
        assert files[0] == files[1] == files[2] != files[3]
        assert files[3] == files[4] != files[5]
        assert (await restarted(folder)).state.sizes()["suspended_institutions"] == 1

    async def test_of_a_confirmation_makes_the_next_start_younger(self, folder: Path, known: Known) -> None:
        known.hear(KNOWN, seconds_ago=500)
        await known.keeper.save()
        old = await restarted(folder)
        known.hear(KNOWN, after=5)
        await known.keeper.save()

        assert (old.state.is_stale, (await restarted(folder)).state.is_stale) == (True, False)

    async def test_puts_back_what_was_taken_away(self, folder: Path, known: Known) -> None:
        await known.keeper.save()
        known.file.path.unlink()
        known.hear(KNOWN, after=5)
        await known.keeper.save()

        assert (await restarted(folder)).state.as_feed()() == known.state.as_feed()()

    async def test_of_one_who_was_cut_off_leaves_what_another_process_heard_since(
        self, folder: Path, known: Known
    ) -> None:
        cut_off = Known(folder)
        await cut_off.keys.refresh()
        cut_off.hear(KNOWN[:3], seconds_ago=30)
        await known.keeper.save()
        await cut_off.keeper.save()

        assert (await restarted(folder)).state.holder_of(REVOKED) is None

    async def test_that_fails_is_said_and_tried_again(
        self, folder: Path, known: Known, in_the_way: Path
    ) -> None:
        with capture_logs() as lines:
            failed = await known.keeper.save()
        in_the_way.rename(folder.with_name("elsewhere"))  # noqa: ASYNC240 - a quick one
        worked = await known.keeper.save()

        assert (failed, worked) == (False, True)
        assert [(line["event"], line["error"]) for line in lines] == [("access.not_kept", "FileExistsError")]
        assert (await restarted(folder)).state.loaded

    async def test_of_a_half_told_beginning_keeps_what_holds(self, folder: Path, known: Known) -> None:
        first_page = access_feed(KNOWN[:1], more=True)
        known.state.apply(first_page, as_of=time.monotonic(), now=epoch_ms() // 1000)
        await known.keeper.save()

        again = await restarted(folder)

        assert (again.state.version, again.state.holder_of(GOOD) is not None) == (5, True)


def test_what_is_kept_is_one_page_from_the_beginning() -> None:
    state = AccessState()
    state.apply(access_feed(KNOWN), as_of=0, now=epoch_ms() // 1000)

    page: AccessFeed = state.as_feed()()

    assert (page.after, page.version, page.mark, page.more) == (0, 5, access_feed(KNOWN).mark, False)
    assert [key.key_id for key in page.api_keys] == ["key_good"]
