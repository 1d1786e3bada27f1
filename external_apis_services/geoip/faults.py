"""Makes the mock provider slow, faulty or absent on demand, so that callers can be tested against it."""

import asyncio
from fractions import Fraction

from common.errors import UnavailableError
from external_apis_services.geoip.schemas import MockFaults


class FaultInjector:
    """Applies the faults that are set. Errors are counted, not drawn: the same calls fail in every run."""

    def __init__(self, faults: MockFaults) -> None:
        self.set(faults)

    @property
    def faults(self) -> MockFaults:
        """Return what is set now."""
        return self._faults

    def set(self, faults: MockFaults) -> None:
        """Misbehave like this from the next call on, counting anew."""
        self._faults = faults
        # a float is not exactly what was written: 0.1 means every tenth call, not almost
        self._error_rate = Fraction(str(faults.error_rate))
        self._owed = Fraction(0)

    async def strike(self) -> None:
        """Wait and fail as set; raises `UnavailableError`."""
        faults = self._faults
        fails = faults.outage or self._is_due()
        if faults.latency_ms:
            await asyncio.sleep(faults.latency_ms / 1000)
        if fails:
            raise UnavailableError("The mock GeoIP provider was told to fail.")

    def _is_due(self) -> bool:
        self._owed += self._error_rate
        if self._owed < 1:
            return False
        self._owed -= 1
        return True
