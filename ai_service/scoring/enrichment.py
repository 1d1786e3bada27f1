"""What is learnt about a transaction before it is scored: its worth, and where its address is."""

from dataclasses import dataclass
from datetime import datetime

from ai_service.clients.geoip import GeoIpClient
from ai_service.clients.rates import RatesClient
from ai_service.features.accepted import AcceptedTransaction, accept
from common.auth.access import AccessState
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
    access: AccessState

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
            access_is_stale=self.access.is_stale,
        )

    async def locate(self, accepted: AcceptedTransaction) -> GeoLocation:
        """Return the location of the transaction's address; it costs no task when it is known."""
        address = accepted.transaction.ip_address
        if address is None:
            location = _NO_ADDRESS
        else:
            location = self.geoip.cached(address) or await self.geoip.locate(address)
        accepted.timer.lap("enrich")
        return location
