"""Two institutions on one real stack. What one of them tells the product is full of values nobody else has."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx

from common.clock import utc_now
from local_stack.stack import Stack
from tests.models import DOUBTFUL, FINE, FRAUD
from tests.waiting import PATIENCE_S

SERVICES = ("user_service", "ai_service", "alert_service", "log_service", "external_apis_services")
Answer = httpx.Response


@dataclass
class Bank:
    """An institution with its first admin. `mark` is in every value it makes up."""

    stack: Stack
    mark: str
    ids: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    mailed: dict[str, str] = field(default_factory=dict, repr=False)
    """Secrets that alert_service keeps until they are mailed."""

    @cached_property
    def client(self) -> httpx.Client:
        """One client for all services; the paths are whole addresses."""
        headers = {"User-Agent": self.made_up["browser of a session"]}
        return httpx.Client(timeout=PATIENCE_S, trust_env=False, headers=headers)

    @property
    def email(self) -> str:
        return f"{self.mark}-admin@bank.example"

    @property
    def password(self) -> str:
        return f"{self.mark}-lantern-and-tide-77"

    @property
    def made_up(self) -> dict[str, str]:
        """Return every value that only this institution has told anybody."""
        mark = self.mark
        return {
            "institution name": f"{mark} Savings Bank",
            "admin's e-mail": self.email,
            "admin's name": f"{mark} Okafor",
            "browser of a session": f"{mark}-laptop/1.0",
            "API key 1's name": f"{mark} checkout",
            "API key 2's name": f"{mark} warehouse",
            "colleague's e-mail": f"{mark}-colleague@bank.example",
            "colleague's name": f"{mark} Adeyemi",
            "newcomer's e-mail": f"{mark}-newcomer@bank.example",
            "newcomer's name": f"{mark} Lindqvist",
            "transaction_id": f"{mark}-tx",
            "customer_id": f"{mark}-customer",
            "account_id": f"{mark}-account",
            "session_id": f"{mark}-session",
            "merchant_id": f"{mark}-merchant",
            "merchant_category": f"{mark}-category",
            "counterparty_id": f"{mark}-iban",
            "card_token": f"{mark}-card",
            "device_id": f"{mark}-device",
            "user_agent": f"{mark}-browser/1.0",
            "customer's e-mail": f"{mark}-customer@mail.example",
            "phone_number": "+49" + "".join(str(ord(letter) % 10) for letter in mark) + "77",
            "city": f"{mark}-city",
            "billing city": f"{mark}-billing-city",
            "shipping region": f"{mark}-region",
            "original_transaction_id": f"{mark}-original",
            "metadata key": f"{mark}_key",
            "metadata value": f"{mark}-value",
        }

    @property
    def personal(self) -> dict[str, str]:
        """Return what may be in no log and no metric, not even as this institution's own."""
        ours = {"transaction_id"}  # ids that callers make up to be found again in logs
        return {name: value for name, value in self.made_up.items() if name not in ours}

    def url(self, service: str, path: str) -> str:
        return self.stack.url(service) + path

    def call(self, method: str, service: str, path: str, **more: Any) -> Answer:  # noqa: ANN401 - of httpx
        """Call a route as the institution's admin."""
        headers = {"Authorization": f"Bearer {self.secrets['access token']}", **more.pop("headers", {})}
        return self.client.request(method, self.url(service, path), headers=headers, **more)

    def get(self, service: str, path: str, **query: str | int) -> Answer:
        return self.call("GET", service, path, params=query)

    def register(self) -> None:
        body = {
            "name": self.made_up["institution name"],
            "mode": "sandbox",
            "base_currency": "EUR",
            "admin": {
                "email": self.email,
                "password": self.password,
                "full_name": self.made_up["admin's name"],
            },
        }
        answer = self.client.post(self.url("user_service", "/v1/institutions"), json=body)
        assert answer.status_code == 201, answer.text
        found = answer.json()
        self.ids |= {"institution_id": found["institution_id"], "user_id": found["user_id"]}
        self.secrets |= {
            "password": self.password,
            "access token": found["tokens"]["access_token"],
            "refresh token": found["tokens"]["refresh_token"],
        }

    def log_in(self) -> None:
        """Begin another session; what was secret before stays secret."""
        login = {"email": self.email, "password": self.password}
        answer = self.client.post(self.url("user_service", "/v1/auth/login"), json=login)
        assert answer.status_code == 200, answer.text
        earlier = {f"earlier {name}": value for name, value in self.secrets.items()}
        tokens = answer.json()
        self.secrets |= {
            **earlier,
            "access token": tokens["access_token"],
            "refresh token": tokens["refresh_token"],
        }

    def score(self, transaction_id: str, amount: str) -> Answer:
        return self.call("POST", "ai_service", "/v1/score", json=self.transaction(transaction_id, amount))

    def score_all(self) -> None:
        """Let one payment be approved, one doubted and one declined."""
        for amount in (FINE, DOUBTFUL, FRAUD):
            self.score_next(amount)

    def score_next(self, amount: str) -> None:
        number = sum(name.startswith("decision") for name in self.ids)
        answer = self.score(f"{self.made_up['transaction_id']}-{number}", amount)
        assert answer.status_code == 200, answer.text
        self.ids[f"decision {number}"] = answer.json()["decision_id"]

    def transaction(self, transaction_id: str, amount: str) -> dict[str, Any]:
        """Return a payment in which everything that can be said is said."""
        made_up = self.made_up
        return {
            "transaction_id": transaction_id,
            "event_time": utc_now().isoformat(),
            "amount": amount,
            "currency": "EUR",
            "transaction_type": "payment",
            **{
                name: made_up[name]
                for name in (
                    *("customer_id", "account_id", "session_id", "merchant_id", "merchant_category"),
                    *(
                        "counterparty_id",
                        "device_id",
                        "user_agent",
                        "phone_number",
                        "original_transaction_id",
                    ),
                )
            },
            "payment_method": {"type": "card", "card_token": made_up["card_token"], "card_country": "DE"},
            "channel": "web",
            "ip_address": "81.2.69.160",
            "email": made_up["customer's e-mail"],
            "billing_country": "DE",
            "location": {"city": made_up["city"], "country": "DE"},
            "billing_location": {"city": made_up["billing city"], "country": "DE"},
            "shipping_location": {"region": made_up["shipping region"], "country": "DE"},
            "metadata": {made_up["metadata key"]: made_up["metadata value"]},
        }

    def today(self) -> str:
        return utc_now().date().isoformat()

    def note_ids(self) -> None:
        """Look up the ids that the product gave to what this institution did."""
        for alert in self.get("alert_service", "/v1/alerts").json()["items"]:
            number = alert["alert"]["transaction_id"].rpartition("-")[2]
            self.ids[f"alert {number}"] = alert["alert"]["alert_id"]
        objects = self.get("log_service", f"/v1/audit/days/{self.today()}").json()["items"]
        self.ids |= {f"object {each['number']}": each["key"] for each in objects}

    def is_settled(self) -> bool:
        """Whether every alert was mailed and every decision is archived; all but the first are flagged."""
        decisions = sum(name.startswith("decision") for name in self.ids)
        alerts = self.get("alert_service", "/v1/alerts").json()["items"]
        totals = self.get("log_service", f"/v1/audit/days/{self.today()}").json()["totals"]
        return (
            len(alerts) == decisions - 1
            and all(each["notification"]["state"] == "delivered" for each in alerts)
            and totals["records"] == totals["archived"] >= decisions
        )

    def marks(self) -> dict[str, str]:
        """Return everything by which anybody could tell that something is about this institution."""
        return {**self.made_up, **self.ids, **self.secrets, **self.mailed}


def found_in(text: str, wanted: dict[str, str]) -> set[str]:
    """Return the names of those `wanted` values that are in `text`, however they are capitalised."""
    lowered = text.lower()
    return {name for name, value in wanted.items() if value.lower() in lowered}
