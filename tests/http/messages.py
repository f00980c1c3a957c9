"""Strategies: responses that are valid, with what they mean; what may be done to them; and places to cut them.

Used by the property tests of the parser and by the comparison with other parsers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
FRAMING = {"content-length", "transfer-encoding", "connection", "upgrade", "proxy-connection"}


@dataclass(frozen=True)
class Message:
    """A valid response and what a reader must make of it."""

    data: bytes
    status: int
    version: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    framing: str  # "none", "length", "chunked", "close"
    is_reusable: bool
    trailer: bytes | None = None

    @property
    def ends_by_itself(self) -> bool:
        return self.framing != "close"


names = st.text(TOKEN, min_size=1, max_size=12).filter(lambda name: name.lower() not in FRAMING)
values = st.text(
    st.one_of(st.characters(min_codepoint=33, max_codepoint=126), st.sampled_from("\t ÿé\x80\xa0")), max_size=20
).map(lambda text: text.strip(" \t"))
blanks = st.text(" \t", max_size=2)
bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\n", b"a" * 3000]),
)


def spelled(draw: st.DrawFn, word: str) -> str:
    """``word`` with letters of either case."""
    return "".join(draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in word)


@st.composite
def field_lines(draw: st.DrawFn) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    pairs = draw(st.lists(st.tuples(names, values), max_size=5))
    lines = [f"{name}:{draw(blanks)}{value}{draw(blanks)}\r\n" for name, value in pairs]
    return "".join(lines).encode("latin-1"), tuple(pairs)


@st.composite
def chunks(draw: st.DrawFn, body: bytes) -> bytes:
    """``body`` in chunks, without the last one."""
    edges = sorted({0, len(body), *draw(st.lists(st.integers(0, len(body)), max_size=4))})
    made = []
    for start, end in pairwise(edges):
        size = draw(st.sampled_from(["%x", "%X", "0%x", "00%X"])) % (end - start)
        extension = draw(st.sampled_from(["", "", ";a", ";a=b", ';a="b c"']))
        made.append(f"{size}{extension}\r\n".encode() + body[start:end] + b"\r\n")
    return b"".join(made)


@st.composite
def responses(draw: st.DrawFn) -> Message:
    """A final response, perhaps with interim ones before it."""
    version = draw(st.sampled_from([11, 11, 11, 10]))
    status = draw(st.sampled_from([200, 200, 201, 204, 206, 301, 304, 404, 500, 599]))
    reason = draw(st.sampled_from([" OK", " ", " Not  here", " d\xe9j\xe0"]))
    body = draw(bodies)
    framing = draw(st.sampled_from(["length", "chunked", "close"] if version == 11 else ["length", "close"]))
    after, trailer = b"", None
    own: list[bytes] = []
    if framing == "length":
        own.append(f"{spelled(draw, 'content-length')}: {len(body)}\r\n".encode())
        after = body
    elif framing == "chunked":
        own.append(f"{spelled(draw, 'transfer-encoding')}: {spelled(draw, 'chunked')}\r\n".encode())
        trailer = draw(field_lines())[0] + b"\r\n"
        after = draw(chunks(body)) + b"0\r\n" + trailer
    else:
        after = body
    connection = draw(st.sampled_from(["", "", "close", "keep-alive", "x, Keep-Alive", "Close , y"]))
    if connection:
        own.append(f"{spelled(draw, 'connection')}: {connection}\r\n".encode())
    if status in (204, 304):
        framing, body, after, trailer = "none", b"", b"", None
    lines, pairs = draw(field_lines())
    place = draw(st.integers(0, len(own)))
    head = b"".join(own[:place]) + lines + b"".join(own[place:])
    start = f"HTTP/1.{version - 10} {status}{reason}\r\n".encode("latin-1")
    interim = b"".join(draw(st.lists(st.sampled_from(INTERIM), max_size=2)))
    keeps = "keep-alive" in connection.lower() or (version == 11 and "close" not in connection.lower())
    return Message(
        interim + start + head + b"\r\n" + after, status, version, pairs, body, framing,
        keeps and framing != "close", trailer if trailer not in (None, b"\r\n") else None,
    )  # fmt: skip


INTERIM = [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]

# What is put in, or in place of something: the characters of the grammar, and those that have no place in it.
SPICE = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b";", b",", b"0", b"1", b"a", b"F", b"x", b"-",
    b"+", b"_", b"\x0b", b"\x7f", b"\x80", b"\xff", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.", b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n", b"0\r\n\r\n",
    b"5\r\nhello\r\n", b" folded\r\n", b"ffffffffffffffff",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, messages: st.SearchStrategy[Message]) -> bytes:
    """A valid response to which something was done."""
    data = draw(messages).data
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        size = draw(st.sampled_from([0, 0, 1, 1, 2, 5]))
        data = data[:start] + draw(st.sampled_from(SPICE)) + data[start + size :]
    return data


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[int]:
    """Where to cut ``data``."""
    return draw(st.lists(st.integers(1, max(1, len(data) - 1)), max_size=6))


# -- responses put together from parts that may be wrong

STARTS = [
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 204 N", b"HTTP/1.1 304 N",
    b"HTTP/1.1 404 ", b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK", b"HTTP/1.1 101 S", b"HTTP/1.1 600 x",
    b"HTTP/1.1 099 x", b"HTTP/0.9 200 OK", b"HTTP/2.0 200 OK", b"http/1.1 200 OK", b"\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1  200 OK", b"HTTP/1.1 200\tOK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 200OK", b"HTTP/1.1 20 OK",
    b"HTTP/1.1 100 X\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK", b"HTTP/1.1 205 R", b"HTTP/1.1 999 ?",
]  # fmt: skip
FIELDS = [
    b"X: y", b"X:y", b"X:", b"X : y", b"X", b": y", b" X: y", b"X: y\r\n z", b"X: \x00", b"X: a\x7f", b"X: a\x01",
    b"X\x80: y", b"X: \xff", b"X(: y", b"Connection: close", b"Connection: keep-alive", b"Upgrade: x",
    b"Connection: upgrade\r\nUpgrade: x", b"Content-Length: 5", b"Content-Length: 5", b"Content-Length: 05",
    b"Content-Length: 0", b"Content-Length: 6", b"Content-Length: +5", b"Content-Length: 5, 5", b"Content-Length:",
    b"Content-Length: 0x5", b"Content-Length: -5", b"Content-Length: 5\t", b"Content-Length: 5_0",
    b"Content-Length: 18446744073709551621", b"Content-Length : 5", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked", b"Transfer-Encoding: gzip", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding: chunked,", b"Transfer-Encoding: identity",
    b"Transfer-Encoding:", b"Transfer-Encoding: xchunked", b"Transfer-Encoding : chunked",
]  # fmt: skip
SIZES = [
    b"5", b"5", b"05", b"5;a=b", b"5;", b"5 ", b" 5", b"0x5", b"+5", b"-5", b"5_", b"5;a b", b'5;a="\x80"', b'5;a="b',
    b"5;=a", b"5 ;a", b"5;a\tb", b"5;a\x00", b"5;a\rb", b"g", b"", b"0000000000000000005", b"10000000000000005",
    b"4", b"6",
]  # fmt: skip
TRAILERS = [
    b"", b"", b"X: y\r\n", b"X y\r\n", b"X : y\r\n", b"X: \x01\r\n", b"X: y\r\n z\r\n", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: gzip\r\n", b"X: y\n",
]  # fmt: skip
LINE_ENDS = [b"\r\n"] * 15 + [b"\n", b"\r", b"\r\r\n"]


@st.composite
def assembled(draw: st.DrawFn) -> bytes:
    """A response of parts, most of them valid; together they seldom are."""
    ends = st.sampled_from(LINE_ENDS)
    data = draw(st.sampled_from(STARTS)) + draw(ends)
    for field in draw(st.lists(st.sampled_from(FIELDS), max_size=3)):
        data += field + draw(ends)
    data += draw(ends)
    if draw(st.booleans()):
        return data + draw(st.sampled_from([b"", b"hell", b"hello", b"hello!"]))
    for _ in range(draw(st.integers(0, 2))):
        data += draw(st.sampled_from(SIZES)) + draw(ends) + b"hello" + draw(ends)
    return (
        data
        + draw(st.sampled_from([b"0", b"0", b"00", b"0;a"]))
        + draw(ends)
        + draw(st.sampled_from(TRAILERS))
        + draw(ends)
    )
