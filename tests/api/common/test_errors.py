import gzip
import json
from typing import Any

import httpx
import pytest

from tests.api.common.conftest import CANARY, assert_problem
from tests.factories import transaction_body

JSON = {"Content-Type": "application/json"}


class TestProblems:
    @pytest.mark.parametrize(
        ("name", "status", "detail", "retry_after"),
        [
            ("not-found", 404, None, None),
            ("gone", 410, "Since yesterday.", None),
            ("overloaded", 503, None, "7"),
            ("unavailable", 503, None, "1"),
        ],
    )
    async def test_show_an_expected_failure(
        self, client: httpx.AsyncClient, name: str, status: int, detail: str | None, retry_after: str | None
    ) -> None:
        response = await client.get(f"/v1/errors/{name}")

        assert assert_problem(response, status, name).get("detail") == detail
        assert response.headers.get("Retry-After") == retry_after

    async def test_show_an_unknown_address(self, client: httpx.AsyncClient) -> None:
        assert_problem(await client.get(f"/{CANARY}"), 404, "not-found")

    @pytest.mark.parametrize(
        "path", ["/v1/things/5/", "/v1//things/5", "/V1/things/5", "/v1/things/5;x", "/v1/things/%2e%2e"]
    )
    async def test_show_an_address_that_only_looks_like_one_of_ours(
        self, client: httpx.AsyncClient, path: str
    ) -> None:
        response = await client.get(path, headers={"Host": f"{CANARY}.example"})

        assert response.status_code in {404, 422}
        assert response.json()["status"] == response.status_code
        assert "Location" not in response.headers

    @pytest.mark.parametrize("method", ["DELETE", "PUT", "TRACE", "PROPFIND", CANARY.upper()])
    async def test_show_a_method_that_is_not_taken(self, client: httpx.AsyncClient, method: str) -> None:
        response = await client.request(method, "/v1/things/5")

        assert_problem(response, 405, "method-not-allowed")
        assert response.headers["Allow"] == "GET"

    @pytest.mark.parametrize(
        ("name", "status", "type_"),
        [("http-418", 418, "http-error"), ("http-415", 415, "unsupported-media-type")],
    )
    async def test_show_what_the_framework_refuses_without_its_words(
        self, client: httpx.AsyncClient, name: str, status: int, type_: str
    ) -> None:
        response = await client.get(f"/v1/errors/{name}")

        assert_problem(response, status, type_)
        assert CANARY not in response.text

    async def test_show_an_unexpected_failure_without_details(
        self, client: httpx.AsyncClient, lines: list[Any]
    ) -> None:
        response = await client.get("/v1/errors/unexpected")

        body = assert_problem(response, 500, "internal")
        assert set(body) == {"type", "title", "status", "request_id"}
        assert CANARY not in response.text
        (failed,) = [line for line in lines if line["event"] == "request.failed"]
        assert "Traceback" in failed["exception"]
        assert "RuntimeError" in failed["exception"]
        assert failed["request_id"] == body["request_id"]

    async def test_a_failure_whose_text_cannot_be_encoded_is_answered_and_logged_too(
        self, client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
    ) -> None:
        response = await client.get("/v1/errors/unexpected")

        assert_problem(response, 500, "internal")
        printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert "request.failed" in [line["event"] for line in printed]


