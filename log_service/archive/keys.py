"""Where an object lies in the bucket.

    audit/{mode}/{institution_id}/{yyyy}/{mm}/{dd}/{kind}-{object_number:012d}.ndjson.gz

`mode` is `live` or `sandbox`; the date is the UTC day of the records' `created_at`. The object number starts at 1 and
is gap-free per institution (mode and institution_id), over all its days and kinds: a number that is missing is an
object that was taken away. The number of an object whose key was found taken by something else (see
`ObjectState.CONFLICT`) is not used again; the foreign object lies under it.
"""

from datetime import date
from string import ascii_letters, digits

from common.contracts.audit_records import RecordKind
from common.contracts.institutions import InstitutionMode

_PLAIN = frozenset((ascii_letters + digits + "_-").encode())


def object_key(
    *, mode: InstitutionMode, institution_id: str, day: date, kind: RecordKind, number: int
) -> str:
    """Return the key of an institution's object `number`."""
    folder = day.isoformat().replace("-", "/")
    return f"audit/{mode.value}/{_segment(institution_id)}/{folder}/{kind.value}-{number:012d}.ndjson.gz"


def _segment(text: str) -> str:
    """Percent-encode all but letters, digits, `_` and `-`: one id is one folder, and `..` is no way up."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode())
