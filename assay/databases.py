"""The databases of the services: their tables and their migrations, in the order in which they are backed up.

Senders come before receivers. What a sender had not told at the moment of its copy is in its outbox, and told again
after a restore; what it had told is known to the receiver's copy, which is later.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, Table

from ai_service.changes import metadata as announcing
from ai_service.ml.tables import metadata as models
from ai_service.scoring.tables import metadata as scoring
from ai_service.usage.tables import metadata as usage
from alert_service.alerts import tables as alert_tables
from alert_service.notices import tables as alert_notice_tables
from alert_service.notifications import tables as mail_tables
from alert_service.tables import metadata as alerting
from log_service.archive.tables import metadata as archiving
from user_service import changes, numbering, outbox
from user_service.access_changes import tables as access_tables
from user_service.account_tasks import tables as account_task_tables
from user_service.api_keys import tables as api_key_tables
from user_service.approvals import tables as approval_tables
from user_service.attempts import tables as attempt_tables
from user_service.events import tables as event_tables
from user_service.institutions import tables as institution_tables
from user_service.mailed_tokens import tables as mailed_token_tables
from user_service.notices import tables as notice_tables
from user_service.registrations import tables as registration_tables
from user_service.second_factors import tables as second_factor_tables
from user_service.sessions import tables as session_tables
from user_service.signing_keys import tables as signing_key_tables
from user_service.tables import Base
from user_service.users import tables as user_tables

PROJECT = Path(__file__).resolve().parents[1]
# importing them declares their tables
DECLARED_BY = (
    alert_tables,
    alert_notice_tables,
    mail_tables,
    institution_tables,
    user_tables,
    session_tables,
    second_factor_tables,
    attempt_tables,
    signing_key_tables,
    mailed_token_tables,
    registration_tables,
    account_task_tables,
    api_key_tables,
    access_tables,
    event_tables,
    notice_tables,
    approval_tables,
    numbering,
    outbox,
    changes,
)


@dataclass(frozen=True)
class ServiceDatabase:
    """All tables of one service, and where its migrations are."""

    service: str
    metadatas: tuple[MetaData, ...]
    migrations: Path

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """Every table, each after those its foreign keys name."""
        return tuple(table for metadata in self.metadatas for table in metadata.sorted_tables)

    @cached_property
    def revision(self) -> str:
        """Return the newest revision of the schema, which is the one the tables describe."""
        config = Config()
        config.set_main_option("script_location", str(self.migrations).replace("%", "%%"))
        return ScriptDirectory.from_config(config).get_current_head() or ""

    def knows_revision(self, revision: str) -> bool:
        """Tell whether `revision` is one of this program's, so that a copy from then can be brought up to date."""
        return any(
            path.name.startswith(f"{revision}_") for path in (self.migrations / "versions").glob("*.py")
        )


def _database(service: str, *metadatas: MetaData) -> ServiceDatabase:
    return ServiceDatabase(service, metadatas, PROJECT / service / "migrations")


DATABASES: Mapping[str, ServiceDatabase] = {
    database.service: database
    for database in (
        _database("ai_service", scoring, usage, models, announcing),
        _database("user_service", Base.metadata),
        _database("alert_service", alerting),
        _database("log_service", archiving),
    )
}
