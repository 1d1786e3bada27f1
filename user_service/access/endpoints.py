"""Routes by which our other services learn who may still get in, and say which keys were used."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from common.auth.bearer import require_service
from common.clock import epoch_ms
from common.contracts.access import MAX_MARK, AccessFeed, KeyUses
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.strict_json import StrictRoute
from user_service.access.service import AccessFeeds

internal = APIRouter(prefix="/v1/internal", route_class=StrictRoute, tags=["internal"])


async def _feeds(request: Request) -> AccessFeeds:
    feeds: AccessFeeds = request.state.access_feeds
    return feeds


FeedsDep = Annotated[AccessFeeds, Depends(_feeds)]


@internal.get("/access-feed", dependencies=[Depends(require_service(Scope.ACCESS_READ))])
async def read_access_feed(
    session: SessionDep,
    feeds: FeedsDep,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="the version that is known already")] = 0,
    mark: Annotated[str, Query(max_length=MAX_MARK, description="its mark, as the feed said it")] = "",
) -> AccessFeed:
    """Return what changed about institutions, API keys and sessions, at most a thousand changes at a time."""
    return await feeds.read(session, after=after, mark=mark, now_ms=epoch_ms())


@internal.post(
    "/key-uses",
    status_code=204,
    dependencies=[Depends(require_service(Scope.KEY_USE_WRITE))],
)
async def note_key_uses(uses: KeyUses, session: SessionDep, feeds: FeedsDep) -> None:
    """Take note of when API keys were last used."""
    await feeds.note_uses(session, uses, now_ms=epoch_ms())
