"""The strict gate in front of python-jose: what does not look exactly like one of our tokens is refused here.

python-jose 3.5.0 ignores `crit`, takes tokens without exp, aud or sub, accepts more than one spelling of the same
signature and raises non-JWT exceptions on odd numbers. None of that gets past this module: every failure is one
`UnauthenticatedError`.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jose import jwt
from jose.exceptions import JOSEError
from pydantic import ValidationError

from common.auth.principal import Principal, UnauthenticatedError
from common.contracts.institutions import Institution
from common.contracts.roles import Role
from common.contracts.tokens import ALGORITHM, TOKEN_TYPE, Scope, TokenUse

MAX_TOKEN_BYTES = 4096
MAX_LIFETIME_S = 3600
LEEWAY_S = 60
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+\Z")
_SUBJECT = re.compile(r"[A-Za-z0-9_]{1,64}\Z")
_HEADER_FIELDS = {"alg", "typ", "kid"}
_CLAIMS = {"iss", "aud", "sub", "exp", "iat", "jti", "token_use", "scope"}
_TENANT_CLAIMS = {"sid", "institution_id", "institution_mode", "base_currency"}
_CLAIMS_BY_USE = {
    TokenUse.USER.value: _CLAIMS | _TENANT_CLAIMS | {"role"},
    TokenUse.API_KEY.value: _CLAIMS | _TENANT_CLAIMS,
    TokenUse.SERVICE.value: _CLAIMS,
}
_SCOPES = frozenset(scope.value for scope in Scope)
_ROLES = frozenset(role.value for role in Role)


@dataclass(frozen=True)
class Expected:
    """What every token must say."""

    issuer: str
    audience: str


def key_id(token: str) -> str:
    """Return the key id a well-formed token names; raises `UnauthenticatedError` for anything else."""
    header, _, _ = _segments(token)
    fields = _object(header)
    if set(fields) != _HEADER_FIELDS or fields["alg"] != ALGORITHM or fields["typ"] != TOKEN_TYPE:
        raise UnauthenticatedError
    kid = fields["kid"]
    if not isinstance(kid, str) or not _SUBJECT.fullmatch(kid):
        raise UnauthenticatedError
    return kid


def open_token(token: str, key: Mapping[str, str], *, expected: Expected, now: int) -> Principal:
    """Return the principal of a token signed by `key` and valid at `now` (seconds since 1970).

    Raises `UnauthenticatedError` for every other token.
    """
    _, payload, _ = _segments(token)
    claims = _object(payload)
    try:
        jwt.decode(token, dict(key), algorithms=[ALGORITHM], options=_SIGNATURE_ONLY)
    except (JOSEError, ValueError, TypeError, OverflowError, RecursionError):
        raise UnauthenticatedError from None
    return _principal(claims, expected=expected, now=now)


# Claims are checked by `_principal`, more strictly than the library does.
_SIGNATURE_ONLY = {
    "verify_signature": True,
    "verify_aud": False,
    "verify_iat": False,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
    "verify_at_hash": False,
}


def _segments(token: str) -> tuple[bytes, bytes, bytes]:
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise UnauthenticatedError
    parts = token.split(".")
    if len(parts) != 3:
        raise UnauthenticatedError
    return _decoded(parts[0]), _decoded(parts[1]), _decoded(parts[2])


def _decoded(segment: str) -> bytes:
    """Decode base64url and refuse every spelling but the canonical one."""
    if not _SEGMENT.fullmatch(segment):
        raise UnauthenticatedError
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except (binascii.Error, ValueError):
        raise UnauthenticatedError from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != segment:
        raise UnauthenticatedError
    return data


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise UnauthenticatedError from None
    if not isinstance(found, dict):
        raise UnauthenticatedError
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise UnauthenticatedError
    return dict(pairs)


def _refuse(_name: str) -> None:
    raise UnauthenticatedError


def _principal(claims: Mapping[str, Any], *, expected: Expected, now: int) -> Principal:
    use = _use(claims.get("token_use"))
    if set(claims) != _CLAIMS_BY_USE[use]:
        raise UnauthenticatedError
    if claims["iss"] != expected.issuer or claims["aud"] != expected.audience:
        raise UnauthenticatedError
    _check_times(claims["iat"], claims["exp"], now=now)
    is_tenant = use is not TokenUse.SERVICE
    return Principal(
        use=use,
        subject=_id(claims["sub"]),
        scopes=_scopes(claims["scope"]),
        token_id=_id(claims["jti"]),
        expires_at=claims["exp"],
        role=_role(claims["role"]) if use is TokenUse.USER else None,
        institution=_institution(claims) if is_tenant else None,
        session_id=_id(claims["sid"]) if is_tenant else "",
    )


def _id(value: object) -> str:
    if not isinstance(value, str) or not _SUBJECT.fullmatch(value):
        raise UnauthenticatedError
    return value


def _check_times(issued: object, expires: object, *, now: int) -> None:
    # bool is an int to Python but not to us; a float or a string is no NumericDate of ours either
    if type(issued) is not int or type(expires) is not int:
        raise UnauthenticatedError
    if not 0 < expires - issued <= MAX_LIFETIME_S or issued > now + LEEWAY_S or expires <= now:
        raise UnauthenticatedError


def _use(value: object) -> TokenUse:
    if not isinstance(value, str) or value not in _CLAIMS_BY_USE:
        raise UnauthenticatedError
    return TokenUse(value)


def _role(value: object) -> str:
    if not isinstance(value, str) or value not in _ROLES:
        raise UnauthenticatedError
    return value


def _scopes(value: object) -> frozenset[str]:
    if not isinstance(value, str):
        raise UnauthenticatedError
    scopes = frozenset(value.split(" ")) if value else frozenset()
    if not scopes <= _SCOPES:
        raise UnauthenticatedError
    return scopes


def _institution(claims: Mapping[str, Any]) -> Institution:
    try:
        return Institution(
            institution_id=_id(claims["institution_id"]),
            mode=claims["institution_mode"],
            base_currency=claims["base_currency"],
        )
    except ValidationError:
        raise UnauthenticatedError from None
