"""A good request for each route: what is refused is refused for who is calling, and for nothing else."""

from collections.abc import Mapping
from typing import Any

from tests.alert_factories import alert_body
from tests.factories import transaction_body

WITH_BODY = {"POST", "PUT", "PATCH"}
GOOD: Mapping[str, Mapping[str, Any]] = {
    "POST /v1/score": {"json": transaction_body(transaction_id="tx-tried")},
    "POST /v1/internal/alerts": {"json": {"alerts": [alert_body(alert_id="alr_tried")]}},
    "POST /v1/internal/geoip/batch": {"json": {"ip_addresses": ["81.2.69.160"]}},
    "PUT /v1/internal/geoip/mock": {"json": {}},
    "GET /v1/internal/rates": {"params": {"base_currency": "EUR"}},
    "PATCH /v1/users/{user_id}": {"json": {"role": "analyst"}},
    "PATCH /v1/institution": {"json": {"name": "Harbour Payments"}},
    "PATCH /v1/institutions/{institution_id}": {"json": {"suspended": False}},
    "PATCH /v1/users/me": {"json": {"full_name": "Ada Okafor"}},
}
"""Requests that succeed for whoever may make them. A route that is not here, and is no GET, gets `{}`, which is enough
to see whether the caller is let through, and changes nothing."""


def parts(line: str) -> dict[str, Any]:
    """Return body and query for a route, written as `POST /v1/score`."""
    if line in GOOD:
        return dict(GOOD[line])
    return {"json": {}} if line.partition(" ")[0] in WITH_BODY else {}


def must_succeed(line: str) -> bool:
    """Say whether whoever is let through gets what they asked for."""
    return line in GOOD or line.startswith("GET ")
