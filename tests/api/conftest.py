"""What every test of an API starts with."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import db
from common.db_connections import DatabaseUrl, is_sqlite, parsed


@pytest.fixture(scope="session", autouse=True)
def new_databases_are_copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A service that finds no file gets a copy of one that its migrations made once; they have tests of their own."""
    folder, really_migrate = tmp_path_factory.mktemp("migrated"), db.migrate
    made: dict[Path, Path] = {}

    def migrate(url: DatabaseUrl, *, migrations: Path, revision: str = "head") -> None:
        path = Path(parsed(url).database or "") if is_sqlite(url) else None
        if path is None or path.exists() or revision != "head":
            really_migrate(url, migrations=migrations, revision=revision)
            return
        if migrations not in made:
            file = folder / f"{len(made)}.db"
            really_migrate(f"sqlite:///{file}", migrations=migrations)
            made[migrations] = file
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made[migrations], path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(db, "migrate", migrate)
        yield
