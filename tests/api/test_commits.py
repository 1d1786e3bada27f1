"""Every route of every service that may change something is among those whose commits are tested."""

import pytest

from tests.api.ai_service import test_commits as ai_service
from tests.api.alert_service import test_commits as alert_service
from tests.api.log_service import test_commits as log_service
from tests.api.user_service import test_approval_commits as user_service_approvals
from tests.api.user_service import test_commits as user_service
from tests.api.user_service import test_key_commits as user_service_keys
from tests.commits import Route, changing_routes
from tests.openapi import APPS

LISTED: dict[str, set[Route]] = {
    module.__name__.split(".")[-2]: set(module.COMMITTING) | module.KEEPING_NOTHING
    for module in (ai_service, alert_service, log_service, user_service)
}
LISTED["user_service"] |= set(user_service_keys.COMMITTING)
LISTED["user_service"] |= set(user_service_approvals.COMMITTING)
# it has no database
LISTED["external_apis_services"] = {
    ("PUT", "/v1/internal/geoip/mock"),
    ("POST", "/v1/internal/geoip/batch"),
}


@pytest.mark.parametrize("name", sorted(APPS))
def test_every_route_that_may_change_something_is_listed(name: str) -> None:
    assert changing_routes(APPS[name]) == LISTED[name]
