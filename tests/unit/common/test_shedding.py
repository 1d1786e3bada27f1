import httptools
import pytest

from common.headers import request_id
from common.shedding import Shedding, is_one_whole_request

LINE = b"POST /v1/score HTTP/1.1\r\n"
PLAIN = LINE + b"Host: x\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}"


class Parsed:
    """What the server's parser makes of bytes: how many requests, whether anything is left, and their bodies."""

    def __init__(self, data: bytes) -> None:
        self.begun = self.ended = 0
        self.body = b""
        httptools.HttpRequestParser(self).feed_data(data)

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended += 1


class TestIsOneWholeRequest:
    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(PLAIN, id="plain"),
            pytest.param(PLAIN.replace(b"Connection: keep-alive\r\n", b""), id="without Connection"),
            pytest.param(PLAIN.replace(b"Content-Length", b"content-length"), id="in lower case"),
            pytest.param(LINE + b"Content-Length: 0\r\n\r\n", id="an empty body"),
            pytest.param(LINE + b"Content-Length: 4\r\n\r\n\r\n\r\n", id="a body that looks like the end of a head"),
        ],
    )  # fmt: skip
    def test_knows_what_clients_send_as_the_parser_does(self, data: bytes) -> None:
        parsed = Parsed(data)

        assert is_one_whole_request(data)
        assert (parsed.begun, parsed.ended) == (1, 1)
        assert data.endswith(b"\r\n\r\n" + parsed.body)

    @pytest.mark.parametrize("size", range(len(PLAIN)))
    def test_waits_for_all_of_it(self, size: int) -> None:
        assert not is_one_whole_request(PLAIN[:size])

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(PLAIN + b"P", id="the next one has begun"),
            pytest.param(PLAIN + PLAIN, id="two"),
            pytest.param(LINE + b"Host: x\r\n\r\n", id="no length"),
            pytest.param(PLAIN.replace(b"Length: 2", b"Length: +2"), id="a sign"),
            pytest.param(PLAIN.replace(b"Length: 2", b"Length: 2 "), id="a space behind the length"),
            pytest.param(PLAIN.replace(b"Length: 2", b"Length:2"), id="no space before the length"),
            pytest.param(PLAIN.replace(b"Length: 2", b"Length: 2, 2"), id="a list of lengths"),
            pytest.param(PLAIN.replace(b"Length: 2", b"Length: 0000000002"), id="a long number"),
            pytest.param(PLAIN.replace(b"Length: 2", b"Length: \xb2"), id="a digit that is not ASCII"),
            pytest.param(PLAIN.replace(b"Host", b"Content-Length: 2\r\nHost"), id="two lengths"),
            pytest.param(PLAIN.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost"), id="chunked"),
            pytest.param(PLAIN.replace(b"Host", b"TRANSFER-ENCODING : x\r\nHost"), id="chunked, hidden"),
            pytest.param(PLAIN.replace(b"keep-alive", b"close"), id="the last one"),
            pytest.param(PLAIN.replace(b"keep-alive", b"Upgrade"), id="an upgrade"),
            pytest.param(PLAIN.replace(b"Host", b"Expect: 100-continue\r\nHost"), id="waits for an answer"),
            pytest.param(PLAIN.replace(b"Host", b"X-Request-ID: 7\r\nHost"), id="an id of its own"),
            pytest.param(PLAIN.replace(b"Host: x\r\n", b"Host: x\n"), id="a bare line feed"),
            pytest.param(PLAIN.replace(b"Host: x", b"Host: x\n\nGET / HTTP/1.1"), id="one within another"),
        ],
    )
    def test_leaves_whatever_is_odd_to_the_parser(self, data: bytes) -> None:
        assert not is_one_whole_request(data)


class TestRefusal:
    def test_has_an_id_of_its_own_each_time_in_the_header_and_in_the_body(self) -> None:
        shedding, common = Shedding(), [(b"date", b"now")]

        first, second = shedding.refusal(common), shedding.refusal(common)

        given = next(line for line in first.split(b"\r\n") if line.startswith(b"x-request-id: "))[14:]
        assert request_id(given.decode()) == given.decode()
        assert first.count(given) == 2
        assert given not in second
        assert len(first) == len(second)

    def test_carries_the_newest_headers_of_the_server(self) -> None:
        shedding = Shedding()
        shedding.refusal([(b"date", b"now")])

        assert b"\r\ndate: later\r\n" in shedding.refusal([(b"date", b"later")])
