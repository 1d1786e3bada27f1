"""Every list of every service: one way to page through it, and no cursor that was not given out."""

import pytest

from tests.openapi import APPS
from tests.security.conftest import OpenWorld
from tests.security.policy import load_policy
from tests.security.routes import Endpoint
from tests.security.tally import Tally

SERVICES = sorted(APPS)
LISTS = {
    "ai_service": {"/v1/transactions"},
    "user_service": {
        "/v1/users",
        "/v1/users/me/sessions",
        "/v1/api-keys",
        "/v1/approvals",
        "/v1/platform/approvals",
        "/v1/institutions",
        "/v1/signing-keys",
    },
    "alert_service": {"/v1/alerts"},
    "log_service": {"/v1/audit/days/{day}"},
    "external_apis_services": set(),
}
# text, numbers and ids that are not encoded, half a character, a negative number, one beyond 64 bits, nothing
CURSORS = ["zzz", "12", "key_01kafx2m7r9w3v5t8y1z4q6n0p", "A", "LTE", "OTIyMzM3MjAzNjg1NDc3NTgwOA", "é", ""]
PAGING = {"cursor", "limit", "page", "offset", "after", "before"}
# a feed for our own services: they go on from the version that they know
FEEDS = {"/v1/internal/access-feed"}


class TestLists:
    @pytest.mark.parametrize("service", SERVICES)
    def test_are_paged_in_one_way(self, service: str) -> None:
        found = {}
        for path, ways in APPS[service].openapi()["paths"].items():
            for operation in ways.values():
                names = {each["name"] for each in operation.get("parameters", ())} & PAGING
                if names and path not in FEEDS:
                    found[path] = names

        assert found == {path: {"cursor", "limit"} for path in LISTS[service]}

    @pytest.mark.parametrize("service", [name for name in SERVICES if LISTS[name]])
    async def test_refuse_cursors_that_were_not_given_out(
        self, service: str, open_world: OpenWorld, tally: Tally
    ) -> None:
        policy, tried, wrong = load_policy()[service], 0, []
        async with open_world(service) as world:
            for path in sorted(LISTS[service]):
                endpoint = Endpoint("GET", path)
                caller = next(each for each in world.callers if policy.may(each.word, endpoint))
                headers = [*caller.headers]
                first = await world.client.get(world.path(endpoint), params={"limit": 1}, headers=headers)
                assert first.json().keys() >= {"items", "next_cursor"}, path
                for cursor in CURSORS:
                    answer = await world.client.get(
                        world.path(endpoint), params={"cursor": cursor}, headers=headers
                    )
                    tried += 1
                    if answer.status_code != 422 or not answer.json()["type"].endswith(":cursor-invalid"):
                        wrong.append(f"{path} {cursor!r}: {answer.status_code} {answer.text[:120]}")

        tally.add("cursors that were not given out", tried, wrong)
        assert wrong == []
