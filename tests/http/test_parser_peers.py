"""The parser against two others: what weft takes, ``h11`` and llhttp (``httptools``) take as well, with the same body.

So nothing gets through here that both of them refuse. Where the parsers differ stands in two tables, each entry with
its reason; every entry is tried, so that none can be out of date, and the property test allows no other difference.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.http.messages import Message, assembled, mutated, responses
from tests.http.otherparsers import Verdict, h11_verdict, httptools_verdict
from tests.http.wirekit import Read, read

pytest.importorskip("h11", reason="h11, one of the parsers to compare with, is not installed")
pytest.importorskip("httptools", reason="httptools, one of the parsers to compare with, is not installed")

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"

# What llhttp says of something that weft takes: the beginning of its error, an example, and why weft takes it.
LLHTTP_IS_STRICTER = [
    (
        r"Duplicate Content-Length",
        OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "RFC 9112, 6.3 lets a recipient take a length that is repeated and the same; no two readers can differ",
    ),
    (
        r"Invalid character in chunk extensions",
        CHUNKED + b"5; a b\r\nhello\r\n0\r\n\r\n",
        "a recipient ignores extensions that it does not know (RFC 9112, 7.1.1): where the line ends is what counts, "
        "and weft looks for that byte by byte",
    ),
]

# What both take and weft does not: an example, weft's words, and why.
WEFT_IS_STRICTER = [
    (
        OK + b"Content-Length: " + b"0" * 19 + b"\r\n\r\n",
        "not a number",
        "no length has 19 digits",
    ),
    (CHUNKED + b"0" * 15 + HELLO, "too many digits", "2**60 is more than anyone sends; counting zeros is an overflow"),
    (CHUNKED.replace(b"1.1", b"1.0") + HELLO, "HTTP/1.0", "RFC 9112, 6.1: to be treated as faulty framing"),
    (b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n", "begin with", "HTTP/0.9 had no status line"),
    (b"HTTP/1.1 200 O\x7fK\r\nContent-Length: 0\r\n\r\n", "control", "RFC 9112, 4: a reason has no control characters"),
    (
        b"HTTP/1.1 100 C\r\nContent-Length: 3\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
        "interim response with a body",
        "RFC 9110, 8.6: none has this field; who believes it takes the next response for a body",
    ),
]


def verdicts(data: bytes) -> tuple[Read, Verdict, Verdict]:
    """What weft, llhttp and h11 make of ``data``, or of the part of it that weft takes for the response."""
    weft = read([data], ends=True)
    if weft.is_done:
        data = data[: weft.taken]
    return weft, httptools_verdict(data), h11_verdict(data, ends=True)


def is_known(error: str) -> bool:
    return any(re.search(said, error) for said, _, _ in LLHTTP_IS_STRICTER)


def compare(data: bytes) -> Read:
    weft, llhttp, h11 = verdicts(data)
    if weft.is_done:
        assert (h11.error, h11.is_done, h11.body) == (None, True, weft.body), "h11 does not take it so"
        if llhttp.error is None:
            assert llhttp.body == weft.body, "llhttp finds another body"
        else:
            assert is_known(llhttp.error), f"llhttp refuses it: {llhttp.error}"
    return weft


class TestSameAsOthers:
    @given(message=responses())
    def test_valid(self, message: Message) -> None:
        weft, llhttp, h11 = verdicts(message.data)
        assert (weft.is_done, weft.body) == (True, message.body)
        assert (h11.error, h11.is_done, h11.body) == (None, True, message.body)
        # Without framing the end of the connection is the end, and httptools cannot be told of that.
        assert (llhttp.error, llhttp.is_done, llhttp.body) == (None, message.ends_by_itself, message.body)

    @given(data=mutated(responses()))
    def test_mutated(self, data: bytes) -> None:
        compare(data)

    @given(data=assembled())
    @example(OK + b"Content-Length: 5\r\nContent-Length: 05\r\n\r\nhello")
    @example(CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n")
    @example(CHUNKED + b"5\r\nhello\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n")
    def test_assembled(self, data: bytes) -> None:
        compare(data)

    @given(st.binary(max_size=100))
    def test_noise(self, tail: bytes) -> None:
        for start in (b"", OK, CHUNKED, CHUNKED + b"5\r\nhello\r\n0\r\n"):
            compare(start + tail)


class TestDifferences:
    @pytest.mark.parametrize(("said", "data", "reason"), LLHTTP_IS_STRICTER)
    def test_llhttp_is_stricter(self, said: str, data: bytes, reason: str) -> None:
        weft, llhttp, h11 = verdicts(data)
        assert weft.is_done and weft.body == h11.body == b"hello"
        assert llhttp.error is not None and re.search(said, llhttp.error)

    @pytest.mark.parametrize(("data", "said", "reason"), WEFT_IS_STRICTER)
    def test_weft_is_stricter(self, data: bytes, said: str, reason: str) -> None:
        weft, llhttp, h11 = verdicts(data)
        assert said in (weft.error or "")
        assert llhttp.is_done and h11.is_done
