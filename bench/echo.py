"""The yardstick: FastAPI as everybody writes it, with the product's own request model and nothing to do.

The model has every field of `Transaction` with its type and checks. What `Transaction` prepares beyond that for the
product (its canonical form, the search for card numbers) is left out: the yardstick must not pay for it.
"""

from fastapi import FastAPI
from pydantic import create_model

from common.contracts.fields import Contract
from common.contracts.transactions import Transaction

_fields = {name: (field.annotation, field) for name, field in Transaction.model_fields.items()}
EchoedTransaction = create_model("EchoedTransaction", __base__=Contract, **_fields)  # type: ignore[call-overload]
app = FastAPI()


@app.post("/v1/score", response_model=EchoedTransaction)
async def echo(transaction: EchoedTransaction) -> object:
    """Answer with what was sent."""
    return transaction
