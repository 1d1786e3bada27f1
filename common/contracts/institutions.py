"""Who a request is made for, as far as every service needs to know it."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator

from common.contracts.currencies import EXPONENTS
from common.contracts.fields import Contract, Identifier


def _existing_currency(code: str) -> str:
    if code not in EXPONENTS:
        message = "this is not an active ISO 4217 code"
        raise ValueError(message)
    return code


Currency = Annotated[str, AfterValidator(_existing_currency)]
"""An active ISO 4217 code."""


class InstitutionMode(StrEnum):
    """A live institution's decisions touch money; a sandbox one's do not."""

    LIVE = "live"
    SANDBOX = "sandbox"


class Institution(Contract):
    """The tenant a request belongs to, as its token states it."""

    institution_id: Identifier
    mode: InstitutionMode
    base_currency: Currency


class Recipients(Contract):
    """Where an institution's alerts go: the addresses of its admins."""

    institution_id: Identifier
    institution_name: str
    emails: tuple[str, ...]
