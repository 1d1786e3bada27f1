"""The web door of user_service."""

from common.app import Service, create_app
from user_service.access.endpoints import internal as internal_access
from user_service.api_keys.endpoints import router as api_keys
from user_service.approvals_desk.endpoints import platform as platform_approvals
from user_service.approvals_desk.endpoints import router as approvals
from user_service.bootstrap import build
from user_service.institutions.administration_endpoints import own as own_institution
from user_service.institutions.administration_endpoints import router as administration
from user_service.login.endpoints import internal as internal_auth
from user_service.login.endpoints import router as auth
from user_service.login.endpoints import well_known
from user_service.members.endpoints import joining
from user_service.members.endpoints import router as members
from user_service.oauth.endpoints import router as oauth
from user_service.password_resets.endpoints import router as password_resets
from user_service.profiles.endpoints import router as users
from user_service.registrations.endpoints import router as registrations
from user_service.second_factors.endpoints import router as second_factors
from user_service.sessions.endpoints import router as sessions
from user_service.settings import UserSettings
from user_service.signing_keys.endpoints import router as signing_keys
from user_service.tenants.endpoints import internal as internal_institutions

SERVICE = Service(
    name="user_service",
    summary="Knows institutions and their users, and signs the tokens that all services accept",
    settings_type=UserSettings,
    build=build,
    routers=[
        registrations,
        administration,
        own_institution,
        auth,
        oauth,
        joining,
        password_resets,
        users,  # those of users about themselves come before those that take an id
        sessions,
        second_factors,
        members,
        api_keys,
        approvals,
        platform_approvals,
        signing_keys,
        well_known,
        internal_auth,
        internal_institutions,
        internal_access,
    ],
)
app = create_app(SERVICE)
