"""Each kind of thing an institution has, asked for by another in every way the API offers."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.models import FINE, FRAUD
from tests.security.tenancy.banks import Bank, found_in

PASSWORD = "tide-and-lantern-42"
UNKNOWN = {
    "decision 0": "dec_01k00000000000000000000000",
    "alert 2": "alr_01k00000000000000000000000",
    "colleague": "usr_01k00000000000000000000000",
    "session 0": "ses_01k00000000000000000000000",
    "API key 1": "key_01k00000000000000000000000",
    "pending request": "apr_01k00000000000000000000000",
}
BY_ID = [
    ("ai_service", "/v1/decisions/{}", "decision 0"),
    ("ai_service", "/v1/decisions/{}?explain=true", "decision 0"),
    ("alert_service", "/v1/alerts/{}", "alert 2"),
    ("log_service", "/v1/audit/records/{}", "decision 0"),
    ("user_service", "/v1/users/{}", "colleague"),
    ("user_service", "/v1/api-keys/{}", "API key 1"),
    ("user_service", "/v1/approvals/{}", "pending request"),
]
CHANGES: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("PATCH", "/v1/users/{}", "colleague", {"role": "viewer"}),
    ("PATCH", "/v1/users/{}", "colleague", {"disabled": True}),
    ("POST", "/v1/users/{}/invitation", "colleague", None),
    ("DELETE", "/v1/users/{}/second-factor", "colleague", None),
    ("DELETE", "/v1/users/{}/sessions", "colleague", None),
    ("DELETE", "/v1/users/me/sessions/{}", "session 0", None),
    ("DELETE", "/v1/api-keys/{}", "API key 1", None),
    ("POST", "/v1/api-keys/{}/rotate", "API key 1", {"overlap_hours": 1}),
    ("POST", "/v1/approvals/{}/approve", "pending request", None),
    ("POST", "/v1/approvals/{}/refuse", "pending request", None),
    ("POST", "/v1/approvals/{}/withdraw", "pending request", None),
]
LISTS = [
    ("ai_service", "/v1/transactions"),
    ("alert_service", "/v1/alerts"),
    ("user_service", "/v1/api-keys"),
    ("user_service", "/v1/approvals"),
]
PEOPLE = ["/v1/users", "/v1/users/me/sessions"]
FILTERS: list[tuple[str, str, Callable[[Bank], dict[str, str]]]] = [
    ("ai_service", "/v1/transactions", lambda a: {"customer_id": a.made_up["customer_id"]}),
    ("ai_service", "/v1/transactions", lambda a: {"transaction_id": a.made_up["transaction_id"] + "-0"}),
    ("ai_service", "/v1/transactions", lambda _a: {"outcome": "decline"}),
    ("alert_service", "/v1/alerts", lambda _a: {"outcome": "decline"}),
    ("alert_service", "/v1/alerts", lambda _a: {"mail": "delivered"}),
    ("user_service", "/v1/approvals", lambda _a: {"state": "pending"}),
]
EXPORTS = [("log_service", "/v1/audit/days/{}"), ("log_service", "/v1/audit/days/{}/records")]
OF_THE_PRODUCT: dict[str, Any] = {
    "institution_id": "ins_other",
    "institution_mode": "live",
    "tenant_id": "ins_other",
    "user_id": "usr_other",
    "role": "operator",
    "created_by": "usr_other",
    "created_at": "2026-11-02T00:00:00Z",
    "scopes": ["everything"],
    "password_hash": "x",
    "disabled_at": None,
    "tier": "enterprise",
    "decision_id": "dec_other",
    "risk_score": 0,
    "outcome": "approve",
}


def said(answer: httpx.Response) -> dict[str, Any]:
    """Return the body of an answer without what differs from request to request."""
    return {name: value for name, value in answer.json().items() if name != "request_id"}


def in_user_service(bank: Bank) -> list[dict[str, Any]]:
    """Return the people, keys and requests of an institution; when a key was used is written down later."""
    paths = ("/v1/users", "/v1/api-keys", "/v1/approvals")
    found = [item for path in paths for item in bank.get("user_service", path).json()["items"]]
    return [{name: value for name, value in item.items() if name != "last_used_at"} for item in found]


class TestById:
    @pytest.mark.parametrize(("service", "path", "name"), BY_ID)
    def test_it_is_the_same_as_nothing(self, a: Bank, b: Bank, service: str, path: str, name: str) -> None:
        theirs = b.get(service, path.format(a.ids[name]))
        nothing = b.get(service, path.format(UNKNOWN[name]))

        assert a.get(service, path.format(a.ids[name])).status_code == 200
        assert theirs.status_code == nothing.status_code == 404
        assert said(theirs) == said(nothing)
        assert set(theirs.headers) == set(nothing.headers)
        assert found_in(theirs.text, a.marks()) == set()


class TestAChange:
    @pytest.mark.parametrize(("way", "path", "name", "body"), CHANGES)
    def test_of_it_is_one_of_nothing(
        self, a: Bank, b: Bank, way: str, path: str, name: str, body: dict[str, Any] | None
    ) -> None:
        before = in_user_service(a)

        theirs = b.call(way, "user_service", path.format(a.ids[name]), json=body)
        nothing = b.call(way, "user_service", path.format(UNKNOWN[name]), json=body)

        assert theirs.status_code == nothing.status_code == 404
        assert said(theirs) == said(nothing)
        assert in_user_service(a) == before


class TestInAList:
    @pytest.mark.parametrize(("service", "path"), LISTS)
    def test_there_is_only_ones_own(self, a: Bank, b: Bank, service: str, path: str) -> None:
        found = b.get(service, path, limit=100)

        assert len(found.json()["items"]) >= 2
        assert found_in(found.text, a.marks()) == set()

    @pytest.mark.parametrize("path", PEOPLE)
    def test_there_are_only_ones_own_people(self, a: Bank, b: Bank, path: str) -> None:
        found = b.get("user_service", path)

        assert len(found.json()["items"]) >= 2
        assert found_in(found.text, a.marks()) == set()

    @pytest.mark.parametrize(("service", "path"), LISTS)
    def test_anothers_cursor_shows_only_ones_own(self, a: Bank, b: Bank, service: str, path: str) -> None:
        cursor = a.get(service, path, limit=1).json()["next_cursor"]

        found = b.get(service, path, limit=100, cursor=cursor)

        assert cursor is not None
        assert found.status_code == 200
        assert found_in(found.text, a.marks()) == set()

    @pytest.mark.parametrize(("service", "path", "query"), FILTERS)
    def test_filters_find_only_ones_own(
        self, a: Bank, b: Bank, service: str, path: str, query: Callable[[Bank], dict[str, str]]
    ) -> None:
        wanted = query(a)

        assert a.get(service, path, **wanted).json()["items"] != []
        assert found_in(b.get(service, path, **wanted).text, a.marks()) == set()

    @pytest.mark.parametrize(("service", "path"), EXPORTS)
    def test_exports_hold_only_ones_own(self, a: Bank, b: Bank, service: str, path: str) -> None:
        found = b.get(service, path.format(b.today()))

        assert found_in(found.text, {"own": b.ids["institution_id"]}) == {"own"}
        assert found_in(found.text, a.marks()) == set()


class TestIdempotency:
    def test_the_same_id_in_two_institutions_is_two_transactions(self, a: Bank, b: Bank) -> None:
        shared = "shared-between-institutions"
        first = a.score(shared, FRAUD)

        second = b.score(shared, FINE)

        assert first.status_code == second.status_code == 200
        assert "Idempotent-Replay" not in second.headers
        assert second.json()["decision_id"] != first.json()["decision_id"]
        assert (first.json()["outcome"], second.json()["outcome"]) == ("decline", "approve")
        assert found_in(second.text, a.marks()) == set()

    def test_repeats_find_ones_own_decision(self, a: Bank, b: Bank) -> None:
        bodies = {bank.mark: bank.transaction("repeated-by-both", FINE) for bank in (a, b)}
        firsts = {
            bank.mark: bank.call("POST", "ai_service", "/v1/score", json=bodies[bank.mark]) for bank in (a, b)
        }

        for bank in (a, b):
            again = bank.call("POST", "ai_service", "/v1/score", json=bodies[bank.mark])

            assert again.headers["Idempotent-Replay"] == "true"
            assert again.json()["decision_id"] == firsts[bank.mark].json()["decision_id"]


class TestWhatTheProductDecides:
    """No caller writes it: whose a thing is, who made it, what may be done."""

    @pytest.mark.parametrize(("name", "value"), OF_THE_PRODUCT.items())
    def test_is_not_taken_from_a_transaction(self, b: Bank, name: str, value: object) -> None:
        body = {**b.transaction("never-scored", FINE), name: value}

        answer = b.call("POST", "ai_service", "/v1/score", json=body)

        assert answer.status_code == 422
        assert b.get("ai_service", "/v1/transactions", transaction_id="never-scored").json()["items"] == []

    @pytest.mark.parametrize(("name", "value"), OF_THE_PRODUCT.items())
    def test_is_not_taken_from_a_profile(self, b: Bank, name: str, value: object) -> None:
        before = b.get("user_service", "/v1/users/me").json()

        answer = b.call("PATCH", "user_service", "/v1/users/me", json={"full_name": "Changed", name: value})

        assert answer.status_code == 422
        assert b.get("user_service", "/v1/users/me").json() == before

    @pytest.mark.parametrize("place", ["institution", "admin"])
    @pytest.mark.parametrize(("name", "value"), OF_THE_PRODUCT.items())
    def test_is_not_taken_from_a_registration(self, b: Bank, place: str, name: str, value: object) -> None:
        admin: dict[str, Any] = {"email": "new@bank.example", "password": PASSWORD, "full_name": "New"}
        body: dict[str, Any] = {"name": "New", "mode": "sandbox", "base_currency": "EUR", "admin": admin}
        (body if place == "institution" else admin)[name] = value

        answer = b.client.post(b.url("user_service", "/v1/institutions"), json=body)

        assert answer.status_code == 422

    def test_secrets_are_in_no_profile(self, b: Bank) -> None:
        found = b.get("user_service", "/v1/users/me").json()

        assert not {"password", "password_hash", "totp_secret", "email_key"} & set(found)
        assert found_in(str(found), b.secrets) == set()
