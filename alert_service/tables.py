"""The schema of alert_service."""

from sqlalchemy import MetaData

metadata = MetaData()
