"""What one institution told the product is looked for wherever another one, or somebody with the logs, could see it."""

import gzip
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.openapi import APPS
from tests.security.tenancy.banks import SERVICES, Bank, found_in
from tests.security.tenancy.conftest import NOT_DELIVERED
from tests.security.tenancy.letters import letters_to

PLACES = re.compile(r"\{[^}]+\}")
JSON_WEB_TOKEN = re.compile(r"eyJ[\w-]{20,}\.[\w-]{20,}\.[\w-]{20,}")
PRIVATE_KEY = re.compile(r"BEGIN (RSA |EC )?PRIVATE KEY")
WAYS = ("get", "post", "put", "patch", "delete")
PEOPLE = {
    *("admin's e-mail", "admin's name", "colleague's e-mail", "colleague's name"),
    *("newcomer's e-mail", "newcomer's name", "browser of a session"),
    *("API key 1's name", "API key 2's name"),
}
# B would only end its own session with these
ENDS_SESSIONS = {"/v1/auth/logout"}


def every_route() -> Iterator[tuple[str, str, str]]:
    """Yield service, method and path of every route that the services publish."""
    for service, app in APPS.items():
        for path, ways in app.openapi()["paths"].items():
            yield from ((service, way, path) for way in ways if way in WAYS and path not in ENDS_SESSIONS)


def objects_of(bank: Bank) -> list[str]:
    """Return the content of the institution's objects in the archive."""
    folder = bank.stack.files.objects
    return [
        gzip.decompress(path.read_bytes()).decode()
        for path in folder.rglob("*.ndjson.gz")
        if bank.ids["institution_id"] in path.parts
    ]


def databases(bank: Bank) -> dict[str, bytes]:
    """Return the bytes of every database file, its write-ahead log too."""
    return {path.name: path.read_bytes() for path in bank.stack.files.root.glob("*.db*") if path.is_file()}


def logs(bank: Bank) -> dict[str, str]:
    """Return what every part of the stack has printed."""
    return {path.name: path.read_text() for path in bank.stack.files.log("x").parent.glob("*.log")}


def metrics(bank: Bank) -> str:
    return "\n".join(bank.client.get(bank.url(service, "/metrics")).text for service in SERVICES)


@pytest.fixture(scope="session")
def errors(a: Bank, b: Bank) -> list[str]:
    """Both institutions make mistakes of every kind; return what the other services answered A."""
    answers = []
    for bank in (a, b):
        made_up, body = bank.made_up, bank.transaction(f"{bank.mark}-wrong", "25.00")
        wrong = [
            {**body, "amount": made_up["customer_id"]},
            {**body, made_up["metadata key"]: made_up["metadata value"]},
            {**body, "event_time": made_up["device_id"]},
            {**body, "currency": made_up["card_token"]},
        ]
        answers += [bank.call("POST", "ai_service", "/v1/score", json=each).text for each in wrong]
        login = {"email": bank.email, "password": bank.password + "-wrong"}
        answers.append(bank.client.post(bank.url("user_service", "/v1/auth/login"), json=login).text)
        for service in SERVICES:
            answers.append(
                bank.get(service, f"/v1/{made_up['customer_id']}", q=made_up["metadata value"]).text
            )
            broken = {"Content-Type": "application/json"}
            answers.append(
                bank.call("POST", service, "/v1/score", content=made_up["user_agent"], headers=broken).text
            )
    return answers


@pytest.fixture(scope="session")
def sweep(a: Bank, b: Bank) -> dict[str, str]:
    """B calls every route with A's ids in all its places, and A's values as queries and bodies."""
    answers: dict[str, str] = {}
    values = sorted({*a.ids.values(), a.made_up["transaction_id"] + "-0", a.email})
    for service, way, path in every_route():
        places = len(PLACES.findall(path))
        for chosen in product(values, repeat=places) if places < 2 else zip(values, values, strict=True):
            called = path
            for value in chosen:
                called = PLACES.sub(value.replace("/", "%2F"), called, count=1)
            body = None if way in {"get", "delete"} else {"institution_id": a.ids["institution_id"]}
            answer = b.call(
                way.upper(), service, called, json=body, params={"customer_id": a.made_up["customer_id"]}
            )
            assert answer.status_code < 500 or answer.status_code == 503, f"{way} {called}: {answer.text}"
            answers[f"{way} {path} {chosen}"] = answer.text + str(answer.headers)
    b.log_in()  # some route may have ended its session
    return answers


