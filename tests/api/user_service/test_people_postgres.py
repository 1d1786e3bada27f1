"""What may happen at the same time, over PostgreSQL, where transactions really overlap, with two services on it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest

from common.app import create_app
from common.contracts.access import Tier
from tests.api.user_service.appointed import join, register_live
from tests.api.user_service.conftest import Admin, log_in, refresh, register
from tests.api.user_service.people import PASSPHRASE, accept, change, code_of, invite, keys
from tests.asgi import open_app
from tests.waiting import eventually
from user_service.auth.mailed_tokens import token_text
from user_service.main import SERVICE
from user_service.settings import UserSettings

Both = tuple[httpx.AsyncClient, httpx.AsyncClient]


@pytest.fixture
async def both(settings: UserSettings, postgres_url: str) -> AsyncIterator[Both]:
    many = {"password_queue": 200, "registration_tier": Tier.ENTERPRISE}  # requests at once
    chosen = settings.model_copy(update={"database_url": postgres_url, **many})
    assert chosen.signing_key_passphrase.get_secret_value() == PASSPHRASE
    async with open_app(create_app(SERVICE, chosen)) as one, open_app(create_app(SERVICE, chosen)) as other:
        yield one, other


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


async def invited_token(client: httpx.AsyncClient, admin: Admin, url: str, *, role: str = "analyst") -> str:
    await invite(client, admin, role=role)
    ((token_id,),) = rows(url, "SELECT token_id FROM notices WHERE token_id IS NOT NULL")
    return token_text(keys().mailed_tokens, token_id)


class TestAtOnce:
    async def test_twenty_refreshes_give_one_child(self, both: Both, postgres_url: str) -> None:
        admin = await register(both[0])

        answers = await asyncio.gather(*(refresh(both[n % 2], admin.refresh_token) for n in range(20)))

        assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 19}
        assert rows(postgres_url, "SELECT count(*) FROM refresh_tokens") == [(2,)]
        assert rows(postgres_url, "SELECT count(*) FROM sessions WHERE ended_at_ms IS NULL") == [(0,)]
        ended = "SELECT count(*) FROM identity_events WHERE action = 'session.ended_by_reuse'"
        assert rows(postgres_url, ended) == [(1,)]

    async def test_twenty_acceptances_let_one_in(self, both: Both, postgres_url: str) -> None:
        admin = await register(both[0])
        token = await invited_token(both[0], admin, postgres_url)

        answers = await asyncio.gather(
            *(accept(both[n % 2], token, password=f"a-quay-under-{n}-moons") for n in range(20))
        )

        assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 19}

    async def test_forty_guesses_tell_ten_answers(self, both: Both, postgres_url: str) -> None:
        admin = await register(both[0])

        answers = await asyncio.gather(
            *(log_in(both[n % 2], admin, password="not-the-password-1") for n in range(40))
        )

        async def told() -> bool:
            return rows(postgres_url, "SELECT count(*) FROM account_tasks") == [(0,)]

        await eventually(told)
        locked = "SELECT count(*) FROM identity_events WHERE action = 'account.locked'"
        assert Counter(answer.status_code for answer in answers) == {401: 10, 429: 30}
        assert rows(postgres_url, locked) == [(1,)]

    async def test_eight_logins_with_one_code_start_one_session(self, both: Both) -> None:
        admin = await register(both[0])
        begun = await both[0].post(
            "/v1/users/me/second-factor",
            headers=admin.headers,
            json={"current_password": "tide-and-lantern-42"},
        )
        secret = begun.json()["secret"]
        confirmed = await both[0].post(
            "/v1/users/me/second-factor/confirm",
            headers=admin.headers,
            json={"code": code_of(secret, steps_ahead=-1)},
        )
        code = confirmed.json()["recovery_codes"][0]
        body = {"email": admin.email, "password": "tide-and-lantern-42", "code": code}

        answers = await asyncio.gather(*(both[n % 2].post("/v1/auth/login", json=body) for n in range(8)))

        assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 7}

    async def test_two_admins_cannot_disable_each_other(self, both: Both, postgres_url: str) -> None:
        admin = await register(both[0])
        joined = await accept(both[0], await invited_token(both[0], admin, postgres_url, role="admin"))
        profile = await both[0].get(
            "/v1/users/me", headers={"Authorization": f"Bearer {joined.json()['access_token']}"}
        )
        other = Admin(
            "grace@harbour.example",
            admin.institution_id,
            profile.json()["user_id"],
            joined.json()["access_token"],
            joined.json()["refresh_token"],
        )

        answers = await asyncio.gather(
            change(both[0], admin, other.user_id, disabled=True),
            change(both[1], other, admin.user_id, disabled=True),
        )

        assert sorted(answer.status_code for answer in answers) == [200, 401]
        assert rows(postgres_url, "SELECT count(*) FROM users WHERE disabled_at_ms IS NULL") == [(1,)]

    async def test_logins_and_changes_of_role_leave_no_session_with_the_old_rights(
        self, both: Both, postgres_url: str
    ) -> None:
        admin = await register(both[0])
        await accept(both[0], await invited_token(both[0], admin, postgres_url))
        ((user_id,),) = rows(postgres_url, "SELECT user_id FROM users WHERE role = 'analyst'")
        member = Admin("grace@harbour.example", admin.institution_id, user_id, "", "")

        answers = await asyncio.gather(
            *(log_in(both[n % 2], member) for n in range(12)),
            change(both[0], admin, user_id, role="viewer"),
        )

        renewed = [
            (await both[0].post("/v1/auth/refresh", json={"refresh_token": answer.json()["refresh_token"]}))
            for answer in answers[:-1]
            if answer.status_code == 200
        ]
        going_on = [answer.json()["access_token"] for answer in renewed if answer.status_code == 200]
        shown = [
            (await both[0].get("/v1/users/me", headers={"Authorization": f"Bearer {token}"})).json()["role"]
            for token in going_on
        ]
        assert answers[-1].status_code == 200
        assert {answer.status_code for answer in answers} <= {200, 401}
        assert set(shown) <= {"viewer"}
        ended = rows(postgres_url, "SELECT session_id FROM sessions WHERE ended_at_ms IS NOT NULL")
        told = rows(postgres_url, "SELECT subject_id FROM access_changes WHERE kind = 'session'")
        assert set(ended) == set(told)

    async def test_what_ends_sessions_never_waits_for_each_other_crosswise(
        self, both: Both, postgres_url: str
    ) -> None:
        admin = await register(both[0])
        await accept(both[0], await invited_token(both[0], admin, postgres_url))
        ((user_id,),) = rows(postgres_url, "SELECT user_id FROM users WHERE role = 'analyst'")
        member = Admin("grace@harbour.example", admin.institution_id, user_id, "", "")

        for role in ("viewer", "builder", "analyst", "viewer"):
            logins = [await log_in(both[0], member) for _ in range(8)]
            answers = await asyncio.gather(
                *(
                    both[n % 2].post("/v1/auth/logout", json={"refresh_token": login.json()["refresh_token"]})
                    for n, login in enumerate(logins)
                ),
                change(both[1], admin, user_id, role=role),
                both[0].delete(f"/v1/users/{user_id}/sessions", headers=admin.headers),
            )
            assert [answer.status_code for answer in answers] == [204] * 8 + [200, 204]

    async def test_requests_for_a_second_person_and_changes_of_people_do_not_either(
        self, both: Both, settings: UserSettings, postgres_url: str
    ) -> None:
        chosen = settings.model_copy(update={"database_url": postgres_url})
        live = await register_live(both[0])
        second = await join(both[0], chosen, "sam@quay.example", institution_id=live.institution_id)
        member = await join(both[0], chosen, "tom@quay.example", institution_id=live.institution_id)
        lowered = await change(both[0], live, member.user_id, role="viewer")
        assert lowered.status_code == 200

        for _ in range(6):
            asked = await change(both[0], live, member.user_id, role="admin")
            approval = f"/v1/approvals/{asked.json()['approval_id']}"
            answers = await asyncio.gather(
                both[1].post(f"{approval}/approve", headers=second.headers),
                change(both[0], live, member.user_id, role="builder"),
                change(both[1], second, member.user_id, role="analyst"),
                invite(both[0], live, email="new@quay.example", role="admin"),
                *(log_in(both[n % 2], member) for n in range(4)),
            )
            statuses = [answer.status_code for answer in answers]
            assert statuses[:4] == [200, 200, 200, 202]
            assert set(statuses[4:]) <= {200, 401}
            waiting = f"/v1/approvals/{answers[3].json()['approval_id']}"
            others = await asyncio.gather(
                both[0].post(f"{waiting}/withdraw", headers=live.headers),
                change(both[1], second, member.user_id, role="viewer"),
                change(both[0], live, member.user_id, disabled=True),
            )
            assert [answer.status_code for answer in others] == [200, 200, 200]
            enabled = await change(both[0], live, member.user_id, disabled=False)
            assert enabled.status_code == 200

    async def test_events_are_numbered_without_gaps(self, both: Both, postgres_url: str) -> None:
        admins = [await register(both[0], email=f"ada{n}@harbour.example") for n in range(2)]
        await asyncio.gather(
            *(log_in(both[n % 2], admins[n % 3 % 2]) for n in range(12)),
            *(
                both[n % 2].request("DELETE", "/v1/users/me/sessions", headers=admins[n % 2].headers)
                for n in range(4)
            ),
        )

        found = rows(postgres_url, "SELECT institution_id, sequence, body FROM identity_events ORDER BY 1, 2")
        by_institution = Counter(institution_id for institution_id, _, _ in found)
        numbers = [(institution_id, number) for institution_id, number, _ in found]
        assert numbers == [
            (institution_id, number)
            for institution_id in sorted(by_institution)
            for number in range(1, by_institution[institution_id] + 1)
        ]
        assert all(json.loads(bytes(body))["event"]["event_sequence"] == number for _, number, body in found)
        versions = [row[0] for row in rows(postgres_url, "SELECT version FROM access_changes ORDER BY 1")]
        assert len(set(versions)) == len(versions)
