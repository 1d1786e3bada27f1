"""The settings of services that keep something in a database."""

from typing import ClassVar, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from sqlalchemy.exc import ArgumentError

from common.db_connections import is_sqlite, parsed
from common.db_tls import missing_tls, two_meanings
from common.settings import OptionalSecret, ServiceSettings


class DatabaseSettings(ServiceSettings):
    """What a service with a database is told; the addresses are secrets because they hold passwords."""

    databases: ClassVar[tuple[str, ...]] = ("database_url", "read_database_url")

    database_url: SecretStr

    @field_validator("database_url", "read_database_url", check_fields=False)
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            known = value is None or parsed(value).get_backend_name() in {"sqlite", "postgresql"}
        except (ArgumentError, ValueError):  # e.g. two ports
            known = False
        if not known:
            raise ValueError("is written sqlite:///FILE or postgresql://USER:PASSWORD@HOST:5432/DATABASE")
        fault = None if value is None else two_meanings(value)
        if fault:
            raise ValueError(fault)
        return value

    @model_validator(mode="after")
    def _refuse_plain_connections_in_production(self) -> Self:
        if not self.is_production:
            return self
        urls = {name: getattr(self, name, None) for name in self.databases}
        found = {name: missing_tls(url) for name, url in urls.items() if url is not None}
        faults = [f"{name.upper()} {fault}" for name, fault in found.items() if fault]
        if faults:
            raise ValueError("; ".join(faults))
        return self


class ReplicatedSettings(DatabaseSettings):
    """What a service is told whose lists may come from a replica."""

    read_database_url: OptionalSecret = Field(
        None,
        description="a read replica of DATABASE_URL for lists, which may lag behind; empty: lists come from "
        "DATABASE_URL, as they do while the replica is away",
    )

    @model_validator(mode="after")
    def _refuse_a_replica_of_a_file(self) -> Self:
        replica = self.read_database_url
        if replica is not None and (is_sqlite(replica) or is_sqlite(self.database_url)):
            raise ValueError("READ_DATABASE_URL is for PostgreSQL; a file of SQLite's has no replicas")
        return self
