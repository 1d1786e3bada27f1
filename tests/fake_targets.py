"""Stand-ins for the services that ai_service calls, with switches for what goes wrong."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

GEO = {"status": "found", "country": "DE", "city": "Berlin", "latitude": 52.52, "longitude": 13.405}


@dataclass
class FakeTargets:
    """alert_service, log_service and external_apis_services in one application; it remembers what it was told."""

    alert_status: int = 202
    audit_status: int = 202
    notices_status: int = 202
    geoip_status: int = 200
    geo: dict[str, Any] = field(default_factory=lambda: dict(GEO))
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    notices: list[dict[str, Any]] = field(default_factory=list)
    geoip_asked: list[str] = field(default_factory=list)
    geoip_gate: asyncio.Event | None = None
    request_ids: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    meet: asyncio.Barrier | None = None
    told: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def app(self) -> Starlette:
        """Return the application to serve."""
        return Starlette(
            routes=[
                Route("/v1/internal/alerts", self._alerts, methods=["POST"]),
                Route("/v1/internal/audit-records", self._audit, methods=["POST"]),
                Route("/v1/internal/notices", self._notices, methods=["POST"]),
                Route("/v1/internal/geoip/{address}", self._geoip),
                Route("/v1/internal/rates", self._rates),
            ]
        )

    async def until(
        self, *, alerts: int = 0, records: int = 0, notices: int = 0, timeout_s: float = 15
    ) -> None:
        """Wait until this many have arrived."""
        async with asyncio.timeout(timeout_s), self.told:
            await self.told.wait_for(
                lambda: (
                    len(self.alerts) >= alerts
                    and len(self.records) >= records
                    and len(self.notices) >= notices
                )
            )

    async def _alerts(self, request: Request) -> Response:
        return await self._receive(request, self.alerts, "alerts", self.alert_status)

    async def _audit(self, request: Request) -> Response:
        return await self._receive(request, self.records, "records", self.audit_status)

    async def _notices(self, request: Request) -> Response:
        return await self._receive(request, self.notices, "notices", self.notices_status)

    async def _receive(
        self, request: Request, kept: list[dict[str, Any]], name: str, status: int
    ) -> Response:
        self.tokens.append(request.headers["authorization"])
        items = (await request.json())[name]
        if self.meet is not None:
            await self.meet.wait()
        if status == 202:
            async with self.told:
                kept.extend(items)
                self.told.notify_all()
        return JSONResponse({"accepted": len(items), "repeated": 0}, status_code=status)

    async def _geoip(self, request: Request) -> Response:
        self.request_ids.append(request.headers["x-request-id"])
        self.geoip_asked.append(request.path_params["address"])
        if self.geoip_gate is not None:
            await self.geoip_gate.wait()
        body = {"ip_address": request.path_params["address"], "location": self.geo}
        return JSONResponse(body, status_code=self.geoip_status)

    async def _rates(self, request: Request) -> Response:
        base = request.query_params["base_currency"]
        if base not in self.tables:
            return JSONResponse({}, status_code=404)
        return JSONResponse({"tables": self.tables[base]})
