"""A small real service behind guarded connections, with a route that waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Request
from prometheus_client import REGISTRY

from common.admission import Admission
from common.app import create_app
from common.client_limits import ConnectionLimits
from common.connections import guarded_protocol
from common.settings import ServiceSettings
from tests.api.common.conftest import BODY_LIMIT, Tiny
from tests.raw_clients import RawClient, raw_client, request
from tests.servers import serving

SHORT = ConnectionLimits(head_s=0.2, body_s=0.2)
LIMITS = ConnectionLimits()
SLOW = "/v1/slow"
SCORED = request(SLOW, method="POST", body=b"{}")


class Service:
    """A small real service whose route `/v1/slow` waits for the gate."""

    def __init__(self, *, places: int = 1) -> None:
        self.admission = Admission(work="slow", floor=places, start=places, most=places)
        self.gate = asyncio.Event()
        self.begun = asyncio.Semaphore(0)
        self.ended = 0
        router = APIRouter()
        router.post(SLOW)(self._slow)
        router.post("/v1/headers")(self._headers)
        self._tiny = Tiny(state={"admissions": {(b"POST", SLOW.encode()): self.admission}}, routers=[router])

    async def _slow(self) -> dict[str, bool]:
        self.begun.release()
        try:
            await self.gate.wait()
        finally:
            self.ended += 1
        return {"slow": True}

    async def _headers(self, request: Request) -> dict[str, str]:
        await request.body()
        return dict(request.headers)

    @asynccontextmanager
    async def connected(self, limits: ConnectionLimits = LIMITS) -> AsyncIterator[RawClient]:
        async with self.serving(limits) as url, raw_client(url) as client:
            yield client

    @asynccontextmanager
    async def serving(
        self, limits: ConnectionLimits = LIMITS, *, keep_alive_s: int = 5
    ) -> AsyncIterator[str]:
        settings = ServiceSettings(max_body_bytes=BODY_LIMIT, _env_file=None)
        app = create_app(self._tiny.service, settings)
        async with serving(
            app, http=guarded_protocol(limits), lifespan="on", keep_alive_s=keep_alive_s
        ) as url:
            yield url


def counted(method: str, route: str, status: int) -> float:
    labels = {"method": method, "route": route, "status": str(status)}
    return REGISTRY.get_sample_value("assay_http_requests_total", labels) or 0
