from common.db import run_migrations
from user_service.auth import tables as auth_tables
from user_service.institutions import tables as institution_tables
from user_service.tables import Base
from user_service.users import tables as user_tables

FEATURES = (institution_tables, user_tables, auth_tables)  # importing them declares their tables

run_migrations(Base.metadata)
