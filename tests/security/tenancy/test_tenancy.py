"""Tenancy in the product's own code: who may work for all, and that each single scope is missed when it is gone."""

import ast
from pathlib import Path

import pytest
from sqlalchemy import MetaData, Table

from ai_service.changes import metadata as changes_metadata
from ai_service.ml.tables import metadata as models_metadata
from ai_service.scoring.tables import metadata as ai_metadata
from ai_service.usage.tables import metadata as usage_metadata
from alert_service.tables import metadata as alert_metadata
from common.tenancy import COLUMN, is_of_tenants
from log_service.archive.tables import metadata as log_metadata
from tests.security.tenancy import ai_checks, alert_checks, log_checks, user_checks
from tests.security.tenancy.reasons import REASONS, TABLES_OF_NOBODY
from tests.security.tenancy.sites import Site, calls_of, neutralised, product_trees
from tests.security.tenancy.worlds import World, copied, failing
from user_service import bootstrap  # noqa: F401 - all tables are declared once it is there
from user_service.tables import Base

WORLDS: dict[str, World] = {
    "ai_service": ai_checks.WORLD,
    "alert_service": alert_checks.WORLD,
    "log_service": log_checks.WORLD,
    "user_service": user_checks.WORLD,
}
SCHEMAS: dict[str, tuple[MetaData, ...]] = {
    "ai_service": (ai_metadata, usage_metadata, changes_metadata, models_metadata),
    "alert_service": (alert_metadata,),
    "log_service": (log_metadata,),
    "user_service": (Base.metadata,),
}
CHECKED_IN = {"common.approvals": "user_service"}
"""The service in whose database statements of `common` are checked."""
SITES = [site for site in calls_of("of_tenant") if site.module != "common.tenancy"]
FROM_MEMORY = {"get", "get_one", "merge", "refresh"}
DECLARATIONS = "tables.py"  # conditions of indexes are texts
MAY_PASS = {Path("common/db.py")}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The database of each world."""
    folder = tmp_path_factory.mktemp("worlds")
    for name, world in WORLDS.items():
        world.build(folder / f"{name}.db")
    return {name: folder / f"{name}.db" for name in WORLDS}


class TestOneInstitution:
    @pytest.mark.parametrize(
        ("service", "check"), [(name, check) for name, world in WORLDS.items() for check in world.checks]
    )
    def test_never_reaches_what_another_has(
        self, service: str, check: str, built: dict[str, Path], tmp_path: Path
    ) -> None:
        with copied(built[service], tmp_path / "copy.db") as url:
            WORLDS[service].checks[check](url)


class TestTakingOneScopeAway:
    """The mutation test: without the condition of any single statement, a check above fails."""

    @pytest.mark.parametrize("site", SITES, ids=str)
    def test_is_noticed(self, site: Site, built: dict[str, Path], tmp_path: Path) -> None:
        with neutralised(site):
            noticed_by = failing(WORLDS[checked_in(site)], built[checked_in(site)], tmp_path / "copy.db")

        assert noticed_by, f"no check in tests/security/tenancy/ notices when {site} is of all institutions"

    def test_every_service_with_a_database_has_scopes(self) -> None:
        assert {checked_in(site) for site in SITES} == set(WORLDS)


class TestStatementsForAll:
    def test_have_a_reason_that_is_listed(self) -> None:
        found: dict[str, dict[str, set[str]]] = {}
        for site in calls_of("of_every_tenant"):
            assert site.reason, f"{site}: the reason is a text, or a constant of its module"
            found.setdefault(site.module, {}).setdefault(site.reason, set()).add(site.function)

        assert found == REASONS


class TestSchemas:
    @pytest.mark.parametrize("service", SCHEMAS)
    def test_every_table_is_of_tenants_or_listed_as_of_nobody(self, service: str) -> None:
        of_nobody = {table.name for table in tables_of(service) if not is_of_tenants(table)}

        assert of_nobody == set(TABLES_OF_NOBODY[service])

    @pytest.mark.parametrize("service", SCHEMAS)
    def test_no_row_is_without_an_institution(self, service: str) -> None:
        for table in tables_of(service):
            if COLUMN in table.c:
                column = table.c[COLUMN]
                assert not column.nullable, table.name
                assert (column.default, column.server_default) == (None, None), table.name


class TestRawAccess:
    def test_nothing_goes_past_the_guard(self) -> None:
        """SQL as text, and ORM look-ups that may answer from memory, are not seen by it."""
        found = [
            f"{path}:{node.lineno}"
            for path, tree in product_trees()
            if path not in MAY_PASS and path.name != DECLARATIONS
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and _is_raw(node.func)
        ]

        assert found == []


def checked_in(site: Site) -> str:
    """Return the service whose checks a statement must pass."""
    return CHECKED_IN.get(site.module, site.service)


def tables_of(service: str) -> list[Table]:
    """Return all tables of a service's database."""
    return [table for schema in SCHEMAS[service] for table in schema.tables.values()]


def _is_raw(called: ast.expr) -> bool:
    if isinstance(called, ast.Name):
        return called.id == "text"
    if not isinstance(called, ast.Attribute):
        return False
    on_a_session = isinstance(called.value, ast.Name) and called.value.id == "session"
    return called.attr == "exec_driver_sql" or (on_a_session and called.attr in FROM_MEMORY)
