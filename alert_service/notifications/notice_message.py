"""Writes the mail that tells a notice. Pure: the same notice and envelope give the same message."""

from email.message import EmailMessage

from alert_service.notifications.account_requests import AccountPlaces, request_of
from alert_service.notifications.envelope import Envelope, compose
from alert_service.notifications.notice_facts import written_time
from alert_service.notifications.notice_words import heading_of, is_sandbox, name_of, why_you, words_of
from common.contracts.notices import Notice


def build_notice(
    notice: Notice, envelope: Envelope, *, institution_name: str, places: AccountPlaces
) -> EmailMessage:
    """Return the mail of `notice`."""
    name = name_of(notice, known=institution_name)
    said, details = words_of(notice, institution_name=name)
    prefix = "[Assay] [sandbox]" if is_sandbox(notice) else "[Assay]"
    words = {
        "institution_name": heading_of(notice, institution_name=name),
        "sandbox": is_sandbox(notice),
        "said": said,
        "details": details,
        "request": request_of(notice, places),
        "ends": _end_of_token(notice),
        "why_you": why_you(notice, institution_name=name),
    }
    return compose(envelope, subject=f"{prefix} {said.subject}", template="notice", words=words)


def _end_of_token(notice: Notice) -> str | None:
    """Return until when the notice's token works, empty where that is not said, None for a notice without one."""
    if notice.secret is None:
        return None
    return "" if notice.expires_at is None else written_time(notice.expires_at)