class TestInvalidRequests:
    async def test_name_each_wrong_field(self, client: httpx.AsyncClient) -> None:
        response = await client.get("/v1/things/-1?limit=0", headers={"X-Deadline-Ms": "0"})

        errors = assert_problem(response, 422, "invalid-request")["errors"]
        assert [error["field"] for error in errors] == [
            "path.thing_id",
            "query.limit",
            "header.?",
        ]

    async def test_name_what_is_wrong_within_a_body(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/things", json={"parts": [1, "x", 3]})

        errors = assert_problem(response, 422, "invalid-request")["errors"]
        assert errors == [
            {"field": "body.count", "message": "Field required"},
            {
                "field": "body.parts.1",
                "message": "Input should be a valid integer, unable to parse string as an integer",
            },
        ]

    @pytest.mark.parametrize(
        "name", ["extra_field", CANARY, "4111111111111111", "<script>", "__proto__", "é", "", "a\nb"]
    )
    async def test_do_not_repeat_the_name_of_an_unknown_field(
        self, client: httpx.AsyncClient, name: str
    ) -> None:
        response = await client.post("/v1/things", json={"count": 1, name: CANARY})

        errors = assert_problem(response, 422, "invalid-request")["errors"]
        assert errors == [{"field": "body.?", "message": "this field is not known"}]
        assert CANARY not in response.text

    @pytest.mark.parametrize(
        "body", [b'{"\\ud800": 1}', b'{"count": 1, "\\udfff": {"\\ud800": 1}}', b'{"count": "\\ud800"}']
    )
    async def test_answer_lone_surrogates_anywhere(self, client: httpx.AsyncClient, body: bytes) -> None:
        response = await client.post("/v1/things", content=body, headers=JSON)

        assert_problem(response, 422, "invalid-request")

    async def test_name_a_limited_number_of_fields(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/things", json={"count": 1, "parts": ["x"] * 500})

        assert len(assert_problem(response, 422, "invalid-request")["errors"]) == 20

    @pytest.mark.parametrize(
        "email", [f"{CANARY}", f"a@{CANARY} x.org", f"a@{CANARY}é!.org", f"a b{CANARY}@x.org", "a@(.org"]
    )
    async def test_say_of_an_address_only_that_it_is_none(
        self, client: httpx.AsyncClient, email: str
    ) -> None:
        response = await client.post("/v1/things", json={"count": 1, "email": email})

        errors = assert_problem(response, 422, "invalid-request")["errors"]
        assert errors == [{"field": "body.email", "message": "value is not a valid email address"}]

    @pytest.mark.parametrize(
        "request_",
        [
            {"method": "GET", "url": f"/v1/{CANARY}?{CANARY}={CANARY}"},
            {"method": "GET", "url": f"/v1/things/{CANARY}"},
            {"method": "GET", "url": f"/v1/things/5?limit={CANARY}"},
            {"method": "GET", "url": "/v1/things/5", "headers": {"X-Deadline-Ms": CANARY, "User-Agent": CANARY}},
            {"method": "GET", "url": "/v1/errors/not-found", "headers": {"Host": CANARY, "Referer": CANARY, "Cookie": CANARY}},
            {"method": CANARY.upper(), "url": "/v1/things/5"},
            {"method": "POST", "url": "/v1/things", "content": f'{{"count": "{CANARY}"}}', "headers": JSON},
            {"method": "POST", "url": "/v1/things", "content": f'"{CANARY}"', "headers": JSON},
            {"method": "POST", "url": "/v1/things", "content": f"{CANARY}", "headers": JSON},
            {"method": "POST", "url": "/v1/things", "content": f'{{"{CANARY}": NaN}}', "headers": JSON},
            {"method": "POST", "url": "/v1/things", "content": CANARY, "headers": {"Content-Type": CANARY}},
            {"method": "POST", "url": "/v1/things", "data": {"count": CANARY}},
            {"method": "POST", "url": "/v1/things", "files": {"count": (CANARY, CANARY)}},
            {"method": "POST", "url": "/v1/things", "content": CANARY * 1000, "headers": JSON},
        ],
    )  # fmt: skip
    async def test_nothing_that_was_sent_is_repeated_in_answer_or_log(
        self, client: httpx.AsyncClient, lines: list[Any], request_: dict[str, Any]
    ) -> None:
        response = await client.request(**request_)

        assert response.status_code in {400, 404, 405, 413, 415, 422}
        assert response.headers["Content-Type"] == "application/problem+json"
        assert CANARY not in (response.text + str(response.headers)).lower()
        assert lines
        assert CANARY not in str(lines).lower()


class TestStrictBodies:
    @pytest.mark.parametrize(
        ("body", "detail"),
        [
            (b'{"count": 1, "count": 2}', "an object has the same key twice"),
            (b'{"count": NaN}', "NaN and Infinity are not JSON"),
            (b'{"count": -Infinity}', "NaN and Infinity are not JSON"),
            (b'{"count": 1e999999999}', "a number is out of range"),
            (b'{"count": 1e9999999999999999999}', "a number is out of range"),
            (b'{"count": ' + b"1" * 100 + b"}", "a number is too long"),
            (b'\xef\xbb\xbf{"count": 1}', "the body starts with a byte order mark"),
            ('{"count": 1}'.encode("utf-16"), "the body is not UTF-8"),
            (b'{"count": "\xff"}', "the body is not UTF-8"),
            (b"[" * 2000, "the body is not JSON that can be read"),
            (b'{"count": 1', "Expecting ',' delimiter"),
            (b'{"count": 1} {}', "Extra data"),
            (b" ", "Expecting value"),
        ],
    )
    async def test_that_are_no_json_are_named_so(
        self, client: httpx.AsyncClient, body: bytes, detail: str
    ) -> None:
        response = await client.post("/v1/things", content=body, headers=JSON)

        assert assert_problem(response, 400, "malformed-json")["detail"] == detail

    @pytest.mark.parametrize(
        "type_",
        [
            "application/json",
            "Application/JSON",
            "application/json;charset=utf-8",
            'application/json ; charset="UTF-8"',
        ],
    )
    async def test_are_declared_as_json(self, client: httpx.AsyncClient, type_: str) -> None:
        response = await client.post("/v1/things", content=b'{"count": 1}', headers={"Content-Type": type_})

        assert response.status_code == 200
        assert response.json()["count"] == 1

    @pytest.mark.parametrize(
        "type_",
        [
            "text/plain",
            "application/x-www-form-urlencoded",
            "image/svg+xml",
            "",
            "application/json; charset=utf-16",
            "application/json; charset=utf-8; charset=utf-16",
            "application/json, text/plain",
            "application/problem+json",
            "application/jsonp",
        ],
    )
    @pytest.mark.parametrize("body", [b'{"count": 1}', b"{", b""])
    async def test_of_another_type_are_refused(
        self, client: httpx.AsyncClient, type_: str, body: bytes
    ) -> None:
        response = await client.post("/v1/things", content=body, headers={"Content-Type": type_})

        assert_problem(response, 415, "unsupported-media-type")
        assert response.headers["Accept"] == "application/json"
        assert response.headers["Accept-Encoding"] == "identity"

    @pytest.mark.parametrize("types", [0, 2])
    async def test_are_declared_exactly_once(self, client: httpx.AsyncClient, types: int) -> None:
        headers = [("Content-Type", "application/json")] * types

        response = await client.post("/v1/things", content=b'{"count": 1}', headers=headers)

        assert_problem(response, 415, "unsupported-media-type")

    @pytest.mark.parametrize("encoding", ["gzip", "br", "identity", "deflate, gzip", ""])
    async def test_are_not_encoded(self, client: httpx.AsyncClient, encoding: str) -> None:
        headers = {**JSON, "Content-Encoding": encoding}

        response = await client.post("/v1/things", content=gzip.compress(b'{"count": 1}'), headers=headers)

        assert_problem(response, 415, "unsupported-media-type")

    async def test_cannot_be_absent(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/things", headers=JSON)

        errors = assert_problem(response, 422, "invalid-request")["errors"]
        assert errors == [{"field": "body", "message": "Field required"}]

    async def test_keep_every_digit_until_the_model_has_seen_them(self, client: httpx.AsyncClient) -> None:
        body = json.dumps(transaction_body()).replace('"25.00"', "10.00000000000000000000000000000000000001")

        response = await client.post("/v1/transactions", content=body, headers=JSON)

        assert_problem(response, 422, "invalid-request")

    @pytest.mark.parametrize(
        "changes",
        [{"metadata": {"\ud800": 1}}, {"metadata": {"a": "\ud800"}}, {"customer_id": "\ud800"}, {"\ud800": "\ud800"},
         {"transaction_type": "\ud800", "currency": "\ud800", "ip_address": "\ud800", "event_time": "\ud800"},
         {"payment_method": {"\ud800": "\ud800"}}, {"location": {"city": "\udfff"}}, {"amount": "\ud800"}],
    )  # fmt: skip
    async def test_with_lone_surrogates_are_refused(
        self, client: httpx.AsyncClient, changes: dict[str, Any]
    ) -> None:
        response = await client.post(
            "/v1/transactions", content=json.dumps(transaction_body(**changes)), headers=JSON
        )

        assert_problem(response, 422, "invalid-request")


class TestQueries:
    @pytest.mark.parametrize(
        "query",
        [
            "x=1",
            "limit=5&x=1",
            "Limit=5",
            "limit[$ne]=1",
            "limit%00=5",
            "=",
            "x",
            "%ff=1",
            "limit=5&limit[]=6",
        ],
    )
    async def test_with_unknown_parameters_are_refused(self, client: httpx.AsyncClient, query: str) -> None:
        response = await client.get(f"/v1/things/5?{query}")

        (error,) = assert_problem(response, 422, "invalid-request")["errors"]
        assert error == {"field": "query.?", "message": "this field is not known"}

    @pytest.mark.parametrize("query", ["limit=5&limit=6", "limit=5&limit=5", "limit=5&l%69mit=6"])
    async def test_that_give_a_parameter_twice_are_refused(
        self, client: httpx.AsyncClient, query: str
    ) -> None:
        response = await client.get(f"/v1/things/5?{query}")

        (error,) = assert_problem(response, 422, "invalid-request")["errors"]
        assert error == {"field": "query.limit", "message": "this parameter is given twice"}

    async def test_may_give_a_list_parameter_twice(self, client: httpx.AsyncClient) -> None:
        response = await client.get("/v1/tags?tag=a&tag=b")

        assert response.json() == ["a", "b"]

    async def test_are_none_where_a_body_is_sent(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/things?count=1", json={"count": 1})

        assert_problem(response, 422, "invalid-request")

    async def test_name_a_limited_number_of_parameters(self, client: httpx.AsyncClient) -> None:
        response = await client.get(
            "/v1/things/5?" + "&".join(f"{CANARY}{number}=1" for number in range(200))
        )

        assert len(assert_problem(response, 422, "invalid-request")["errors"]) == 20
        assert CANARY not in response.text


class TestModelRoute:
    async def test_takes_what_the_model_takes(self, client: httpx.AsyncClient) -> None:
        response = await client.post(
            "/v1/internal/things", content=b'{"count": 1, "parts": [2]}', headers=JSON
        )

        assert response.json() == {"count": 1, "email": None, "parts": [2]}

    async def test_reports_what_is_wrong_as_any_route_does(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/internal/things", content=b'{"count": "x"}', headers=JSON)

        (error,) = assert_problem(response, 422, "invalid-request")["errors"]
        assert error["field"] == "body.count"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"\xff",
            b'{"count": NaN}',
            b'{"count": "\\ud800"}',
            b"[" * 2000,
            b'{"count": 1e999999999}',
            b'{"count": 1, "count": 2}',
            b'{"count":1,"count":2}',
            b'{"count":1,"\\u0063ount":2}',
        ],
    )
    async def test_refuses_what_is_no_json(self, client: httpx.AsyncClient, body: bytes) -> None:
        response = await client.post("/v1/internal/things", content=body, headers=JSON)

        assert response.status_code in {400, 422}
        assert response.headers["Content-Type"] == "application/problem+json"
