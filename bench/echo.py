"""The yardstick: FastAPI as everybody writes it, with the product's own request model and nothing to do."""

from fastapi import FastAPI

from common.contracts.transactions import Transaction

app = FastAPI()


@app.post("/v1/score")
async def echo(transaction: Transaction) -> Transaction:
    """Answer with what was sent."""
    return transaction
