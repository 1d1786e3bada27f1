"""Builds notices for tests."""

from typing import Any

from common.contracts.notices import Notice

TOKEN = "mtk_01jd3v.5f0c2b7e9a4d"


def notice_body(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return the notice of a password reset as JSON, with `changes`."""
    return {
        "notice_id": "ntc_1",
        "kind": "password_reset",
        "institution_id": "ins_test",
        "recipients": ["ada@harbour.example"],
        "facts": {"ip_address": "203.0.113.7"},
        "secret": TOKEN,
        "created_at": "2026-11-02T13:03:22+00:00",
        "expires_at": "2999-11-02T14:03:00+01:00",
        **changes,
    }


def make_notice(**changes: Any) -> Notice:  # noqa: ANN401 - any JSON
    """Return the notice of a password reset with `changes`."""
    return Notice.model_validate(notice_body(**changes))
