"""The secrets of a stack."""

import stat
from pathlib import Path

from common.settings import MIN_SECRET_LENGTH
from local_stack import service_secrets
from local_stack.files import StackFiles


class TestLoadOrMake:
    def test_makes_long_secrets_that_differ(self, tmp_path: Path) -> None:
        made = service_secrets.load_or_make(StackFiles(tmp_path))

        assert set(made) == set(service_secrets.NAMES)
        assert all(len(secret) >= MIN_SECRET_LENGTH for secret in made.values())
        assert len(set(made.values())) == len(made)

    def test_keeps_them_where_only_this_user_can_read(self, tmp_path: Path) -> None:
        files = StackFiles(tmp_path)

        service_secrets.load_or_make(files)

        assert stat.S_IMODE(files.secrets.stat().st_mode) == 0o600

    def test_returns_the_same_ones_again(self, tmp_path: Path) -> None:
        files = StackFiles(tmp_path)

        first, second = service_secrets.load_or_make(files), service_secrets.load_or_make(files)

        assert first == second

    def test_adds_one_that_an_older_version_did_not_know(self, tmp_path: Path) -> None:
        files = StackFiles(tmp_path)
        before = service_secrets.load_or_make(files)
        lines = files.secrets.read_text().splitlines(keepends=True)
        files.secrets.write_text("".join(line for line in lines if not line.startswith("OPERATOR_SECRET")))

        after = service_secrets.load_or_make(files)

        assert after["OPERATOR_SECRET"] not in {"", before["OPERATOR_SECRET"]}
        assert {**after, "OPERATOR_SECRET": ""} == {**before, "OPERATOR_SECRET": ""}
        assert service_secrets.load_or_make(files) == after
