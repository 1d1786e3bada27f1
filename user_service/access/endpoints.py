"""Routes by which our other services learn who may still get in, and say which keys were used."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from common.auth.bearer import require_service
from common.clock import epoch_ms
from common.contracts.access import AccessFeed, KeyUses
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.strict_json import StrictRoute
from user_service.access.service import AccessFeeds

_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No valid access token"},
    403: {"description": "Not a service token, or one without the scope"},
    503: {"description": "The database is away; see Retry-After"},
}
internal = APIRouter(prefix="/v1/internal", route_class=StrictRoute, tags=["internal"])


async def _feeds(request: Request) -> AccessFeeds:
    feeds: AccessFeeds = request.state.access_feeds
    return feeds


FeedsDep = Annotated[AccessFeeds, Depends(_feeds)]


@internal.get("/access-feed", dependencies=[Depends(require_service(Scope.ACCESS_READ))], responses=_REFUSALS)
async def read_access_feed(
    session: SessionDep,
    feeds: FeedsDep,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="the version that is known already")] = 0,
) -> AccessFeed:
    """Return what changed about institutions, API keys and sessions, at most a thousand changes at a time."""
    return await feeds.read(session, after=after, now_ms=epoch_ms())


@internal.post(
    "/key-uses",
    status_code=204,
    dependencies=[Depends(require_service(Scope.KEY_USE_WRITE))],
    responses={**_REFUSALS, 400: {"description": "The body is not JSON that is read here"}},
)
async def note_key_uses(uses: KeyUses, session: SessionDep, feeds: FeedsDep) -> None:
    """Take note of when API keys were last used."""
    await feeds.note_uses(session, uses, now_ms=epoch_ms())
