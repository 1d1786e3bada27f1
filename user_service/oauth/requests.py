"""Reading a token request as RFC 6749 has it: a form, and credentials in it or as HTTP Basic (pure).

Parameters that are not known are passed over, as section 3.2 asks; one that is there twice is refused.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_plus

from common.auth.principal import UnauthenticatedError
from common.errors import PlatformError

MAX_FORM_BYTES = 4096
MAX_FIELDS = 16
GRANT_TYPE = "client_credentials"
FORM_TYPE = "application/x-www-form-urlencoded"
_FORM_TYPES = frozenset({FORM_TYPE, f"{FORM_TYPE};charset=utf-8"})
_BASIC = "basic"


class FormNeededError(PlatformError):
    """The body is not declared as a form."""

    status_code = 415
    type = "form-needed"
    title = f"The body has to be declared as {FORM_TYPE}"

    @property
    def headers(self) -> dict[str, str]:
        """Say what is taken, as RFC 9110 has it."""
        return {"Accept": FORM_TYPE}


class TokenRequestError(PlatformError):
    """The form lacks something, has it twice, or cannot be read."""

    status_code = 400
    type = "token-request-invalid"
    title = "This is no request for a token as RFC 6749 has it"
    error = "invalid_request"


class GrantTypeError(PlatformError):
    """Another grant than that of client credentials is asked for."""

    status_code = 400
    type = "grant-type-unsupported"
    title = f"Only the grant type {GRANT_TYPE} is taken"
    error = "unsupported_grant_type"


class ScopeRefusedError(PlatformError):
    """The key does not have a scope that is asked for."""

    status_code = 400
    type = "scope-refused"
    title = "The API key does not have every scope that is asked for"
    error = "invalid_scope"


class ClientRefusedError(UnauthenticatedError):
    """No such key, another secret, or a key that has ended; which of them is not said."""

    type = "invalid-client"
    title = "The client id and secret do not fit"
    error = "invalid_client"

    @property
    def headers(self) -> dict[str, str]:
        """Name the scheme that takes these credentials."""
        return {"WWW-Authenticate": 'Basic realm="assay", charset="UTF-8"'}


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Who asks for a token, and for which scopes; none means all."""

    client_id: str
    client_secret: str = field(repr=False)
    scopes: frozenset[str]


def read_token_request(
    body: bytes, *, content_types: Sequence[str], authorizations: Sequence[str]
) -> TokenRequest:
    """Return what is asked for.

    Raises `FormNeededError`, `TokenRequestError`, `GrantTypeError` and `ClientRefusedError`.
    """
    if len(content_types) != 1 or content_types[0].replace(" ", "").lower() not in _FORM_TYPES:
        raise FormNeededError
    form = _form(body)
    grant_type = form.get("grant_type")
    if grant_type is None:
        raise TokenRequestError("grant_type is missing.")
    if grant_type != GRANT_TYPE:
        raise GrantTypeError
    client_id, client_secret = _credentials(form, authorizations)
    return TokenRequest(client_id, client_secret, frozenset(form.get("scope", "").split()))


def _form(body: bytes) -> dict[str, str]:
    if len(body) > MAX_FORM_BYTES:
        raise TokenRequestError("The form is too long.")
    try:
        pairs = parse_qsl(body.decode("ascii"), errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise TokenRequestError("The form cannot be read.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise TokenRequestError("A parameter is there twice.")
    return form


def _credentials(form: dict[str, str], authorizations: Sequence[str]) -> tuple[str, str]:
    in_form = "client_id" in form or "client_secret" in form
    if len(authorizations) + in_form > 1:
        raise TokenRequestError("Credentials are sent in one way, once.")
    if authorizations:
        return _basic(authorizations[0])
    if "client_id" not in form or "client_secret" not in form:
        raise ClientRefusedError
    return form["client_id"], form["client_secret"]


def _basic(authorization: str) -> tuple[str, str]:
    """Return id and secret of HTTP Basic, each of them encoded as in a form (RFC 6749 section 2.3.1)."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != _BASIC:
        raise ClientRefusedError
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
        client_id, separator, secret = decoded.partition(":")
        given = unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
    except (binascii.Error, ValueError):
        raise ClientRefusedError from None
    if not separator:
        raise ClientRefusedError
    return given
