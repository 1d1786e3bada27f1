"""A small set of migrations for tests of how they are applied."""

from pathlib import Path

ENVIRONMENT = """\
from common.db import run_migrations

run_migrations(None)
"""
INITIAL = """\
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table("notes", sa.Column("number", sa.Integer, primary_key=True))
    op.execute("INSERT INTO notes VALUES (1)")
"""
SECOND = """\
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.add_column("notes", sa.Column("text", sa.String(20)))
    op.execute("UPDATE notes SET text = 'first'")
"""
BROKEN = """\
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade():
    op.execute("INSERT INTO notes VALUES (3, 'third')")
    op.execute("INSERT INTO nowhere VALUES (3)")
"""


def write_migrations(folder: Path, *versions: str) -> Path:
    """Write a migrations folder with `versions` (texts of revision files), one more each time it is called."""
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    (folder / "env.py").write_text(ENVIRONMENT)
    for number, version in enumerate(versions, start=1):
        (folder / "versions" / f"{number:04}.py").write_text(version)
    return folder
