"""What stands around the body of `POST /v1/score` and is wrong or odd: section F of the test plan's input list.

Data for every door that takes transactions. The bodies themselves are in `hostile_bodies`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.hostile_bodies import BASE

JSON_TYPE = ("Content-Type", "application/json")
Headers = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Request:
    """What stands around a body, and the status it gets with a good one.

    `{token}` and the like stand for tokens: of one who may score, of one who may only read, of a service, the first
    without its end and without its signature; `{api_key}` and the like for API keys.
    """

    name: str
    status: int
    headers: Headers = (JSON_TYPE,)
    method: str = "POST"
    path: str = "/v1/score"
    authorization: str | bytes | None = "Bearer {token}"


OTHER_TYPES: dict[str, Headers] = {
    "no type": (),
    "two types": (JSON_TYPE, JSON_TYPE),
    "two different types": (JSON_TYPE, ("Content-Type", "text/plain")),
    "UTF-16": (("Content-Type", "application/json; charset=utf-16"),),
    **{
        type_ or "an empty type": (("Content-Type", type_),)
        for type_ in (
            "", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
            "application/problem+json", "application/jsonp", "application/json, text/plain", "*/*", "application/xml",
            "application/json; charset=utf-8; charset=utf-16", "application/json; x=y",
        )
    },
    **{
        f"encoded as {encoding!r}": (JSON_TYPE, ("Content-Encoding", encoding))
        for encoding in ("gzip", "deflate", "br", "zstd", "identity", "", "gzip, gzip")
    },
}  # fmt: skip
BAD_AUTHORIZATIONS: dict[str, str | bytes | None] = {
    "none": None, "empty": "", "scheme only": "Bearer", "empty token": "Bearer ", "Basic": "Basic eDp5", "token alone": "{token}",
    "two tokens": "Bearer {token} {token}", "comma": "Bearer {token}, Bearer {token}", "padded": "Bearer {token}=", "cut": "Bearer {cut}",
    "quoted": 'Bearer "{token}"', "garbage": "Bearer " + "planted" * 99, "long": "Bearer " + "x" * 5000, "beyond ASCII": "Bearer {token}é".encode(),
    "a control character": b"Bearer {token}\x01", "unsigned": "Bearer {unsigned}", "tab": "Bearer\t{token}", "other scope": "Bearer {reader}x",
}  # fmt: skip
BAD_API_KEYS: dict[str, Sequence[str | bytes]] = {
    "empty": ("",), "two": ("{api_key}", "{api_key}"), "two different": ("{api_key}", "x"), "a token": ("{token}",), "cut": ("{cut_key}",),
    "longer": ("{api_key}x",), "revoked": ("{revoked_key}",), "expired": ("{expired_key}",), "of a suspended institution": ("{suspended_key}",),
    "its prefix": ("ask_test_0123abcd",), "its id": ("key_scores",), "beyond ASCII": ("{api_key}é".encode(),), "control": (b"{api_key}\x01",),
    "long": ("planted" * 999,), "as a bearer": ("Bearer {api_key}",), "quoted": ('"{api_key}"',),
}  # fmt: skip
REQUESTS = [
    *(Request(f"type: {name}", 415, headers) for name, headers in OTHER_TYPES.items()),
    *(
        Request(f"type: {type_}", 200, (("Content-Type", type_),))
        for type_ in ("application/json;charset=utf-8", "Application/JSON", 'application/json; charset="UTF-8"')
    ),
    *(Request(f"authorization: {name}", 401, authorization=given) for name, given in BAD_AUTHORIZATIONS.items()),
    Request("authorization: two", 401, (JSON_TYPE, ("Authorization", "Basic eDp5"))),
    Request("authorization: small letters", 200, authorization="bearer {token}"),
    Request("authorization: in a cookie", 401, (JSON_TYPE, ("Cookie", "access_token={token}")), authorization=None),
    Request("authorization: in the query", 401, path="/v1/score?access_token={token}", authorization=None),
    Request("authorization: another scope", 403, authorization="Bearer {reader}"),
    Request("authorization: a service", 403, authorization="Bearer {service}"),
    Request("authorization: an API key", 401, authorization="Bearer {api_key}"),
    Request("API key: a good one", 200, (JSON_TYPE, ("X-API-Key", "{api_key}")), authorization=None),
    Request("API key: of another scope", 403, (JSON_TYPE, ("X-API-Key", "{reading_key}")), authorization=None),
    *(
        Request(f"API key: {name}", 401, (JSON_TYPE, *(("X-API-Key", value) for value in values)), authorization=None)
        for name, values in BAD_API_KEYS.items()
    ),
    Request("API key: with a token", 401, (JSON_TYPE, ("X-API-Key", "{api_key}"))),
    Request("API key: empty, with a token", 401, (JSON_TYPE, ("X-API-Key", ""))),
    Request("API key: with Basic", 401, (JSON_TYPE, ("X-API-Key", "{api_key}")), authorization="Basic eDp5"),
    Request("API key: in the query", 401, path="/v1/score?api_key={api_key}", authorization=None),
    Request("API key: as a bearer header of another name", 401, (JSON_TYPE, ("Api-Key", "{api_key}")), authorization=None),
    *(
        Request(f"deadline: {value[:20]!r}", 422, (JSON_TYPE, ("X-Deadline-Ms", value)))
        for value in ("0", "-1", "1.5", "abc", "٥".encode(), "9999999", "", "1e3", "0x10", "+5", "5 ms", "planted" * 99, "00005", b"\xff")
    ),
    *(
        Request(f"deadline: two, {second}", 422, (JSON_TYPE, ("X-Deadline-Ms", "4000"), ("X-Deadline-Ms", second)))
        for second in ("4000", "100", "x")
    ),
    Request("deadline: the longest", 200, (JSON_TYPE, ("X-Deadline-Ms", "999999"))),
    Request("deadline: a good one", 200, (JSON_TYPE, ("X-Deadline-Ms", "4000"))),
    *(Request(f"query: {query[:20]}", 422, path=f"/v1/score?{query}") for query in ("x=1", "x", "explain=true", "%ff=%ff", "filter[$ne]=1", "planted-value-7391=planted-value-7391")),
    Request("query: none after the mark", 200, path="/v1/score?"),
    *(
        Request(f"request id: {value[:20]!r}", 200, (JSON_TYPE, ("X-Request-ID", value)))
        for value in ("", "ok-1", "a b", "planted" * 50, "<script>", "é".encode(), b"\xff\xfe", "../..")
    ),
    *(
        Request(f"{name}: not read here", 200, (JSON_TYPE, (name, value)))
        for name, value in {
            "X-HTTP-Method-Override": "DELETE", "X-Forwarded-For": "203.0.113.7, 10.0.0.1", "Forwarded": "for=10.0.0.1", "Accept": "text/html;q=x", "Range": "bytes=0-1",
            "Idempotency-Key": "another", "If-Match": "*", "Origin": "https://evil.example", "X-Original-URL": "/v1/admin", "Transfer-Coding": "gzip", "Cookie": "a=b",
        }.items()
    ),
    Request("a thousand forwarded addresses", 200, (JSON_TYPE, ("X-Forwarded-For", ", ".join(["203.0.113.7"] * 1000)))),
    *(
        Request(f"path: {path}", 404, path=path)
        for path in ("/v1/score/", "/v1//score", "/V1/score", "/v1/Score", "/v1/score;x=y", "/v1/score%00", "/v1/score%2f", "/v1/score/..%2f", "/v2/score")
    ),
    *(Request(f"method: {method}", 405, method=method) for method in ("GET", "PUT", "PATCH", "DELETE", "PROPFIND", "TRACE")),
]  # fmt: skip
BODIES = {
    "good": json.dumps(BASE).encode(),
    "no JSON": b'{"amount": NaN, "planted-value-7391',
    "no transaction": json.dumps({**BASE, "amount": "planted-value-7391"}).encode(),
    "empty": b"",
}
