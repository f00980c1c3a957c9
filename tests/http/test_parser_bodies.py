"""Where a body ends: by its length, by its chunks, by the end of the connection, or at once (RFC 9112, 6 and 7)."""

from __future__ import annotations

import pytest

from tests.http.test_parser import CHUNKED, LIMIT, OK, outcome
from tests.http.wirekit import read
from weft.http._wire.parser import ResponseParser


class TestLength:
    @pytest.mark.parametrize(
        ("fields", "length"),
        [
            (b"Content-Length: 5", 5), (b"content-length:5", 5), (b"Content-Length: \t5 \t", 5),
            (b"Content-Length: 005", 5), (b"Content-Length: 0", 0), (b"Content-Length: 5\r\nContent-Length: 5", 5),
            (b"Content-Length: 5\r\nX: y\r\ncontent-length: 5", 5),
        ],
    )  # fmt: skip
    def test_valid(self, fields: bytes, length: int) -> None:
        head = OK + fields + b"\r\n\r\n"
        found = outcome(head + b"helloHTTP/1.1 200 OK\r\n")
        assert (found.error, found.body, found.taken) == (None, b"hello"[:length], len(head) + length)
        assert found.is_done and found.is_reusable

    @pytest.mark.parametrize(
        "value",
        [
            b"", b" ", b"-1", b"-0", b"+5", b"5,5", b"5, 5", b"5, 6", b"5;5", b"0x5", b"5h", b"5 5", b"5\t5", b"5.0",
            b"5e0", b"5_0", b"\xb25", b"\xd9\xa5", b"five", b"5\x00", b"5\x0b", b"\"5\"", b"1" * 19, b"0" * 19,
            b"18446744073709551616", b"18446744073709551621", b"9223372036854775808", b"NaN", b"chunked", b",5", b"5,",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("has_no_body", [False, True])
    def test_refused(self, value: bytes, has_no_body: bool) -> None:
        found = outcome(OK + b"Content-Length: " + value + b"\r\n\r\nhello", has_no_body=has_no_body)
        assert found.error is not None and found.body == b"" and found.head is None

    @pytest.mark.parametrize(
        "fields",
        [
            b"Content-Length: 5\r\nContent-Length: 6",
            b"Content-Length: 6\r\nContent-Length: 5",
            b"Content-Length: 0\r\nContent-Length: 5",
            b"Content-Length: 5\r\nContent-Length: 0",
            b"Content-Length: 5\r\nContent-Length:",
            b"Content-Length: 5\r\nContent-Length: 05",
            b"Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 50",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5",
            b"Transfer-Encoding: chunked\r\nContent-Length: 0",
        ],
    )
    @pytest.mark.parametrize("status", [b"200", b"204", b"304", b"404"])
    def test_conflict(self, fields: bytes, status: bytes) -> None:
        found = outcome(b"HTTP/1.1 " + status + b" OK\r\n" + fields + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        assert found.error is not None and found.body == b"" and not found.is_reusable

    def test_largest(self) -> None:
        found = outcome(OK + b"Content-Length: " + b"9" * 18 + b"\r\n\r\nhello")
        assert (found.error, found.body, found.is_done) == (None, b"hello", False)

    @pytest.mark.parametrize("has", range(5))
    def test_incomplete(self, has: int) -> None:
        found = outcome(OK + b"Content-Length: 5\r\n\r\n" + b"hello"[:has], ends=True)
        assert not found.is_done and found.body == b"hello"[:has]


class TestWithoutBody:
    @pytest.mark.parametrize("status", [b"204 No", b"304 Not"])
    @pytest.mark.parametrize("fields", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
    def test_by_status(self, status: bytes, fields: bytes) -> None:
        head = b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n"
        found = outcome(head + b"5\r\nhello")
        assert (found.error, found.body, found.taken, found.is_reusable) == (None, b"", len(head), True)

    @pytest.mark.parametrize("fields", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
    def test_head(self, fields: bytes) -> None:
        head = OK + fields + b"\r\n"
        found = outcome(head + b"hello", has_no_body=True)
        assert (found.error, found.body, found.taken, found.is_reusable) == (None, b"", len(head), True)

    def test_205_is_framed_like_others(self) -> None:
        assert outcome(b"HTTP/1.1 205 R\r\nContent-Length: 2\r\n\r\nab").body == b"ab"


class TestUntilClose:
    @pytest.mark.parametrize(
        "line", [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.0 200 OK\r\nConnection: keep-alive"]
    )
    def test_ends_with_the_connection(self, line: bytes) -> None:
        data = line + b"\r\n\r\nhello\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
        found = outcome(data, ends=True)
        assert found.is_done and not found.is_reusable
        assert (found.body, found.taken) == (data[len(line) + 4 :], len(data))
        assert not outcome(data).is_done

    @pytest.mark.parametrize(
        "data",
        [b"", b"HTTP", OK, OK + b"X: y\r\n", OK + b"X: y\r\n\r", CHUNKED, CHUNKED + b"5", CHUNKED + b"5\r\nhello",
         CHUNKED + b"5\r\nhello\r\n", CHUNKED + b"0\r\n", CHUNKED + b"0\r\nX: y\r\n", CHUNKED + b"0\r\n\r",
         b"HTTP/1.1 100 C\r\n\r\n"],
    )  # fmt: skip
    def test_too_early(self, data: bytes) -> None:
        assert not outcome(data, ends=True).is_done

    def test_empty(self) -> None:
        found = outcome(OK + b"\r\n", ends=True)
        assert (found.is_done, found.body) == (True, b"")


class TestCodings:
    @pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED", b"\tchunked "])
    def test_valid(self, value: bytes) -> None:
        found = outcome(OK + b"Transfer-Encoding:" + value + b"\r\n\r\n2\r\nab\r\n0\r\n\r\n")
        assert (found.error, found.body) == (None, b"ab")

    @pytest.mark.parametrize(
        "value",
        [
            b"", b"gzip", b"identity", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked,",
            b",chunked", b"chunked, identity", b"chunked;q=1", b"xchunked", b"chunkedx", b"chunke", b"\x0bchunked",
            b"chunked\x0b",
            b"chun\xebed", b'"chunked"', b"cow", b"chunked\r\nTransfer-Encoding: chunked",
            b"gzip\r\nTransfer-Encoding: chunked", b"chunked\r\nTransfer-Encoding: identity",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("status", [b"200", b"204", b"500"])
    def test_refused(self, value: bytes, status: bytes) -> None:
        data = b"HTTP/1.1 " + status + b" S\r\nTransfer-Encoding: " + value + b"\r\n\r\n2\r\nab\r\n0\r\n\r\n"
        assert outcome(data, ends=True).error is not None

    def test_in_http_1_0(self) -> None:
        """RFC 9112, 6.1: such a message has to be treated as if its framing were faulty."""
        assert outcome(CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n").error is not None


class TestChunks:
    @pytest.mark.parametrize(
        ("chunks", "body", "trailer"),
        [
            (b"0\r\n\r\n", b"", None),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello", None),
            (b"005\r\nhello\r\n000\r\n\r\n", b"hello", None),
            (b"a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n", b"01234567890123456789a", None),
            (b"1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", b"\r\n", None),
            (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n", None),
            (b"5;a=b\r\nhello\r\n0;last\r\n\r\n", b"hello", None),
            (b'5;a="b;c"\t;\xff d\r\nhello\r\n0\r\n\r\n', b"hello", None),
            (b"5\r\nhello\r\n0\r\nX: y\r\nZ: \r\n\r\n", b"hello", b"X: y\r\nZ: \r\n\r\n"),
            (b"0\r\nConnection: close\r\nLocation: /\r\n\r\n", b"", None),
        ],
    )
    def test_valid(self, chunks: bytes, body: bytes, trailer: bytes | None) -> None:
        found = outcome(CHUNKED + chunks + b"HTTP/1.1 200 OK\r\n")
        assert (found.error, found.body, found.taken) == (None, body, len(CHUNKED) + len(chunks))
        assert found.is_done and found.is_reusable
        if trailer is not None:
            assert found.trailer == trailer

    @pytest.mark.parametrize(
        "size",
        [
            b"", b" 5", b"5 ", b"\t5", b"5\t", b"+5", b"-5", b"0x5", b"0X5", b"5h", b"g", b"5_0", b"_5", b"5.", b"\xb5",
            b"\xd9\xa5", b"\x005", b"5\x00", b"5,", b"5 ;a", b";a", b"5\x0b", b"5\x0c", b'"5"', b"%35", b"5\r", b"5\n",
            b"\n5", b"\r\n5", b"5:", b"5=", b"0" * 16, b"f" * 16, b"1" + b"0" * 16, b"10000000000000005", b"5;a\x00b",
            b"5;a\x7f", b"5;a\nb", b"5;a\rb", b"5;\x0b",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("is_second", [False, True])
    def test_size_refused(self, size: bytes, is_second: bool) -> None:
        before = b"2\r\nab\r\n" if is_second else b""
        found = outcome(CHUNKED + before + size + b"\r\nhello\r\n0\r\n\r\n", ends=True)
        assert found.error is not None and not found.is_done and not found.is_reusable
        assert found.body == (b"ab" if is_second else b"")

    @pytest.mark.parametrize(
        "chunks",
        [
            b"5\nhello\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r\n0\n\r\n", b"5\r\nhello\r\n0\r\n\n",
            b"5\rhello\r\n0\r\n\r\n", b"5\r\nhello\r0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhello!\r\n0\r\n\r\n",
            b"5\r\nhell\r\n0\r\n\r\n", b"5\r\nhello\r\n\r\n0\r\n\r\n", b"5\r\nhello\r\n 0\r\n\r\n", b"5;a\nhello\r\n",
            b"5\r\nhello\r\n0\r\n\r\r\n", b"5\r\nhello\r\n0\r\n folded\r\n\r\n", b"5\r\nhello\n\n0\r\n\r\n",
            b"5\r\nhello\r\r\n0\r\n\r\n", b"5\r\nhello\r\n-0\r\n\r\n", b"0\r\nX y\r\n\r\n",
            b"\r\n\r\n", b";a\r\n\r\n", b"5\r\nhello\r\n\r\n\r\n", b"0\r\nContent-Length: 0\r\n\r\n",
            b"0\r\nTRANSFER-ENCODING: chunked\r\n\r\n",
        ],
    )  # fmt: skip
    def test_refused(self, chunks: bytes) -> None:
        found = outcome(CHUNKED + chunks, ends=True)
        assert found.error is not None and not found.is_done
        assert found.body in (b"", b"hello", b"hell\r")

    def test_largest_size(self) -> None:
        found = outcome(CHUNKED + b"f" * 15 + b"\r\nhello")
        assert (found.error, found.body, found.is_done) == (None, b"hello", False)

    def test_extensions_of_many_chunks(self) -> None:
        """What one chunk may say beside its size is limited, not what a long stream of them says in all."""
        many = b"1;signature=0123456789abcdef\r\nx\r\n" * (LIMIT // 16)
        found = outcome(CHUNKED + many + b"0\r\n\r\n")
        assert (found.error, len(found.body)) == (None, LIMIT // 16)


class TestOneAfterTheOther:
    def test_nothing_is_left_of_the_one_before(self) -> None:
        """A parser is used for every response of its connection."""
        parser = ResponseParser()
        first = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\nSet-Cookie: a=b\r\n\r\n")
        messages = [
            first + b"5;ext\r\nhello\r\n0\r\nX: y\r\n\r\n",
            OK + b"Content-Length: 2\r\n\r\nab",
            b"HTTP/1.1 100 C\r\n\r\nHTTP/1.0 404 No\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
            CHUNKED + b"2\r\nab\r\n0\r\n\r\n",
        ]
        for message in messages * 2:
            pieces = [message[:20], message[20:]]
            assert read(pieces, parser=parser) == read([message])

    def test_after_an_error(self) -> None:
        parser = ResponseParser()
        good = OK + b"Content-Length: 2\r\n\r\nab"
        for bad in (b"HTTP/1.1 200 OK\r\nX: y\r\nZ", OK + b"X : y\r\n\r\n", CHUNKED + b"5\r\nhel", CHUNKED + b"x"):
            read([bad[:7], bad[7:]], parser=parser)
            assert read([good], parser=parser) == read([good])
