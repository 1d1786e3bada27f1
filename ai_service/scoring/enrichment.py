"""What is learnt about a transaction before it is scored: its worth, where its address is, what came before it."""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from ai_service.clients.geoip import GeoIpClient
from ai_service.clients.rates import RatesClient
from ai_service.features.accepted import AcceptedTransaction, accept
from ai_service.features.store import VelocityStore
from ai_service.features.velocity import VelocityReading
from common.auth.principal import Principal
from common.contracts.geoip import GeoLocation, GeoStatus
from common.contracts.transactions import Transaction
from common.failpoints import failpoint

_NO_ADDRESS = GeoLocation(status=GeoStatus.UNKNOWN)


@dataclass(frozen=True)
class Enrichment:
    """Looks around before a transaction is scored."""

    rates: RatesClient
    geoip: GeoIpClient
    velocity: VelocityStore

    def accept(
        self, transaction: Transaction, caller: Principal, *, now: datetime, request_id: str
    ) -> AcceptedTransaction:
        """Return the transaction with its owner and its worth; raises `EventTimeAheadError`."""
        failpoint("score.after_auth")
        institution = caller.tenant
        return accept(
            transaction,
            institution,
            amount_base_minor=self.rates.book_for(institution.base_currency).convert(
                transaction.amount,
                transaction.currency,
                base_currency=institution.base_currency,
                at=transaction.event_time,
            ),
            now=now,
            accepted_by=caller.subject,
            request_id=request_id,
        )

    async def read(self, accepted: AcceptedTransaction) -> tuple[GeoLocation, VelocityReading]:
        """Return the location of the transaction's address and its velocity reading.

        Velocity keeps the customer's last place, so it is observed once the location is known: docs/decisions/0006.
        """
        location = await self._location(accepted.transaction.ip_address)
        velocity = self.velocity.observe(accepted, location)
        accepted.timer.lap("enrich")
        failpoint("score.after_enrichment")
        return location, velocity

    async def _location(self, address: IPv4Address | IPv6Address | None) -> GeoLocation:
        if address is None:
            return _NO_ADDRESS
        return self.geoip.cached(address) or await self.geoip.locate(address)
