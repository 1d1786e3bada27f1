"""An institution whose quota changes within a month is warned of the new one too."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INDEX = "quota_warnings_once"
ONCE = ["institution_id", "month", "threshold"]


def upgrade() -> None:
    op.drop_index(INDEX, "quota_warnings")
    op.create_index(INDEX, "quota_warnings", [*ONCE, "quota"], unique=True)


def downgrade() -> None:
    op.drop_index(INDEX, "quota_warnings")
    _keep_the_first()
    op.create_index(INDEX, "quota_warnings", ONCE, unique=True)


def _keep_the_first() -> None:
    """Delete warnings of other quotas of the same month; those that were not told yet are told no more."""
    names = ("warning_id", *ONCE, "created_at_ms")
    warnings = sa.table("quota_warnings", *(sa.column(name) for name in names))
    outbox = sa.table("outbox", sa.column("target"), sa.column("subject_id"))
    first = warnings.alias()
    are_the_same = [first.c[name] == warnings.c[name] for name in ONCE]
    came = sa.tuple_(first.c.created_at_ms, first.c.warning_id)
    later = sa.exists().where(
        *are_the_same, came < sa.tuple_(warnings.c.created_at_ms, warnings.c.warning_id)
    )
    of_later = sa.select(warnings.c.warning_id).where(later)
    op.execute(sa.delete(outbox).where(outbox.c.target == "notices", outbox.c.subject_id.in_(of_later)))
    op.execute(sa.delete(warnings).where(later))
