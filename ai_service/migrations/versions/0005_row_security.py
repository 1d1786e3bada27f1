"""PostgreSQL shows the rows of an institution to nobody who runs for another one. SQLite knows no such thing."""

from alembic import op

from ai_service.scoring.tables import metadata as scoring
from ai_service.usage.tables import metadata as usage
from common.row_security import protect, unprotect

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    protect(op.get_bind(), scoring, usage)


def downgrade() -> None:
    unprotect(op.get_bind(), scoring, usage)
