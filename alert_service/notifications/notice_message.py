"""Writes the mail that tells a notice. Pure: the same notice and envelope give the same message."""

from email.message import EmailMessage

from alert_service.notifications.envelope import Envelope, compose
from alert_service.notifications.notice_words import (
    details_of,
    is_sandbox,
    name_of,
    token_use,
    why_you,
    words_of,
)
from common.contracts.notices import Notice


def build_notice(notice: Notice, envelope: Envelope, *, institution_name: str, link: str) -> EmailMessage:
    """Return the mail of `notice`; `link` leads people to where they use a token, and may be empty."""
    name = name_of(notice, known=institution_name)
    said = words_of(notice, institution_name=name)
    prefix = "[Assay] [sandbox]" if is_sandbox(notice) else "[Assay]"
    words = {
        "institution_name": name,
        "sandbox": is_sandbox(notice),
        "said": said,
        "details": details_of(notice),
        "token": token_use(notice, link=link),
        "why_you": why_you(notice, institution_name=name),
    }
    return compose(envelope, subject=f"{prefix} {said.subject}", template="notice", words=words)