class TestAnotherInstitution:
    def test_has_at_least_twenty_values_to_be_found(self, a: Bank) -> None:
        own = ("/v1/users", "/v1/users/me", "/v1/users/me/sessions", "/v1/api-keys", "/v1/approvals")
        seen = a.get("ai_service", "/v1/transactions").text
        seen += "".join(a.get("user_service", path).text for path in own)

        assert len(found_in(seen, a.made_up)) == len(a.made_up) > 27

    def test_sees_none_of_them_on_any_route(self, a: Bank, b: Bank, sweep: dict[str, str]) -> None:
        assert len(sweep) > len(list(every_route()))
        leaks = {call: found for call, text in sweep.items() if (found := found_in(text, a.marks()))}

        assert leaks == {}

    def test_has_changed_nothing(self, a: Bank, sweep: dict[str, str]) -> None:
        assert sweep
        login = {"email": a.email, "password": a.password}

        assert a.client.post(a.url("user_service", "/v1/auth/login"), json=login).status_code == 200
        assert a.get("user_service", "/v1/users/me").json()["full_name"] == a.made_up["admin's name"]
        people = a.get("user_service", "/v1/users").json()["items"]
        assert [each["state"] for each in people] == ["active", "active"]
        assert [each["second_factor"] for each in people] == [False, True]
        keys = a.get("user_service", "/v1/api-keys").json()["items"]
        assert {each["state"] for each in keys} == {"active"}
        pending = a.get("user_service", f"/v1/approvals/{a.ids['pending request']}").json()
        assert pending["state"] == "pending"
        for number in range(3):
            assert a.get("ai_service", f"/v1/decisions/{a.ids[f'decision {number}']}").status_code == 200

    def test_gets_no_mail_with_them(self, a: Bank, b: Bank) -> None:
        for reader, other in ((a, b), (b, a)):
            mails = letters_to(reader.stack, reader.email)

            assert mails != []
            assert [found for mail in mails if (found := found_in(mail, other.marks()))] == []
            assert found_in("\n".join(mails), reader.made_up) != set()

    def test_has_none_of_them_in_its_archive(self, a: Bank, b: Bank) -> None:
        for owner, other in ((a, b), (b, a)):
            objects = objects_of(owner)

            assert found_in("\n".join(objects), {"own": owner.made_up["customer_id"]}) == {"own"}
            assert [found for each in objects if (found := found_in(each, other.marks()))] == []


class TestNobody:
    def test_reads_them_in_logs(self, a: Bank, b: Bank, errors: list[str], sweep: dict[str, str]) -> None:
        assert errors
        assert sweep
        written = logs(a)
        leaks = {
            (name, bank.mark): found
            for name, text in written.items()
            for bank in (a, b)
            if (found := found_in(text, {**bank.personal, **bank.secrets, **bank.mailed}))
        }

        assert {f"{service}.log" for service in SERVICES} <= set(written)
        for name in ("ai_service.log", "user_service.log"):
            assert NOT_DELIVERED in written[name]
        assert leaks == {}

    def test_reads_anything_of_an_institution_in_metrics(self, a: Bank, b: Bank, errors: list[str]) -> None:
        assert errors
        shown = metrics(a)

        assert "assay_" in shown
        assert found_in(shown, a.marks()) | found_in(shown, b.marks()) == set()

    def test_reads_their_own_words_in_errors(self, a: Bank, b: Bank, errors: list[str]) -> None:
        assert len(errors) > 20
        leaks = [found for text in errors for bank in (a, b) if (found := found_in(text, bank.marks()))]

        assert leaks == []

    def test_finds_a_secret_in_logs_metrics_or_mails(self, a: Bank, b: Bank, errors: list[str]) -> None:
        assert errors
        secrets = {
            **{
                f"{bank.mark} {name}": value
                for bank in (a, b)
                for name, value in {**bank.secrets, **bank.mailed}.items()
            },
            **stack_secrets(a),
        }
        mails = [mail for bank in (a, b) for mail in letters_to(bank.stack, bank.email)]
        for text in (*logs(a).values(), metrics(a), *mails):
            assert found_in(text, secrets) == set()
            assert JSON_WEB_TOKEN.search(text) is None
            assert PRIVATE_KEY.search(text) is None

    def test_finds_a_secret_in_a_database_file(self, a: Bank, b: Bank) -> None:
        files = databases(a)
        kept = {
            **a.secrets,
            **{f"other {name}": value for name, value in b.secrets.items()},
            **stack_secrets(a),
        }

        assert {f"{name}.db" for name in SERVICES if name != "external_apis_services"} <= set(files)
        for name, content in files.items():
            assert [secret for secret, value in kept.items() if value.encode() in content] == [], name
            assert PRIVATE_KEY.search(content.decode("latin-1")) is None, name

    def test_finds_a_person_in_an_archived_identity_record(self, a: Bank, b: Bank) -> None:
        for bank in (a, b):
            records = [each for each in objects_of(bank) if "user.invited" in each]
            about = {name: value for name, value in bank.personal.items() if name in PEOPLE}

            assert records != []
            assert len(about) == len(PEOPLE)
            assert [found for each in records if (found := found_in(each, about))] == []

    def test_finds_one_in_an_archived_object(self, a: Bank, b: Bank) -> None:
        for bank in (a, b):
            assert [found for each in objects_of(bank) if (found := found_in(each, bank.secrets))] == []


def stack_secrets(bank: Bank) -> dict[str, str]:
    """Return what the services show each other, and the passphrase of the signing keys."""
    lines = Path(bank.stack.files.secrets).read_text().splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value.strip() for name, _, value in pairs}
