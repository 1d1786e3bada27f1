import pytest

from bench.http_wire import WireError, post, post_head, read_answer

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class TestPost:
    def test_a_request_has_its_headers_its_length_and_its_body(self) -> None:
        head = post_head("/v1/score", host="127.0.0.1", headers={"Authorization": "Bearer abc"})

        assert post(head, b"{}") == (
            b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer abc\r\nContent-Length: 2\r\n\r\n{}"
        )


class TestReadAnswer:
    def test_an_answer_is_read_once_it_is_complete(self) -> None:
        assert all(read_answer(WHOLE[:length]) is None for length in range(len(WHOLE)))
        found = read_answer(WHOLE)

        assert found is not None
        answer, rest = found
        assert (answer.status, answer.body, rest) == (200, b"{}", b"")

    def test_what_follows_an_answer_is_kept(self) -> None:
        found = read_answer(WHOLE + b"HTTP/1.1 503")

        assert found is not None
        assert found[1] == b"HTTP/1.1 503"

    def test_an_answer_says_whether_its_connection_closes(self) -> None:
        kept = read_answer(WHOLE)
        closed = read_answer(b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

        assert kept is not None
        assert closed is not None
        assert (kept[0].closes, closed[0].closes) == (False, True)

    @pytest.mark.parametrize(
        "received",
        [
            b"SSH-2.0 hello\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ],
    )
    def test_what_it_does_not_read_is_refused(self, received: bytes) -> None:
        with pytest.raises(WireError):
            read_answer(received)
