"""What is cached, declared as data: a name, how long it is good for, how much of it is kept, and of what type it is."""

from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from common.contracts.fields import Contract

ValueT = TypeVar("ValueT")
ModelT = TypeVar("ModelT", bound=BaseModel)
_MISSING: Final = b"-"
_PRESENT: Final = b"+"
FORGOTTEN: Final = b"!"
"""Stands where a value was invalidated a moment ago, so that nobody puts back what was read before that."""


class Codec(Protocol[ValueT]):
    """How values of one type are written down."""

    def encode(self, value: ValueT) -> bytes:
        """Return `value` as bytes."""
        ...

    def decode(self, text: bytes) -> ValueT:
        """Return what `encode` was given; raises `ValueError`."""
        ...


class AsBytes:
    """Values that are bytes already."""

    def encode(self, value: bytes) -> bytes:
        """Return `value`."""
        return value

    def decode(self, text: bytes) -> bytes:
        """Return `text`."""
        return text


class AsModel(Generic[ModelT]):
    """Values of one frozen pydantic model."""

    def __init__(self, model: type[ModelT]) -> None:
        self._model = model

    def encode(self, value: ModelT) -> bytes:
        """Return `value` as JSON."""
        return value.model_dump_json().encode()

    def decode(self, text: bytes) -> ModelT:
        """Return the model that `text` describes; raises `ValueError`: another release may have written it."""
        return self._model.model_validate_json(text)


@dataclass(frozen=True, kw_only=True)
class Namespace(Generic[ValueT]):
    """One kind of cached value.

    `max_items` bounds what a process keeps of it, for `local_s` at most; Valkey keeps it for `ttl_s`. That something is
    not there is remembered for `missing_s`. A change of the type takes another name: releases run side by side.
    """

    name: str
    codec: Codec[ValueT]
    ttl_s: float
    max_items: int
    local_s: float | None = None
    missing_s: float = 30.0
    max_bytes: int = 64 * 1024

    @property
    def kept_here_s(self) -> float:
        """Return how long a process keeps a value."""
        return self.ttl_s if self.local_s is None else min(self.local_s, self.ttl_s)

    def kept_s(self, value: ValueT | None) -> float:
        """Return how long a value is good for."""
        return self.missing_s if value is None else self.ttl_s

    def encode(self, value: ValueT | None) -> bytes:
        """Return what Valkey keeps; None is that there is nothing."""
        return _MISSING if value is None else _PRESENT + self.codec.encode(value)

    def decode(self, text: bytes) -> ValueT | None:
        """Return what `encode` was given; raises `ValueError`."""
        if text == _MISSING:
            return None
        if not text.startswith(_PRESENT):
            raise ValueError("not a cached value")
        return self.codec.decode(text[1:])


class Forgotten(Contract):
    """Tells other processes which value is out of date; `place` is its key in Valkey."""

    namespace: str
    place: str

    @classmethod
    def read(cls, body: bytes) -> "Forgotten | None":
        """Return what a message says, None for one that says nothing."""
        try:
            return cls.model_validate_json(body)
        except ValidationError:
            return None
