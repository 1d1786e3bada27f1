import json
import os
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from common.auth.access_file import (
    AccessFile,
    AccessFileRefusedError,
    Confirmation,
    Head,
    KeptAccess,
    Moment,
    Times,
)
from common.canonical import sha256_hex
from common.contracts.access import AccessFeed, EndedSession
from common.contracts.tokens import Scope
from tests.factories import SANDBOX
from tests.fakes import access_feed, institution_access, key_access

SOURCE = "assay at http://users.test"
KEYS = ({"kid": "one", "kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS256"},)
FEED = access_feed(
    [
        institution_access(SANDBOX),
        key_access("ask_test_0123abcd_secret", SANDBOX, Scope.SCORE_WRITE),
        EndedSession(session_id="ses_1", until=2**40),
    ]
)
NOTHING = access_feed([])


@pytest.fixture
def file(tmp_path: Path) -> AccessFile:
    return AccessFile(tmp_path / "access" / "ai_service.access", source=SOURCE)


def confirmed(seconds_ago: float) -> Times:
    moment = Moment.ago(seconds_ago)
    return Times(access=moment, keys=moment)


def head(seconds_ago: float = 0, *, source: str = SOURCE) -> Head:
    return Head(source=source, times=confirmed(seconds_ago), keys=KEYS)


def kept(file: AccessFile) -> KeptAccess:
    found = file.read()
    assert found is not None
    return found


def sealed(*lines: bytes) -> bytes:
    content = b"\n".join(lines)
    return content + b"\n" + sha256_hex(content).encode()


class TestMoment:
    def test_is_as_old_as_the_wall_clock_says(self) -> None:
        assert Moment(wall_ms=1_000, machine_s=50).age_s(Moment(wall_ms=31_500, machine_s=80)) == 30.5

    def test_of_another_start_of_the_machine_is_so_too(self) -> None:
        assert Moment(wall_ms=1_000, machine_s=9_000).age_s(Moment(wall_ms=31_000, machine_s=5)) == 30.0

    def test_is_older_than_anything_where_the_wall_clock_went_backwards(self) -> None:
        assert Moment(wall_ms=31_000, machine_s=50).age_s(Moment(wall_ms=30_999, machine_s=51)) == inf

    def test_is_as_old_as_the_machine_says_where_the_wall_clock_was_set_back_by_less_than_has_passed(
        self,
    ) -> None:
        assert Moment(wall_ms=1_000, machine_s=50).age_s(Moment(wall_ms=3_000, machine_s=650)) == 600.0


class TestRead:
    def test_returns_what_was_written(self, file: AccessFile) -> None:
        written = head()

        digest = file.write(written, FEED)

        assert file.read() == KeptAccess(written, FEED, digest)

    def test_returns_nothing_where_nothing_was_written(self, file: AccessFile) -> None:
        assert file.read() is None

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: b"",
            lambda content: content[:-1],
            lambda content: content[: len(content) // 2],
            lambda content: content + b"\n",
            lambda content: content.replace(b'"suspended":false', b'"suspended":true '),
            lambda content: content.replace(b"score:write", b"audit:write"),
            lambda content: b"\x00" * len(content),
        ],
    )
    def test_refuses_what_is_damaged(self, file: AccessFile, damage: Callable[[bytes], bytes]) -> None:
        file.write(head(), FEED)
        file.path.write_bytes(damage(file.path.read_bytes()))

        with pytest.raises(AccessFileRefusedError, match="digest"):
            file.read()

    @pytest.mark.parametrize(
        "content",
        [
            sealed(b""),
            sealed(b"{}", b"{}"),
            sealed(b"[" * 10_000, b"{}"),
            sealed(head().model_dump_json().encode()),
            sealed(
                json.dumps({**head().model_dump(), "format": 2}).encode(), FEED.model_dump_json().encode()
            ),
            sealed(head().model_dump_json().encode(), b'{"after": 0}'),
        ],
    )
    def test_refuses_what_has_another_form(self, file: AccessFile, content: bytes) -> None:
        file.write(head(), FEED)
        file.path.write_bytes(content)

        with pytest.raises(AccessFileRefusedError, match="form"):
            file.read()

    def test_refuses_what_another_user_service_said(self, file: AccessFile) -> None:
        AccessFile(file.path, source="another").write(head(source="another"), FEED)

        with pytest.raises(AccessFileRefusedError, match="another user_service"):
            file.read()

    @pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
    def test_in_a_folder_that_others_may_write_is_refused(self, file: AccessFile, mode: int) -> None:
        file.write(head(), FEED)
        file.path.parent.chmod(mode)

        with pytest.raises(AccessFileRefusedError, match="its folder"):
            file.read()

    def test_that_is_a_link_to_another_is_refused(self, file: AccessFile) -> None:
        file.write(head(), FEED)
        file.path.rename(file.path.with_name("elsewhere"))
        file.path.symlink_to(file.path.with_name("elsewhere"))

        with pytest.raises(AccessFileRefusedError):
            file.read()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_of_another_user_is_refused(self, file: AccessFile) -> None:
        file.write(head(), FEED)
        os.chown(file.path, 65534, 65534)

        with pytest.raises(AccessFileRefusedError, match="others may write it"):
            file.read()

    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
    def test_refuses_what_others_may_write(self, file: AccessFile, mode: int) -> None:
        file.write(head(), FEED)
        file.path.chmod(mode)

        with pytest.raises(AccessFileRefusedError, match="others may write"):
            file.read()

    def test_refuses_what_cannot_be_opened(self, file: AccessFile) -> None:
        file.path.mkdir(parents=True)

        with pytest.raises(AccessFileRefusedError, match="IsADirectoryError"):
            file.read()


