"""The parser of responses, message by message: what is taken, and what is refused (RFC 9112).

Every message of every table is fed whole, byte by byte and cut once at each place: the outcome must be the same.
"""

from __future__ import annotations

import pytest

from tests.http.wirekit import Read, cut, read, singly
from weft.http._wire.incoming import Note
from weft.http.headers import Headers

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LIMIT = 64 * 1024


def outcome(data: bytes, *, has_no_body: bool = False, may_switch: bool = False, may_tunnel: bool = False,
            ends: bool = False) -> Read:  # fmt: skip
    """What the parser makes of ``data``, however it is cut."""

    def of(pieces: list[bytes]) -> Read:
        return read(pieces, has_no_body=has_no_body, may_switch=may_switch, may_tunnel=may_tunnel, ends=ends)

    whole = of([data])
    if len(data) <= 2000:
        assert of(singly(data)) == whole, "byte by byte it is something else"
        for place in range(1, len(data)):
            assert of(cut(data, [place])) == whole, f"cut at {place} it is something else"
    else:
        assert of(cut(data, range(1, len(data), 997))) == whole, "in pieces it is something else"
    return whole


class TestStatusLine:
    @pytest.mark.parametrize(
        ("line", "status", "version"),
        [
            (b"HTTP/1.1 200 OK", 200, 11),
            (b"HTTP/1.0 200 OK", 200, 10),
            (b"HTTP/1.1 200 ", 200, 11),
            (b"HTTP/1.1 200", 200, 11),  # the blank is required, and left out by many
            (b"HTTP/1.1 404 Not  Found\tat all", 404, 11),
            (b"HTTP/1.1 200 d\xe9j\xe0 vu", 200, 11),
            (b"HTTP/1.1 999 ?", 999, 11),
            (b"HTTP/1.1 600 ", 600, 11),
        ],
    )
    def test_valid(self, line: bytes, status: int, version: int) -> None:
        found = outcome(line + b"\r\nContent-Length: 0\r\n\r\n")
        assert (found.error, found.status, found.version, found.is_done) == (None, status, version, True)

    @pytest.mark.parametrize(
        "line",
        [
            b"", b" HTTP/1.1 200 OK", b"\tHTTP/1.1 200 OK", b"\xef\xbb\xbfHTTP/1.1 200 OK", b"\r\nHTTP/1.1 200 OK",
            b"http/1.1 200 OK", b"Http/1.1 200 OK", b"HTTP/1.2 200 OK", b"HTTP/1.9 200 OK", b"HTTP/0.9 200 OK",
            b"HTTP/2.0 200 OK", b"HTTP/2 200 OK", b"HTTP/1 200 OK", b"HTTP/1.10 200 OK", b"HTTP/01.1 200 OK",
            b"HTTP/1.\xb2 200 OK", b"HTTP /1.1 200 OK", b"ICY 200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK",
            b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 -20 OK", b"HTTP/1.1 +20 OK", b"HTTP/1.1 0x2 OK",
            b"HTTP/1.1 20a OK", b"HTTP/1.1 2\xb20 OK", b"HTTP/1.1 200OK", b"HTTP/1.1 200\tOK", b"HTTP/1.1 200\x00",
            b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 OK\r", b"HTTP/1.1 200 O\x1bK",
            b"HTTP/1.1 200 OK\x7f", b"HTTP/1.1 200\x0bOK", b"HTTP/1.1 099 OK", b"HTTP/1.1 000 OK", b"HTTP/1.1 OK",
            b"HTTP/1.1", b"HTTP/1.1 ", b"<html>hello</html>", b"GET / HTTP/1.1", b"SSH-2.0-OpenSSH_9.2",
            b"\x15\x03\x01\x00\x02\x02P", b"200 OK",
        ],
    )  # fmt: skip
    def test_refused(self, line: bytes) -> None:
        found = outcome(line + b"\r\nContent-Length: 0\r\n\r\n")
        assert found.error is not None
        assert (found.status, found.head, found.is_reusable) == (0, None, False)

    def test_what_is_no_http_is_refused_at_its_first_wrong_byte(self) -> None:
        assert read([b"X"]).error is not None
        assert read([b"HTTP/1."]).error is None
        assert read([b"HTTP/2"]).error is not None

    def test_error_names_the_url(self) -> None:
        assert "http://peer.example/" in (read([b"X"]).error or "")


