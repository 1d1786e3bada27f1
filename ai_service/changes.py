"""What changes for all processes of ai_service, by topic; each announces in the transaction of its change."""

from enum import StrEnum

from sqlalchemy import MetaData

from common.changes.tables import changes_table

metadata = MetaData()
changes = changes_table(metadata)


class Topic(StrEnum):
    """What processes watch."""

    MODEL = "model"