class TestWrite:
    def test_leaves_one_file_that_nobody_else_may_read(self, file: AccessFile) -> None:
        file.write(head(), NOTHING)
        file.write(head(), FEED)

        assert [path.name for path in file.path.parent.iterdir()] == ["ai_service.access"]
        assert file.path.stat().st_mode & 0o777 == 0o600
        assert file.path.parent.stat().st_mode & 0o777 == 0o700

    def test_goes_on_where_a_process_ended_in_the_middle(self, file: AccessFile) -> None:
        file.write(head(10), NOTHING)
        partial = file.path.with_name("ai_service.access.partial")
        partial.write_bytes(b"half of")
        partial.chmod(0o644)
        before = kept(file).feed
        file.write(head(), FEED)

        assert (before, kept(file).feed) == (NOTHING, FEED)
        assert file.path.stat().st_mode & 0o777 == 0o600

    def test_replaces_what_was_confirmed_before_and_never_what_was_confirmed_later(
        self, file: AccessFile
    ) -> None:
        found: list[AccessFeed] = []
        for seconds_ago, feed in ((30, NOTHING), (10, FEED), (20, NOTHING)):
            file.write(head(seconds_ago), feed)
            found.append(kept(file).feed)

        assert found == [NOTHING, FEED, FEED]

    def test_never_replaces_what_was_written_before_and_confirmed_later(self, file: AccessFile) -> None:
        digest = file.write(head(30), FEED)
        file.confirm(Confirmation(of=digest, times=confirmed(10)))
        file.write(head(20), NOTHING)

        assert kept(file).feed == FEED

    def test_replaces_what_claims_to_be_of_the_future(self, file: AccessFile) -> None:
        file.write(head(-3600), FEED)
        file.write(head(5), NOTHING)

        assert kept(file).feed == NOTHING

    @pytest.mark.parametrize("content", [b"", b"damaged", sealed(b"{}", b"{}")])
    def test_replaces_what_is_not_usable(self, file: AccessFile, content: bytes) -> None:
        file.write(head(), NOTHING)
        file.path.write_bytes(content)
        file.write(head(5), FEED)

        assert kept(file).feed == FEED


class TestConfirm:
    def test_makes_the_same_state_younger(self, file: AccessFile) -> None:
        digest = file.write(head(30), FEED)
        times = confirmed(10)

        is_kept = file.confirm(Confirmation(of=digest, times=times))

        assert is_kept
        assert kept(file) == KeptAccess(head().model_copy(update={"times": times}), FEED, digest)
        assert file.path.with_suffix(".confirmed").stat().st_mode & 0o777 == 0o600

    def test_never_makes_it_older(self, file: AccessFile) -> None:
        digest = file.write(head(30), FEED)
        later = confirmed(10)
        for times in (later, confirmed(20)):
            file.confirm(Confirmation(of=digest, times=times))

        assert kept(file).head.times == later

    def test_says_nothing_of_another_state(self, file: AccessFile) -> None:
        former = file.write(head(30), NOTHING)
        file.confirm(Confirmation(of=former, times=confirmed(25)))
        written = head(20)
        file.write(written, FEED)

        is_kept = file.confirm(Confirmation(of=former, times=confirmed(0)))

        assert not is_kept
        assert kept(file).head.times == written.times

    def test_needs_a_state(self, file: AccessFile) -> None:
        confirmation = Confirmation(of="0" * 64, times=confirmed(0))
        without_folder = file.confirm(confirmation)
        file.path.parent.mkdir()

        assert (without_folder, file.confirm(confirmation)) == (False, False)

    @pytest.mark.parametrize("content", [b"", b"damaged", sealed(b"{}")])
    def test_that_is_damaged_leaves_the_state_as_old_as_it_was_when_written(
        self, file: AccessFile, content: bytes
    ) -> None:
        written = head(30)
        digest = file.write(written, FEED)
        file.confirm(Confirmation(of=digest, times=confirmed(10)))
        file.path.with_suffix(".confirmed").write_bytes(content)

        with capture_logs() as lines:
            found = kept(file)

        assert found.head.times == written.times
        assert [(line["event"], line["log_level"]) for line in lines] == [
            ("access.confirmation_ignored", "warning")
        ]
