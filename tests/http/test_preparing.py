"""Requests that are made of what is kept of a method and a URL: the bytes on the wire, nothing shared amiss."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any, cast

import pytest

from tests.http.rawkit import Run, always, counts, playing, settled, within
from weft import http
from weft.http.preparing import Prepared
from weft.http.settings import RequestOptions

METHODS = ["POST", "PUT", "PATCH", "DELETE"]
FORM = "application/x-www-form-urlencoded"
BODIES: list[tuple[dict[str, Any], bytes, str | None]] = [
    ({"content": b"raw \r\n\0"}, b"raw \r\n\0", None),
    ({"content": "tëxt"}, "tëxt".encode(), None),
    ({"data": "tëxt"}, "tëxt".encode(), "text/plain; charset=utf-8"),
    ({"data": b"raw"}, b"raw", "application/octet-stream"),
    ({"json": {"a": [1, None, "ë"]}}, '{"a":[1,null,"ë"]}'.encode(), "application/json"),
    ({"data": {"a b": "c&d", "n": 1, "l": ["x", "y"], "t": True}}, b"a+b=c%26d&n=1&l=x&l=y&t=true", FORM),
    ({"data": [("a", b"\xff"), ("a", "ß")]}, b"a=%FF&a=%C3%9F", FORM),
    ({"content": b""}, b"", None),
]


def wired(method: str, target: str, server: Any, lines: str, content: bytes = b"") -> bytes:
    """A request of a client whose only header is ``X-Of: the client``."""
    host = f"Host: 127.0.0.1:{server.port}\r\n"
    return f"{method} {target} HTTP/1.1\r\n{host}X-Of: the client\r\n{lines}\r\n".encode() + content


def plain_client(**options: Any) -> http.Client:
    client = http.Client(**options)
    client.headers = http.Headers({"X-Of": "the client"})
    return client


@pytest.mark.parametrize("method", METHODS)
def test_every_kind_of_body_is_on_the_wire_as_it_should_on_one_connection(run: Run, method: str) -> None:
    async def main() -> None:
        async with playing(always()) as server, plain_client() as client:
            expected = b""
            for _ in range(2):
                for options, content, kind in BODIES:
                    assert await within((await client.request(method, server.url("/p?q"), **options)).read()) == b"ok"
                    lines = f"Content-Type: {kind}\r\n" if kind else ""
                    lines += f"Content-Length: {len(content)}\r\n"
                    expected += wired(method, "/p?q", server, lines, content)
            (peer,) = server.peers
            assert peer.received == expected
            assert counts(client) == (1, 1, 0)

    run(main())


def test_a_small_body_leaves_with_its_head_in_one_write() -> None:
    """The body is part of the piece that ``exchange`` writes."""
    prepared = Prepared("POST", http.URL("http://peer.example/"), http.Headers(), None, http.Timeout())
    for options, content, _ in BODIES:
        request = prepared.varied(cast("RequestOptions", options))
        assert not request.streams_body
        assert request.wire.partition(b"\r\n\r\n")[2] == content


def test_options_change_their_request_only(run: Run) -> None:
    """Whatever came before, a request without options is what it was."""
    varied: list[tuple[dict[str, Any], str, str, str]] = [
        ({"headers": {"X-Own": "1"}}, "GET", "/p?q", "X-Own: 1\r\n"),
        ({"params": {"a": "b c", "n": 2}}, "GET", "/p?q&a=b+c&n=2", ""),
        ({"params": "raw=%2f|"}, "GET", "/p?q&raw=%2f|", ""),
        ({"params": {"ä": ["1", None, True]}}, "GET", "/p?q&%C3%A4=1&%C3%A4=true", ""),
        ({"timeout": 5}, "GET", "/p?q", ""),
        ({"auth": ("u", "p")}, "GET", "/p?q", "Authorization: Basic dTpw\r\n"),
        ({"headers": [("X-Own", "1"), ("x-own", "2")]}, "GET", "/p?q", "X-Own: 1\r\nx-own: 2\r\n"),
    ]

    async def main() -> None:
        async with playing(always()) as server, plain_client() as client:
            expected = b""
            for options, method, target, lines in varied:
                for given, where, more in ((options, target, lines), ({}, "/p?q", "")):
                    await within((await client.request(method, server.url("/p?q"), **given)).read())
                    expected += wired(method, where, server, more)
            (peer,) = server.peers
            assert peer.received == expected

    run(main())


def test_own_headers_replace_the_clients_in_their_place(run: Run) -> None:
    async def main() -> None:
        async with playing(always()) as server, http.Client(auth=("u", "p"), headers={"X-Of": "c"}) as client:
            sent = []
            for own in (
                {"Accept": "a/b"},
                {"accept-encoding": None},
                {"Authorization": "own"},
                {"authorization": None},
            ):
                before = len(server.peers[0].received) if server.peers else 0
                await within((await client.get(server.url(), headers=own)).read())
                head = server.peers[0].received[before:].decode()
                sent.append([line for line in head.split("\r\n")[2:-2] if not line.startswith("User-Agent")])
            basic, encoding = "Authorization: Basic dTpw", next(line for line in sent[0] if "Encoding" in line)
            assert sent == [
                ["Accept: a/b", encoding, "X-Of: c", basic],
                ["Accept: */*", "X-Of: c", basic],
                ["Accept: */*", encoding, "X-Of: c", "Authorization: own"],
                ["Accept: */*", encoding, "X-Of: c", basic],
            ]

    run(main())


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_header_ends_its_line_early(run: Run, method: str, value: str) -> None:
    """Refused before a connection is taken, each time, and the next request is none the worse."""

    async def main() -> None:
        async with playing(always()) as server, http.Client() as client:
            await within((await client.request(method, server.url())).read())
            for own in ({"X-Own": value}, {"Accept": value}, {"X" + value: "1"}, {"Content-Type": value}):
                for _ in range(2):
                    with pytest.raises(http.InvalidHeaderError):
                        await within(client.request(method, server.url(), headers=own, content=b"x"))
                    assert counts(client) == (1, 1, 0)
            await within((await client.request(method, server.url(), content=b"x")).read())
            (peer,) = server.peers
            assert b"Evil" not in peer.received

    run(main())


@pytest.mark.parametrize("params", ["a\r\nb", {"a": "\r\n"}, "a b\0"])
def test_no_parameter_ends_the_request_line(run: Run, params: Any) -> None:
    async def main() -> None:
        async with playing(always()) as server, http.Client() as client:
            if isinstance(params, dict):
                await within((await client.get(server.url(), params=params)).read())
                assert server.peers[0].received.startswith(b"GET /?a=%0D%0A HTTP/1.1\r\n")
                return
            with pytest.raises(http.InvalidURLError):
                await within(client.get(server.url(), params=params))
            assert not server.peers

    run(main())


def test_a_token_is_asked_for_once_per_request(run: Run) -> None:
    asked = []

    def token() -> str:
        asked.append(1)
        return f"t{len(asked)}"

    async def main() -> None:
        async with playing(always()) as server, plain_client(auth=http.BearerAuth(token)) as client:
            given: list[dict[str, Any]] = [{}, {"json": 1}, {"headers": {"X-Own": "1"}}, {"params": {"a": 1}}, {}]
            for options in given:
                await within((await client.post(server.url(), **options)).read())
            seen = [line for line in server.peers[0].received.split(b"\r\n") if line.startswith(b"Authorization")]
            assert seen == [f"Authorization: Bearer t{number}".encode() for number in range(1, 6)]

    run(main())


def test_a_changed_default_counts_for_every_method(run: Run) -> None:
    async def main() -> None:
        async with playing(always()) as server, plain_client() as client:
            for value in ("the client", "another"):
                client.headers["X-Of"] = value
                await within((await client.post(server.url())).read())
                await within((await client.post(server.url(), json=1)).read())
            seen = [line for line in server.peers[0].received.split(b"\r\n") if line.startswith(b"X-Of")]
            assert seen == [b"X-Of: the client"] * 2 + [b"X-Of: another"] * 2

    run(main())


@pytest.mark.parametrize("options", [{}, {"content": b"x"}, {"json": 1}, {"headers": {"X-Own": "1"}}])
def test_a_post_goes_to_no_connection_whose_end_the_kernel_has_seen(run: Run, options: dict[str, Any]) -> None:
    """The loop has not: nothing runs between the end and the request."""

    async def main() -> None:
        async with playing(always(), always()) as server, http.Client() as client:
            for _ in range(2):  # so that the second is made of what is kept
                await within((await client.post(server.url(), **options)).read())
            (connection,) = client.transport.pool.connections  # type: ignore[attr-defined]
            sock = server.peers[0].writer.get_extra_info("socket")
            with socket.socket(fileno=os.dup(sock.fileno())) as end:
                end.shutdown(socket.SHUT_WR)
            assert connection.is_open
            assert await within((await client.post(server.url(), **options)).read()) == b"ok"
            assert len(server.peers) == 2
            await settled(client, 1, 1)

    run(main())


def test_a_cancelled_post_closes_its_one_connection(run: Run) -> None:
    async def silent(peer: Any) -> None:
        await peer.request()

    async def main() -> None:
        async with playing(silent, always()) as server, http.Client() as client:
            call = asyncio.ensure_future(client.post(server.url(), json=[1]))
            await server.asked()
            call.cancel()
            await settled(client, 0, 0)
            await within((await client.post(server.url(), json=[1])).read())
            await settled(client, 1, 1)

    run(main())


def test_the_cookies_of_the_moment_go_with_each_request(run: Run) -> None:
    """A URL that is kept is asked again and again, while the jar changes, is replaced, and does not fit."""

    async def main() -> None:
        async with playing(always()) as server, plain_client() as client:
            now = [1000.0]
            jar = client.cookies = http.CookieJar(clock=lambda: now[0])

            async def sends(cookie: str, **options: Any) -> None:
                before = len(server.peers[0].received) if server.peers else 0
                await within((await client.get(server.url("/in/here"), **options)).read())
                sent = bytes(server.peers[0].received[before:])
                assert sent.partition(b"Cookie: ")[2].partition(b"\r\n")[0] == cookie.encode()

            await sends("")
            jar.set("a", "1", domain="127.0.0.1")
            for _ in range(2):
                await sends("a=1")
                await sends("a=1", params={"q": "1"})
                await sends("own=1", headers={"Cookie": "own=1"})
            jar.update(["b=2; Path=/in; Max-Age=10", "c=3; Path=/elsewhere"], http.URL(server.url("/in/here")))
            await sends("b=2; a=1")
            now[0] += 11
            await sends("a=1")
            jar.remove("a")
            await sends("")
            jar.set("a", "1", domain="127.0.0.1")
            await sends("a=1")
            client.cookies = http.CookieJar()
            await sends("")
            client.cookies.set("d", "4", domain="127.0.0.1")
            client.headers["Cookie"] = "of=client"
            await sends("of=client")
            assert len(server.peers) == 1

    run(main())


def test_the_jars_cookies_stay_behind_when_a_redirect_leads_elsewhere(run: Run) -> None:
    async def main() -> None:
        async with playing(always()) as two:
            there = f"http://localhost:{two.port}/there".encode()
            leads = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + there + b"\r\n\r\n"
            async with playing(always(leads)) as one, plain_client() as client:
                client.cookies.set("secret", "1", domain="127.0.0.1")
                for _ in range(2):
                    await within((await client.get(one.url())).read())
                assert one.peers[0].received.count(b"Cookie: secret=1\r\n") == 2
                assert two.peers[0].received.count(b"GET /there") == 2
                assert b"secret" not in two.peers[0].received

    run(main())
