from common.db import run_migrations
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

# importing them declares their tables
FEATURES = (
    institution_tables,
    user_tables,
    session_tables,
    second_factor_tables,
    attempt_tables,
    signing_key_tables,
    mailed_token_tables,
    account_task_tables,
    registration_tables,
    api_key_tables,
    access_tables,
    event_tables,
    notice_tables,
    approval_tables,
    changes,
    numbering,
    outbox,
)

run_migrations(Base.metadata)
