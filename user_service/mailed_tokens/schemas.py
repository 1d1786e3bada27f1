"""What is answered when a token is mailed."""

from pydantic import BaseModel, Field


class TokenMailed(BaseModel):
    """A mail with a token is on its way, where there is somebody who gets it."""

    expires_in: int = Field(description="seconds for which the token is good")
