"""The model changes while the service runs; where the chosen one is missing, the one before goes on and says so."""

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ai_service.bootstrap import MIGRATIONS
from ai_service.ml.choices import choose
from ai_service.ml.registry import CURRENT
from ai_service.ml.saved import ModelChoice, saved_models
from ai_service.only_process import AlreadyRunningError
from ai_service.use_model import main
from common.changes import watch
from common.db import migrate, writing_engine
from tests.api.ai_service.conftest import Ai, OpenAi
from tests.models import FRAUD, save_test_model
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for changes often, so that tests do not wait."""
    monkeypatch.setattr(watch, "POLL_S", 0.05)


@pytest.fixture
def two_models(tmp_path: Path) -> Path:
    """Versions 1 and 2 of a model; the folder names the first as its current one."""
    folder = tmp_path / "models"
    save_test_model(folder, version="1")
    current = (folder / CURRENT).read_bytes()
    save_test_model(folder, version="2")
    (folder / CURRENT).write_bytes(current)
    return folder


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ai.db"


def choose_version(url: str, models_dir: Path, version: str) -> None:
    """Choose a saved model as another process does."""
    (choice,) = [each for each in saved_models(models_dir) if each.version == version]
    put(url, choice)


def put(url: str, choice: ModelChoice) -> None:
    migrate(url, migrations=MIGRATIONS)
    engine = writing_engine(url)
    with closing(engine.raw_connection()), engine.begin() as connection:
        choose(connection, choice, now_ms=1)
    engine.dispose()


async def model_details(ai: Ai) -> dict[str, Any]:
    response = await ai.client.get("/ready")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()["details"]["model"]
    return found


async def shows(ai: Ai, **wanted: str | None) -> bool:
    return await model_details(ai) == wanted


async def metric(ai: Ai, name: str) -> float:
    lines = (await ai.client.get("/metrics")).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} "))


class TestSwitching:
    async def test_scores_with_the_folders_own_model_until_one_is_chosen(
        self, open_ai: OpenAi, two_models: Path, url: str
    ) -> None:
        async with open_ai(models_dir=two_models) as ai:
            before = (await ai.score(transaction_id="before", amount=FRAUD)).json()
            choose_version(url, two_models, "2")
            await eventually(lambda: shows(ai, in_use="test/2", not_loaded=None))
            after = (await ai.score(transaction_id="after", amount=FRAUD)).json()
            explained = await ai.get(f"/v1/decisions/{before['decision_id']}?explain=true")

        assert (before["model"]["version"], after["model"]["version"]) == ("1", "2")
        assert before["fraud_probability"] == after["fraud_probability"]  # trained alike
        assert explained.status_code == 200

    async def test_begins_with_the_chosen_one(self, open_ai: OpenAi, two_models: Path, url: str) -> None:
        choose_version(url, two_models, "2")

        async with open_ai(models_dir=two_models) as ai:
            assert await shows(ai, in_use="test/2", not_loaded=None)


class TestAModelThatIsNotHere:
    async def test_leaves_the_one_before_in_use_until_it_comes(
        self, open_ai: OpenAi, two_models: Path, url: str, tmp_path: Path
    ) -> None:
        async with open_ai(models_dir=two_models) as ai:
            (choice,) = [each for each in saved_models(two_models) if each.version == "2"]
            shutil.move(two_models / "test" / "2", tmp_path / "elsewhere")
            put(url, choice)
            await eventually(lambda: shows(ai, in_use="test/1", not_loaded="test/2"))
            meanwhile = await ai.score(transaction_id="meanwhile")
            shown = await metric(ai, "assay_model_not_loaded")
            shutil.move(tmp_path / "elsewhere", two_models / "test" / "2")
            await eventually(lambda: shows(ai, in_use="test/2", not_loaded=None))

            assert meanwhile.json()["model"]["version"] == "1"
            assert shown == 1
            assert await metric(ai, "assay_model_not_loaded") == 0

    async def test_lets_a_service_begin_with_the_folders_own(
        self, open_ai: OpenAi, two_models: Path, url: str, tmp_path: Path
    ) -> None:
        choose_version(url, two_models, "2")
        shutil.move(two_models / "test" / "2", tmp_path / "elsewhere")
        async with open_ai(models_dir=two_models) as ai:
            first = await model_details(ai)
            shutil.move(tmp_path / "elsewhere", two_models / "test" / "2")
            await eventually(lambda: shows(ai, in_use="test/2", not_loaded=None))

        assert first == {"in_use": "test/1", "not_loaded": "test/2"}

    async def test_is_not_another_one_of_the_same_name(
        self, open_ai: OpenAi, two_models: Path, url: str
    ) -> None:
        async with open_ai(models_dir=two_models) as ai:
            put(url, ModelChoice("test", "2", "0" * 64))

            await eventually(lambda: shows(ai, in_use="test/1", not_loaded="test/2"))


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def told(self, monkeypatch: pytest.MonkeyPatch, two_models: Path, url: str) -> None:
        monkeypatch.setenv("MODELS_DIR", str(two_models))
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("SETTINGS_FILE", "/dev/null")

    def run(self, *arguments: str) -> tuple[int, str]:
        import typer

        app = typer.Typer()
        app.command()(main)
        found = CliRunner().invoke(app, list(arguments))
        return found.exit_code, found.output

    def test_lists_chooses_and_lists_again(self) -> None:
        before = self.run("--list")
        chosen = self.run("test/2")
        after = self.run("--list")

        nobody = "None was chosen: each process uses the one that current.json of MODELS_DIR names."
        assert before == (0, f"  test/1\n  test/2\n{nobody}\n")
        assert chosen == (0, "Every process scores with test/2 within seconds.\n")
        assert after == (0, "  test/1\n* test/2\n")

    def test_refuses_what_is_not_saved(self) -> None:
        assert self.run("3") == (1, "No saved model is called 3; --list shows them.\n")

    def test_refuses_what_does_not_load_and_leaves_the_choice(self, two_models: Path) -> None:
        arrays = two_models / "test" / "2" / "arrays.npz"
        arrays.write_bytes(arrays.read_bytes()[:-1])

        code, said = self.run("2")

        assert code == 1
        assert "was changed after it was saved" in said
        assert "*" not in self.run("--list")[1]


class TestOnlyOneProcess:
    async def test_may_keep_velocity_over_a_postgres_whatever_its_snapshot_is_called(
        self, open_ai: OpenAi, postgres_url: str, tmp_path: Path
    ) -> None:
        async with open_ai(database_url=postgres_url):
            other = tmp_path / "other.npz"
            with pytest.raises(AlreadyRunningError, match="already uses this database"):
                async with open_ai(database_url=postgres_url, velocity_snapshot=other):
                    pytest.fail("there are two")

        async with open_ai(database_url=postgres_url, velocity_snapshot=tmp_path / "other.npz") as after:
            assert (await after.client.get("/ready")).json()["checks"]["only_process"] is True

    async def test_is_not_needed_where_valkey_is_shared(
        self, open_ai: OpenAi, postgres_url: str, valkey_url: str
    ) -> None:
        shared = {"database_url": postgres_url, "valkey_url": valkey_url}
        async with open_ai(**shared) as first, open_ai(**shared) as second:
            scored = [await ai.score(transaction_id="tx-1") for ai in (first, second)]

        assert scored[0].json()["decision_id"] == scored[1].json()["decision_id"]