class TestFields:
    @pytest.mark.parametrize(
        ("line", "name", "value"),
        [
            (b"X: a b", "X", "a b"),
            (b"X:a", "X", "a"),
            (b"X: \t a \t ", "X", "a"),
            (b"X:", "X", ""),
            (b"X:  ", "X", ""),
            (b"X: a: b", "X", "a: b"),
            (b"X: a\tb", "X", "a\tb"),
            (b"X: \x80\xff\xa0\x85", "X", "\x80\xff\xa0\x85"),
            (b"!#$%&'*+-.^_`|~09azAZ: a", "!#$%&'*+-.^_`|~09azAZ", "a"),
        ],
    )
    def test_valid(self, line: bytes, name: str, value: str) -> None:
        found = outcome(OK + line + b"\r\nContent-Length: 0\r\n\r\n")
        assert found.error is None and found.head is not None
        assert list(Headers.from_head(found.head).items()) == [(name, value), ("Content-Length", "0")]

    @pytest.mark.parametrize(
        "line",
        [
            b"X : a", b"X\t: a", b"X\x0b: a", b" X: a", b"\tX: a", b": a", b":", b"X", b" ", b"X a", b"X\x00: a",
            b"X\r: a", b"X\n: a", b"X: a\r", b"X: a\nY: b", b"X: a\x00", b"X: \x00", b"X: a\x07b", b"X: a\x1b[0m",
            b"X: a\x7f", b"X: a\x0bb", b"X: a\x0cb", b"\xc4: a", b"X\x80: a", b"X(c): a", b"X/Y: a", b"X,Y: a",
            b"[X]: a", b"X;Y: a", b'"X": a', b"X@Y: a", b"X=Y: a", b"{X}: a", b"X\\Y: a", b"X: a\r\n b", b"X: a\r\n\tb",
            b"X:\r\n a", b"X: a\r\n \r\nY: b", b"X: a\r\r", b"\rX: a",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("place", ["first", "last", "trailer"])
    def test_refused(self, line: bytes, place: str) -> None:
        length = b"Content-Length: 0\r\n"
        if place == "trailer":
            data = CHUNKED + b"0\r\n" + line + b"\r\n\r\n"
        else:
            data = OK + (line + b"\r\n" + length if place == "first" else length + line + b"\r\n") + b"\r\n"
        found = outcome(data)
        assert found.error is not None
        assert not found.is_done and not found.is_reusable

    @pytest.mark.parametrize("code", [*(c for c in range(0x20) if c != 9), 0x7F])
    def test_each_control_character(self, code: int) -> None:
        """In the value, the name and the reason, and as the whole of them."""
        byte = bytes([code])
        for line in (b"X: a%bb" % byte, b"X: %b" % byte, b"X%b: a" % byte, b"%bX: a" % byte):
            assert outcome(OK + line + b"\r\nContent-Length: 0\r\n\r\n").error is not None, line
        assert outcome(b"HTTP/1.1 200 a%bb\r\nContent-Length: 0\r\n\r\n" % byte).error is not None

    @pytest.mark.parametrize("number", range(4))
    def test_bare_lf_as_each_line_end(self, number: int) -> None:
        lines = [b"HTTP/1.1 200 OK", b"X: a", b"Content-Length: 0", b""]
        data = b"".join(line + (b"\n" if i == number else b"\r\n") for i, line in enumerate(lines))
        assert "bare LF" in (outcome(data).error or "")

    @pytest.mark.parametrize("end", [b"\r", b"\r\r\n", b"\n\r", b"\n\n"])
    def test_other_line_ends(self, end: bytes) -> None:
        assert outcome(OK + b"X: a" + end + b"Content-Length: 0\r\n\r\n").error is not None

    def test_folded_line_is_named(self) -> None:
        assert "folded" in (outcome(OK + b"X: a\r\n b\r\n\r\n").error or "")


class TestNotes:
    @pytest.mark.parametrize(
        ("line", "notes"),
        [
            (b"Content-Encoding: gzip", Note.HAS_CODING),
            (b"set-COOKIE: a=b", Note.HAS_COOKIES),
            (b"LOCATION: /", Note.HAS_LOCATION),
            (b"WWW-Authenticate: Basic", Note.HAS_CHALLENGE),
            (b"Proxy-Authenticate: Basic", Note.HAS_CHALLENGE),
            (b"Connection: close", Note.SAYS_CLOSE),
            (b"Connection: Keep-Alive", Note.SAYS_KEEP_ALIVE),
            (b"Connection: x ,\tUPGRADE\t, close", Note.SAYS_UPGRADE | Note.SAYS_CLOSE),
            (b"Connection: ,,close,", Note.SAYS_CLOSE),
            (b"Connection:", 0),
            (b"Connection: closed, xclose, clos, close;q=1, keep\x20alive", 0),
            (b"X-Location: /", 0),
            (b"Locatio\x4d: /", 0),
            (b"Set-Cookie2: a=b", 0),
        ],
    )
    def test_field(self, line: bytes, notes: int) -> None:
        found = outcome(OK + line + b"\r\nContent-Length: 0\r\n\r\n")
        assert (found.error, found.notes) == (None, notes)

    def test_interim_response_leaves_none(self) -> None:
        data = b"HTTP/1.1 103 Early\r\nLocation: /\r\nConnection: close\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n"
        found = outcome(data)
        assert (found.error, found.notes, found.is_reusable) == (None, 0, True)

    @pytest.mark.parametrize(
        ("version", "connection", "is_reusable"),
        [
            (b"1.1", b"", True), (b"1.1", b"Connection: close\r\n", False),
            (b"1.1", b"Connection: x, Close\r\n", False),
            (b"1.1", b"Connection: keep-alive\r\nConnection: close\r\n", False), (b"1.0", b"", False),
            (b"1.0", b"Connection: keep-alive\r\n", True), (b"1.0", b"Connection: keep-alive, close\r\n", False),
        ],
    )  # fmt: skip
    def test_reusable(self, version: bytes, connection: bytes, is_reusable: bool) -> None:
        found = outcome(b"HTTP/" + version + b" 200 OK\r\n" + connection + b"Content-Length: 2\r\n\r\nab")
        assert (found.error, found.body, found.is_reusable) == (None, b"ab", is_reusable)


class TestLimits:
    def test_head_of_just_the_limit(self) -> None:
        frame = OK + b"Content-Length: 0\r\nX: \r\n\r\n"
        fits = OK + b"Content-Length: 0\r\nX: " + b"a" * (LIMIT - len(frame)) + b"\r\n\r\n"
        assert len(fits) == LIMIT and outcome(fits).error is None
        assert outcome(fits.replace(b"X: ", b"X: a")).error is not None

    @pytest.mark.parametrize("start", [b"HTTP/1.1 200 ", OK + b"X: ", OK + b"X"])
    def test_head_without_end(self, start: bytes) -> None:
        """It is refused as soon as the limit is passed, not when a line ends."""
        assert "bytes of header fields" in (outcome(start + b"a" * LIMIT).error or "")
        assert read([start + b"a" * (LIMIT - len(start))]).error is None

    def test_many_short_fields(self) -> None:
        assert outcome(OK + b"X: a\r\n" * 511 + b"Content-Length: 0\r\n\r\n").error is None
        assert "512" in (outcome(OK + b"X: a\r\n" * 512 + b"Content-Length: 0\r\n\r\n").error or "")

    def test_many_long_fields(self) -> None:
        assert "bytes of header fields" in (outcome(OK + (b"X: " + b"a" * 1000 + b"\r\n") * 66).error or "")

    def test_trailer(self) -> None:
        assert outcome(CHUNKED + b"0\r\n" + b"X: a\r\n" * 512 + b"\r\n").error is None
        assert outcome(CHUNKED + b"0\r\n" + b"X: a\r\n" * 513 + b"\r\n").error is not None
        assert outcome(CHUNKED + b"0\r\nX: " + b"a" * LIMIT + b"\r\n\r\n").error is not None

    def test_interim_responses(self) -> None:
        final = OK + b"Content-Length: 0\r\n\r\n"
        assert outcome(b"HTTP/1.1 100 C\r\n\r\n" * 32 + final).error is None
        assert "interim" in (outcome(b"HTTP/1.1 100 C\r\n\r\n" * 33 + final).error or "")

    def test_extension_without_end(self) -> None:
        assert outcome(CHUNKED + b"5;" + b"a" * LIMIT).error is None
        assert outcome(CHUNKED + b"5;" + b"a" * (LIMIT + 1)).error is not None

    def test_digits_without_end(self) -> None:
        assert outcome(CHUNKED + b"0" * 16).error is not None


class TestInterim:
    @pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 ?"])
    def test_skipped(self, interim: bytes) -> None:
        data = b"HTTP/1.1 " + interim + b"\r\nX: early\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nabrest"
        found = outcome(data)
        assert (found.status, found.body, found.taken) == (200, b"ab", len(data) - 4)
        assert found.head == OK + b"Content-Length: 2\r\n\r\n"

    @pytest.mark.parametrize("field", [b"Content-Length: 1", b"Transfer-Encoding: chunked", b"X y", b"X : y"])
    def test_refused(self, field: bytes) -> None:
        assert outcome(b"HTTP/1.1 100 C\r\n" + field + b"\r\n\r\n" + OK + b"\r\n").error is not None

    def test_final_one_must_be_http_too(self) -> None:
        assert outcome(b"HTTP/1.1 100 C\r\n\r\nnonsense").error is not None
        assert outcome(b"HTTP/1.1 100 C\r\n\r\n\r\n" + OK + b"\r\n").error is not None


class TestSwitching:
    UPGRADE = b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"

    def test_unasked(self) -> None:
        assert "unasked" in (outcome(self.UPGRADE).error or "")

    def test_asked(self) -> None:
        found = outcome(self.UPGRADE + b"frame", may_switch=True)
        assert (found.status, found.has_switched, found.taken) == (101, True, len(self.UPGRADE))
        assert found.notes == Note.SAYS_UPGRADE

    def test_asked_and_not_granted(self) -> None:
        found = outcome(OK + b"Content-Length: 2\r\n\r\nab", may_switch=True)
        assert (found.has_switched, found.body) == (False, b"ab")

    def test_interim_before(self) -> None:
        found = outcome(b"HTTP/1.1 100 C\r\n\r\n" + self.UPGRADE + b"frame", may_switch=True)
        assert (found.has_switched, found.status) == (True, 101)

    @pytest.mark.parametrize("fields", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
    def test_tunnel(self, fields: bytes) -> None:
        """RFC 9110, 9.3.6: what says how long the body is does not count in a 2xx that answers a CONNECT."""
        head = b"HTTP/1.1 200 Established\r\n" + fields + b"\r\n"
        found = outcome(head + b"bytes", may_tunnel=True)
        assert (found.has_switched, found.taken, found.body) == (True, len(head), b"")

    def test_tunnel_refused(self) -> None:
        found = outcome(b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nab", may_tunnel=True)
        assert (found.has_switched, found.is_done, found.body, found.is_reusable) == (False, True, b"ab", True)
