from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from alert_service.bootstrap import MIGRATIONS
from alert_service.notifications.directory import RecipientDirectory
from common.auth.service_tokens import ServiceTokens
from common.contracts.tokens import ServiceTokenRequest
from common.db import migrate, writing_engine
from common.writer import DatabaseWriter

Answer = Callable[[], httpx.Response]


class UserService:
    """Answers with whatever `answer` makes, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Answer = admins("a@example.org")

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(200, json={"access_token": "token", "expires_in": 900})
        self.asked.append(request.url.raw_path.decode())
        return self.answer()


def admins(*emails: str, institution_id: str = "ins_1") -> Answer:
    body = {"institution_id": institution_id, "institution_name": "Bank", "emails": emails}
    return lambda: httpx.Response(200, json=body)


def status(code: int) -> Answer:
    return lambda: httpx.Response(code, json={})


@pytest.fixture
def user_service() -> UserService:
    return UserService()


@pytest.fixture
async def open_directory(
    tmp_path: Path, user_service: UserService
) -> AsyncIterator[Callable[[int], RecipientDirectory]]:
    url = f"sqlite:///{tmp_path}/alerts.db"
    migrate(url, migrations=MIGRATIONS)
    writer = DatabaseWriter(writing_engine(url))
    async with httpx.AsyncClient(
        transport=httpx.MockTransport(user_service), base_url="http://user_service"
    ) as client:
        credentials = ServiceTokenRequest(client_id="alert_service", client_secret=SecretStr("secret"))
        tokens = ServiceTokens(client, credentials=credentials)
        await tokens.renew()
        yield lambda max_age_ms: RecipientDirectory(writer, client, tokens, max_age_ms=max_age_ms)
    await writer.close()


async def found(directory: RecipientDirectory, institution_id: str = "ins_1") -> tuple[str, ...] | None:
    recipients = await directory.recipients_of(institution_id)
    return None if recipients is None else recipients.emails


OpenDirectory = Callable[[int], RecipientDirectory]


class TestRecipientDirectory:
    async def test_a_young_copy_is_used_without_asking(
        self, open_directory: OpenDirectory, user_service: UserService
    ) -> None:
        directory = open_directory(60_000)

        assert await found(directory) == await found(directory) == ("a@example.org",)
        assert len(user_service.asked) == 1

    async def test_an_old_copy_is_asked_for_again(
        self, open_directory: OpenDirectory, user_service: UserService
    ) -> None:
        directory = open_directory(0)
        await found(directory)

        user_service.answer = admins("b@example.org")

        assert await found(directory) == ("b@example.org",)

    @pytest.mark.parametrize(
        "away",
        [
            status(503),
            status(403),
            lambda: httpx.Response(200, text="garbage"),
            admins(institution_id="ins_2"),
        ],
    )
    async def test_without_a_good_answer_the_copy_is_used_and_the_next_mails_do_not_wait(
        self, open_directory: OpenDirectory, user_service: UserService, away: Answer
    ) -> None:
        directory = open_directory(0)
        await found(directory)
        user_service.answer = away

        assert await found(directory) == await found(directory) == ("a@example.org",)
        assert len(user_service.asked) == 2

    async def test_the_copy_outlives_the_process(
        self, open_directory: OpenDirectory, user_service: UserService
    ) -> None:
        await found(open_directory(0))
        user_service.answer = status(503)

        assert await found(open_directory(0)) == ("a@example.org",)

    async def test_without_a_copy_nobody_is_known_and_it_is_asked_each_time(
        self, open_directory: OpenDirectory, user_service: UserService
    ) -> None:
        user_service.answer = status(503)
        directory = open_directory(60_000)

        assert await found(directory) is None
        assert await found(directory) is None
        assert len(user_service.asked) == 2

    async def test_an_institution_that_is_gone_has_nobody(
        self, open_directory: OpenDirectory, user_service: UserService
    ) -> None:
        directory = open_directory(0)
        await found(directory)

        user_service.answer = status(404)

        assert await found(directory) == ()

    async def test_an_id_stays_one_part_of_the_path(
        self, open_directory: OpenDirectory, user_service: UserService
    ) -> None:
        user_service.answer = admins("evil@example.org")

        assert await found(open_directory(0), "../ins_1/recipients?x=") is None
        assert user_service.asked == ["/v1/internal/institutions/..%2Fins_1%2Frecipients%3Fx%3D/recipients"]
