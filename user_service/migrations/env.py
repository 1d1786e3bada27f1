from common.db import run_migrations
from user_service import numbering, outbox
from user_service.access import tables as access_tables
from user_service.account_tasks import tables as account_task_tables
from user_service.api_keys import tables as api_key_tables
from user_service.approvals import tables as approval_tables
from user_service.auth import tables as auth_tables
from user_service.events import tables as event_tables
from user_service.institutions import tables as institution_tables
from user_service.notices import tables as notice_tables
from user_service.tables import Base
from user_service.users import tables as user_tables

# importing them declares their tables
FEATURES = (
    institution_tables,
    user_tables,
    auth_tables,
    account_task_tables,
    api_key_tables,
    access_tables,
    event_tables,
    notice_tables,
    approval_tables,
    numbering,
    outbox,
)

run_migrations(Base.metadata)
