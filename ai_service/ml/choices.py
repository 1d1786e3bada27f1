"""Which model was chosen, in the database: every choice stays, the newest one counts."""

from sqlalchemy import Connection, insert, select

from ai_service.changes import Topic, changes
from ai_service.ml.saved import ModelChoice
from ai_service.ml.tables import model_choices
from common.changes.repository import announce


def choose(connection: Connection, choice: ModelChoice, *, now_ms: int) -> None:
    """Let every process score with `choice` from now on."""
    row = insert(model_choices).values(
        name=choice.name,
        version=choice.version,
        manifest_sha256=choice.manifest_sha256,
        chosen_at_ms=now_ms,
    )
    connection.execute(row)
    announce(connection, changes, Topic.MODEL, now_ms=now_ms)


def latest_choice(connection: Connection) -> ModelChoice | None:
    """Return what was chosen last; None when nothing ever was, and the models folder says what is in use."""
    query = (
        select(model_choices.c.name, model_choices.c.version, model_choices.c.manifest_sha256)
        .order_by(model_choices.c.number.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else ModelChoice(*row)
