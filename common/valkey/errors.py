"""What calls to Valkey fail with: it is away, or it refuses one command."""

from valkey.exceptions import ClusterDownError, OutOfMemoryError, ReadOnlyError, ResponseError, TryAgainError

from common.errors import PlatformError

_AWAY_CLASSES = (OutOfMemoryError, ReadOnlyError, ClusterDownError, TryAgainError)
# replies for which the library has no class: a script runs too long, the disk is full, replicas are missing,
# a slot is on its way to another node
_AWAY_CODES = ("BUSY", "CLUSTERDOWN", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN", "UNKILLABLE")
_REDIRECTIONS = ("MOVED", "ASK")
_MISSING = "Function not found"
MAX_TEXT = 200


class ValkeyAwayError(PlatformError):
    """Valkey did not answer in time, refused the connection, or can do nothing now (out of memory, no primary)."""

    status_code = 503
    type = "valkey-away"
    title = "The shared store does not answer"


class ValkeyRefusedError(ResponseError):
    """Valkey answered that it will not do this command: it is wrong, or this user may not.

    The text is what Valkey said, without the arguments of the command, which it repeats.
    """


def failure(reply: ResponseError) -> ValkeyAwayError | ValkeyRefusedError:
    """Return what an error reply means to the caller."""
    text = str(reply)
    found: ValkeyAwayError | ValkeyRefusedError
    if isinstance(reply, _AWAY_CLASSES) or _code(reply) in {*_AWAY_CODES, *_REDIRECTIONS}:
        found = ValkeyAwayError()
    else:
        found = ValkeyRefusedError(text.partition(", with args")[0][:MAX_TEXT])
    found.__cause__ = None
    return found


def redirected_to(reply: object) -> tuple[str, str, int] | None:
    """Return `MOVED` or `ASK`, host and port where a reply says that another node has the slot."""
    if not isinstance(reply, ResponseError) or _code(reply) not in _REDIRECTIONS:
        return None
    code, _slot, node = str(reply).split(" ")[:3]
    host, _, port = node.rpartition(":")
    return code, host, int(port)


def is_missing_function(reply: object) -> bool:
    """Say whether a reply means that the function's library is not loaded there."""
    return isinstance(reply, ResponseError) and _MISSING in str(reply)


def _code(reply: ResponseError) -> str:
    return str(reply).partition(" ")[0]
