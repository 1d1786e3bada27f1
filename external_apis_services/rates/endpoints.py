"""The route that says what currencies are worth. It is for the platform's own services."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from common.auth.bearer import require_service
from common.contracts.institutions import Currency
from common.contracts.rates import RateTables
from common.contracts.tokens import Scope
from common.problems import refusals
from common.strict_json import StrictRoute
from external_apis_services.rates.service import NoRatesError, RateBook

router = APIRouter(prefix="/v1/internal", route_class=StrictRoute, tags=["rates"])


@router.get(
    "/rates",
    dependencies=[Depends(require_service(Scope.RATES_READ))],
    response_model=RateTables,
    responses=refusals(NoRatesError),
)
async def read_rates(
    request: Request, base_currency: Annotated[Currency, Query(examples=["EUR"])]
) -> Response:
    """Return all dated tables of the operator's file, oldest first, in one base currency.

    A rate is what one unit of the currency was worth in the base currency, rounded half to even to 12 significant digits.
    `is_sample` marks the made-up table that is shipped for trying things out.
    """
    book: RateBook = request.state.rates
    return Response(await book.tables_in(base_currency), media_type="application/json")
