"""What the text of an API key looks like (pure)."""

import secrets
from dataclasses import dataclass, field

from common.contracts.institutions import InstitutionMode
from common.contracts.tokens import API_KEY_TEXT
from common.ids import new_id

SECRET_BYTES = 32
_WORD_BY_MODE = {InstitutionMode.LIVE: "live", InstitutionMode.SANDBOX: "test"}
_ID_CHARACTERS = 8  # the last of the key's id, which are random
_SHOWN_OF_OTHERS = 4


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. Nobody can make its text again."""

    key_id: str
    text: str = field(repr=False)

    @property
    def prefix(self) -> str:
        """Return what people recognise the key by."""
        return visible_prefix(self.text)


def new_key(mode: InstitutionMode) -> NewKey:
    """Make a key of 256 random bits that says at sight what it is for: `ask_live_` or `ask_test_`."""
    key_id = new_id("key")
    secret = secrets.token_urlsafe(SECRET_BYTES)
    return NewKey(key_id, f"ask_{_WORD_BY_MODE[mode]}_{key_id[-_ID_CHARACTERS:]}_{secret}")


def visible_prefix(text: str) -> str:
    """Return the part of a key that may be shown: all but the secret of ours, little of one made elsewhere."""
    ours = API_KEY_TEXT.match(text.encode("utf-8", "surrogatepass"))
    return ours[1].decode() if ours else text[:_SHOWN_OF_OTHERS]
