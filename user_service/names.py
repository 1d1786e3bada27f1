"""What people, institutions and keys are called."""

from typing import Annotated

from pydantic import AfterValidator

from common.contracts.fields import Text


def _not_blank(text: str) -> str:
    if not text.strip():
        message = "this is not blank"
        raise ValueError(message)
    return text


Name = Annotated[Text, AfterValidator(_not_blank)]
"""What a person or an institution is called."""
