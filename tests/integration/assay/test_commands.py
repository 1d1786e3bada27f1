"""What cron and people get from the command: a status, plain words, and no half-made file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay.databases import DATABASES
from local_stack.child import PROJECT
from tests.integration.assay.filling import filled
from tests.waiting import PATIENCE_S

PASSPHRASE = "correct horse battery"


@pytest.fixture
def var(tmp_path: Path) -> Path:
    for service, database in DATABASES.items():
        filled(database, f"sqlite:///{tmp_path / 'var' / service}.db", rows=2)
    return tmp_path / "var"


def assay(*command: object, **environment: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "assay", *map(str, command)],
        cwd=PROJECT,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


class TestBackupCommand:
    def test_makes_a_file_keeps_the_newest_and_verifies_it(self, var: Path, tmp_path: Path) -> None:
        folder = tmp_path / "backups"

        made = assay("backup", folder, "--keep", 1, VAR_DIR=var, BACKUP_PASSPHRASE=PASSPHRASE)
        (file,) = folder.iterdir()
        verified = assay("backup", "--verify", file, BACKUP_PASSPHRASE=PASSPHRASE)
        refused = assay("backup", "--verify", file, BACKUP_PASSPHRASE="another horse battery")

        assert (made.returncode, made.stderr) == (0, "")
        assert "not encrypted" not in made.stdout
        assert verified.returncode == 0
        assert "ai_service" in verified.stdout
        assert refused.returncode == 1
        assert "not the passphrase" in refused.stderr
        assert "Traceback" not in refused.stderr

    def test_keeps_what_it_made_when_the_clock_went_back(self, var: Path, tmp_path: Path) -> None:
        folder = tmp_path / "backups"
        folder.mkdir()
        for year in (2098, 2099):
            file = folder / f"assay-{year}0101T000000Z.tar.encrypted"
            assay("backup", file, VAR_DIR=var, BACKUP_PASSPHRASE=PASSPHRASE)

        made = assay("backup", folder, "--keep", 2, VAR_DIR=var, BACKUP_PASSPHRASE=PASSPHRASE)

        kept = sorted(path.name for path in folder.iterdir())
        assert made.returncode == 0
        assert "assay-20990101T000000Z.tar.encrypted says that it is from the future" in made.stderr
        assert len(kept) == 2
        assert kept[0] < "assay-2098"
        assert kept[1] == "assay-20990101T000000Z.tar.encrypted"

    def test_of_a_folder_without_databases_fails_and_leaves_nothing(self, tmp_path: Path) -> None:
        failed = assay("backup", tmp_path / "backups", VAR_DIR=tmp_path / "nothing")

        assert failed.returncode == 1
        assert "There is no file" in failed.stderr
        assert list((tmp_path / "backups").iterdir()) == []

    def test_says_which_settings_are_missing(self) -> None:
        failed = assay("backup", AI_SERVICE_DATABASE_URL="postgresql://assay:secret@127.0.0.1:1/ai_service")

        assert failed.returncode == 1
        assert "LOG_SERVICE_DATABASE_URL" in failed.stderr

    def test_never_shows_a_password(self, tmp_path: Path) -> None:
        url = "postgresql://assay:very-secret@127.0.0.1:1/x"
        failed = assay(
            "backup", tmp_path / "b", **{f"{service.upper()}_DATABASE_URL": url for service in DATABASES}
        )

        assert failed.returncode == 1
        assert "very-secret" not in failed.stdout + failed.stderr

    def test_takes_models_of_any_name(self, var: Path, tmp_path: Path) -> None:
        (var / "models").mkdir()
        (var / "models" / "modèle-模型.txt").write_text("a model")

        made = assay("backup", tmp_path / "b.tar", VAR_DIR=var)
        assay("restore", tmp_path / "b.tar", VAR_DIR=tmp_path / "new")

        assert (made.returncode, made.stderr) == (0, "")
        assert (tmp_path / "new" / "models" / "modèle-模型.txt").read_text() == "a model"

    def test_says_which_file_of_rules_is_missing(self, var: Path, tmp_path: Path) -> None:
        failed = assay("backup", tmp_path / "b.tar", VAR_DIR=var, RULES_FILE=tmp_path / "nope.yaml")

        assert failed.returncode == 1
        assert f"{tmp_path / 'nope.yaml'} cannot be read: No such file" in failed.stderr


NAMED = {f"{service.upper()}_DATABASE_URL": f"sqlite:////nowhere/{service}.db" for service in DATABASES}
MOVE = ("move", "--from", "sqlite:////nowhere/x.db", "--to")


class TestPlainWords:
    @pytest.mark.parametrize(
        ("command", "told", "said"),
        [
            ((*MOVE, "postgresql://a:very-secret@127.0.0.1:port/x"), {}, "--to is no address"),
            ((*MOVE, "mysql://a:very-secret@127.0.0.1/x"), {}, "--to names a database of mysql"),
            (("move", "--to", "mysql://a:very-secret@127.0.0.1"), {}, "--to names a database of mysql"),
            ((*MOVE, "postgresql://a:very-secret@127.0.0.1"), {}, "names a database or a file"),
            (
                ("backup",),
                NAMED | {"AI_SERVICE_DATABASE_URL": "very-secret"},
                "AI_SERVICE_DATABASE_URL is no",
            ),
            (("backup",), NAMED | {"S3_ADDRESSING_STYLE": "bad"}, "S3_ADDRESSING_STYLE:"),
            (("backup",), {"PORT_OFFSET": "abc"}, "PORT_OFFSET:"),
            (("backup",), {"SETTINGS_FILE": "/nowhere/assay.env"}, "does not exist: /nowhere/assay.env"),
        ],
    )
    def test_say_what_is_wrong_with_what_was_told(
        self, command: tuple[str, ...], told: dict[str, str], said: str, tmp_path: Path
    ) -> None:
        failed = assay(*command, **{"VAR_DIR": tmp_path, **told})

        assert failed.returncode == 1
        assert said in failed.stderr
        assert "Traceback" not in failed.stderr
        assert "very-secret" not in failed.stdout + failed.stderr

    def test_say_that_a_file_holds_no_passphrase(self, tmp_path: Path) -> None:
        (tmp_path / "passphrase").write_bytes(b"\xff\xfe\xe4 a passphrase\n")

        failed = assay(
            "backup", tmp_path, "--passphrase-file", tmp_path / "passphrase", VAR_DIR=tmp_path / "nothing"
        )

        assert failed.returncode == 1
        assert "is no text in UTF-8" in failed.stderr
        assert "Traceback" not in failed.stderr


class TestRestoreCommand:
    def test_brings_a_stack_back_and_says_what_to_do_next(self, var: Path, tmp_path: Path) -> None:
        assay("backup", tmp_path / "b.tar", VAR_DIR=var)

        done = assay("restore", tmp_path / "b.tar", VAR_DIR=tmp_path / "new")

        assert (done.returncode, done.stderr) == (0, "")
        assert "make run" in done.stdout
        assert "valid again" in done.stdout
        assert (tmp_path / "new" / "ai_service.db").is_file()

    def test_of_no_backup_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_text("hello")

        failed = assay("restore", tmp_path / "x.tar", VAR_DIR=tmp_path / "new")

        assert failed.returncode == 1
        assert "cut off" in failed.stderr
        assert not (tmp_path / "new").exists()
