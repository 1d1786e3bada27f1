"""What the parts of the stack inherit from whoever starts it."""

import pytest

from local_stack.settings import inherited_environment

NOBODY = "http://127.0.0.1:9"


class TestInheritedEnvironment:
    @pytest.fixture(autouse=True)
    def behind_a_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", NOBODY)

    def test_no_proxy_stands_between_the_parts(self) -> None:
        environment = inherited_environment()

        assert environment["HTTP_PROXY"] == NOBODY
        assert environment["NO_PROXY"] == environment["no_proxy"] == "127.0.0.1,localhost"

    @pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
    def test_what_was_reached_directly_still_is(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(name, "bank.example")

        environment = inherited_environment()

        assert environment["NO_PROXY"] == environment["no_proxy"] == "bank.example,127.0.0.1,localhost"

    def test_a_proxy_for_nothing_stays_one_for_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "*")

        assert inherited_environment()["no_proxy"] == "*"

    def test_the_account_of_a_person_at_aws_is_not_theirs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
            monkeypatch.setenv(name, "somebody's")

        assert not [name for name in inherited_environment() if name.startswith("AWS_")]
