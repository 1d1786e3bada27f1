"""The answer to a token request (RFC 6749 section 5.1), and how the request is described."""

from typing import Any

from pydantic import BaseModel, Field

from user_service.oauth.requests import FORM_TYPE, GRANT_TYPE


class GrantedToken(BaseModel):
    """A token made from an API key. There is no refresh token: the key is exchanged again."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - RFC 6750's scheme name, no secret
    expires_in: int = Field(description="seconds; never longer than the key itself works", examples=[900])
    scope: str = Field(examples=["score:write decisions:read"])


TOKEN_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM_TYPE: {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": [GRANT_TYPE]},
                        "client_id": {"type": "string", "description": "the key's id, unless sent as HTTP Basic"},
                        "client_secret": {"type": "string", "description": "the whole key, unless sent as HTTP Basic"},
                        "scope": {"type": "string", "description": "separated by spaces; without it all the key has"},
                    },
                }
            }
        },
    }
}  # fmt: skip
