"""The same as in test_commits for routes of operators and for those that need a second person."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
import pytest

from tests.api.user_service.appointed import join, register_live
from tests.api.user_service.conftest import Admin
from tests.commits import Ask, Route, check_commit_comes_first, check_failed_commit_is_an_outage
from user_service.settings import UserSettings


@dataclass(frozen=True)
class People:
    """Two admins of a live institution, two operators, and their service."""

    client: httpx.AsyncClient
    first: Admin
    second: Admin
    operator: Admin
    other_operator: Admin


@pytest.fixture
async def people(client: httpx.AsyncClient, settings: UserSettings) -> People:
    first = await register_live(client)
    second = await join(client, settings, "sam@quay.example", institution_id=first.institution_id)
    operators = [await join(client, settings, f"op{number}@platform.example") for number in range(2)]
    return People(client, first, second, *operators)


async def rotation(people: People) -> Ask:
    return lambda: people.client.post("/v1/signing-keys/rotations", headers=people.operator.headers)


async def change_of_an_institution(people: People) -> Ask:
    return lambda: people.client.patch(
        f"/v1/institutions/{people.first.institution_id}",
        headers=people.operator.headers,
        json={"tier": "growth", "suspended": True},
    )


async def change_of_the_own_institution(people: People) -> Ask:
    return lambda: people.client.patch(
        "/v1/institution", headers=people.first.headers, json={"name": "Quay and Sons"}
    )


def deciding(how: str) -> Callable[[People], Awaitable[Ask]]:
    async def prepare(people: People) -> Ask:
        asked = await people.client.post(
            "/v1/users",
            headers=people.first.headers,
            json={"email": "new@quay.example", "full_name": "New Person", "role": "admin"},
        )
        who = people.first if how == "withdraw" else people.second
        address = f"/v1/approvals/{asked.json()['approval_id']}/{how}"
        return lambda: people.client.post(address, headers=who.headers)

    return prepare


COMMITTING: dict[Route, Callable[[People], Awaitable[Ask]]] = {
    ("POST", "/v1/signing-keys/rotations"): rotation,
    ("PATCH", "/v1/institutions/{institution_id}"): change_of_an_institution,
    ("PATCH", "/v1/institution"): change_of_the_own_institution,
    ("POST", "/v1/approvals/{approval_id}/approve"): deciding("approve"),
    ("POST", "/v1/approvals/{approval_id}/refuse"): deciding("refuse"),
    ("POST", "/v1/approvals/{approval_id}/withdraw"): deciding("withdraw"),
}


@pytest.mark.parametrize("route", COMMITTING, ids=" ".join)
class TestCommit:
    async def test_comes_before_the_first_byte_of_the_answer(self, people: People, route: Route) -> None:
        await check_commit_comes_first(people.client, await COMMITTING[route](people))

    async def test_that_fails_is_an_outage_after_which_the_same_request_succeeds(
        self, people: People, route: Route
    ) -> None:
        ask = await COMMITTING[route](people)
        await check_failed_commit_is_an_outage(ask)

        again = await ask()

        assert again.is_success, again.text
