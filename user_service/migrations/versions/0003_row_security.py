"""PostgreSQL shows the rows of an institution to nobody who runs for another one. SQLite knows no such thing."""

from alembic import op

from common.row_security import protect, unprotect
from user_service.tables import Base

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    protect(op.get_bind(), Base.metadata)


def downgrade() -> None:
    unprotect(op.get_bind(), Base.metadata)
