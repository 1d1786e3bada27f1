"""Which of our services may ask for which kinds of mail, and what else of a notice is theirs to say."""

from collections.abc import Mapping, Sequence, Set

from common.contracts.notices import Notice, NoticeKind
from common.errors import PlatformError

OF_PEOPLE = "user_service"
"""The one service that says whom a mail goes to, and what secret it holds."""

KINDS_BY_SENDER: Mapping[str, Set[NoticeKind]] = {
    "ai_service": frozenset({NoticeKind.QUOTA}),
    OF_PEOPLE: frozenset(NoticeKind) - {NoticeKind.QUOTA},
}


class NotItsNoticeError(PlatformError):
    """A service asked for a mail that is another service's to ask for."""

    status_code = 403
    type = "not-its-notice"
    title = "Mails of this kind, or to certain people, are asked for by another service"


def refuse_others_notices(notices: Sequence[Notice], *, sender: str) -> None:
    """Raise `NotItsNoticeError` when one of `notices` is not what the service `sender` asks for.

    So nobody who has the secret of one service can mail invitations in the name of the platform, or to an address of
    their choice.
    """
    kinds = KINDS_BY_SENDER.get(sender, frozenset())
    for notice in notices:
        if notice.kind not in kinds:
            raise NotItsNoticeError
        if sender != OF_PEOPLE and (notice.recipients or notice.secret is not None):
            raise NotItsNoticeError
