from typing import Any

import pytest

from alert_service.notices.senders import KINDS_BY_SENDER, NotItsNoticeError, refuse_others_notices
from common.contracts.notices import Notice, NoticeKind
from tests.notice_factories import make_notice

SERVICES = ("ai_service", "user_service", "alert_service", "log_service", "operator", "")
ITS_OWN = [(sender, kind) for sender, kinds in KINDS_BY_SENDER.items() for kind in sorted(kinds)]
OTHERS = [(sender, kind) for sender in SERVICES for kind in NoticeKind if (sender, kind) not in ITS_OWN]


def make_bare(kind: NoticeKind, **changes: object) -> Notice:
    """Return a notice to an institution's admins, without a secret."""
    return make_notice(kind=kind, **{"recipients": [], "secret": None, **changes})


class TestKinds:
    def test_each_has_one_sender(self) -> None:
        assert sorted(kind for _, kind in ITS_OWN) == sorted(NoticeKind)

    def test_ai_service_has_its_warnings_alone(self) -> None:
        assert KINDS_BY_SENDER["ai_service"] == {NoticeKind.QUOTA}


class TestRefuseOthersNotices:
    @pytest.mark.parametrize(("sender", "kind"), ITS_OWN)
    def test_takes_each_kind_from_its_own_service(self, sender: str, kind: NoticeKind) -> None:
        refuse_others_notices([make_bare(kind)], sender=sender)

    @pytest.mark.parametrize(("sender", "kind"), OTHERS)
    def test_refuses_it_from_every_other(self, sender: str, kind: NoticeKind) -> None:
        with pytest.raises(NotItsNoticeError):
            refuse_others_notices([make_bare(kind)], sender=sender)

    @pytest.mark.parametrize("changes", [{"recipients": ["ada@harbour.example"]}, {"secret": "chosen"}])
    def test_takes_people_and_secrets_from_user_service_alone(self, changes: dict[str, Any]) -> None:
        refuse_others_notices([make_bare(NoticeKind.INVITATION, **changes)], sender="user_service")

        with pytest.raises(NotItsNoticeError):
            refuse_others_notices([make_bare(NoticeKind.QUOTA, **changes)], sender="ai_service")

    def test_one_among_many_is_enough(self) -> None:
        mixed = [make_bare(NoticeKind.QUOTA), make_bare(NoticeKind.INVITATION)]

        for sender in ("ai_service", "user_service"):
            with pytest.raises(NotItsNoticeError):
                refuse_others_notices(mixed, sender=sender)
