"""What one call makes of several responses: redirects, cookies, credentials, repetitions; and the hooks that watch."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.http.echoing import SERVERS, body_of, echoing, header_of
from tests.http.rawkit import Peer, Recorded, Run, counts, playing, settled, within
from weft import http

BOTH = pytest.mark.parametrize("kind", list(SERVERS))


async def said(response: http.Response) -> Any:
    assert response.status == 200, await response.text()
    return json.loads(await within(response.read()))


def to(where: str, code: int = 302) -> str:
    return f"/status?code={code}&Location={where}"


# -- redirects


METHODS = [
    (301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (303, "PUT", "GET"), (303, "HEAD", "HEAD"),
    (301, "PUT", "PUT"), (302, "DELETE", "DELETE"), (307, "POST", "POST"), (308, "PATCH", "PATCH"), (302, "GET", "GET"),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize("code, method, becomes", METHODS)
def test_what_a_redirect_makes_of_method_and_body(run: Run, kind: str, code: int, method: str, becomes: str) -> None:
    async def main() -> None:
        async with echoing(kind) as server, http.Client() as client:
            has_body = method not in ("HEAD", "GET")
            options: dict[str, Any] = {"json": {"a": 1}} if has_body else {}
            response = await within(client.request(method, server.url(to("/echo", code)), **options))
            assert [one.status for one in response.history] == [code]
            assert str(response.url) == server.url("/echo")
            assert server.app.seen[-1] == (becomes, "/echo")
            if becomes != "HEAD":
                keeps = has_body and becomes == method
                answer = await said(response)
                assert body_of(answer) == (b'{"a":1}' if keeps else b"")
                assert header_of(answer, "Content-Type") == (["application/json"] if keeps else [])
            await settled(client, 1, 1)

    run(main())


WHERE = [("/echo", "/echo"), ("echo?x=1", "/echo?x=1"), ("./a/../echo", "/echo"), ("?code=200", "/status?code=200")]


@pytest.mark.parametrize("location, target", WHERE)
def test_relative_targets(run: Run, location: str, target: str) -> None:
    async def main() -> None:
        async with echoing() as server, http.Client() as client:
            url = server.url("/status") + "?code=302&Location=" + location.replace("?", "%3F").replace("=", "%3D")
            response = await within(client.get(url + "#here"))
            assert str(response.url) == server.url(target) + "#here"
            assert server.app.seen[-1] == ("GET", target)

    run(main())


@pytest.mark.parametrize("body", ["bytes", "generator"])
def test_a_body_that_can_be_read_once_is_not_redirected(run: Run, body: str) -> None:
    async def generator() -> Any:
        yield b"once"

    async def main() -> None:
        async with echoing() as server, http.Client() as client:
            content = b"once" if body == "bytes" else generator()
            call = client.post(server.url(to("/echo", 307)), content=content)
            if body == "bytes":
                assert body_of(await said(await within(call))) == b"once"
            else:
                with pytest.raises(http.RedirectError) as caught:
                    await within(call)
                assert caught.value.response.status == 307
            await settled(client, counts(client)[1], counts(client)[1])

    run(main())


def test_redirects_that_are_not_followed(run: Run) -> None:
    async def main() -> None:
        async with echoing() as server, http.Client(max_redirects=3) as client:
            stay: list[dict[str, Any]] = [{"follow_redirects": False}, {"allow_redirects": False}]
            for options in stay:
                response = await within(client.get(server.url(to("/echo")), **options))
                assert (response.status, response.history) == (302, ())
            response = await within(client.get(server.url("/status?code=302")))
            assert response.status == 302
            with pytest.raises(http.RedirectError) as caught:
                await within(client.get(server.url(to("ftp://x/y"))))
            assert caught.value.url == server.url(to("ftp://x/y"))

    run(main())


def test_the_limit_on_redirects(run: Run) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.answer(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 4\r\n\r\nbody")

    async def main() -> None:
        async with playing(script) as server, http.Client(max_redirects=3) as client:
            cases: list[tuple[int, dict[str, Any]]] = [(3, {}), (1, {"max_redirects": 1}), (0, {"max_redirects": 0})]
            for most, options in cases:
                server.peers[:] = server.peers[:1]
                with pytest.raises(http.TooManyRedirectsError) as caught:
                    await within(client.get(server.url(), **options))
                assert f"more than {most} redirects" in str(caught.value)
                assert caught.value.response.status == 302
            assert server.peers[0].received.count(b"GET /again") == 4
            await settled(client, 1, 1)

    run(main())


@pytest.mark.parametrize("elsewhere", [False, True])
def test_credentials_stay_where_they_belong(run: Run, elsewhere: bool) -> None:
    """To another origin go no credentials and no cookies but those of that origin."""

    async def main() -> None:
        async with echoing() as one, echoing() as two, http.Client() as client:
            client.cookies.set("kept", "1", domain="127.0.0.1")
            for given in (
                {"auth": ("user", "pass")},
                {"headers": {"Authorization": "Secret x", "Proxy-Authorization": "y", "X-Plain": "z"}},
                {"headers": {"Cookie": "secret=1"}},
                {"cookies": {"secret": "1"}},
            ):
                target = (two if elsewhere else one).url("/echo")
                answer = await said(await within(client.get(one.url(to(target)), **given)))
                text = json.dumps(answer["headers"])
                assert ("Basic" in text or "Secret" in text or "secret" in text) is not elsewhere
                assert ("X-Plain" in text) is ("X-Plain" in str(given))
            url = one.url(to((two if elsewhere else one).url("/echo"))).replace("//", "//user:pass@", 1)
            response = await within(client.get(url))
            assert bool(header_of(await said(response), "Authorization")) is not elsewhere
            assert "pass" not in str(response.url) and "pass" not in repr(response)
            url = one.url(to(one.url("/echo").replace("//", "//evil:pass@", 1)))
            response = await within(client.get(url))
            assert header_of(await said(response), "Authorization") == []
            assert "pass" not in str(response.url)

    run(main())


# -- cookies


@BOTH
def test_cookies_are_kept_and_sent(run: Run, kind: str) -> None:
    async def main() -> None:
        async with echoing(kind) as server, http.Client(cookies={"mine": "0"}) as client:
            response = await within(client.get(server.url("/cookies?a=1&b=2")))
            assert response.cookies == {"a": "1", "b": "2"}
            await response.read()
            answer = await said(await within(client.get(server.url(), cookies={"b": "own", "c": "3"})))
            (sent,) = header_of(answer, "Cookie")
            assert sorted(sent.split("; ")) == ["a=1", "b=own", "c=3", "mine=0"]
            answer = await said(await within(client.get(server.url(), headers={"Cookie": "only=this"})))
            assert header_of(answer, "Cookie") == ["only=this"]
            # On the way of a redirect too, though nobody sees that response.
            response = await within(client.get(server.url("/status?code=302&Location=/echo&Set_Cookie=way=1")))
            assert "way=1" in header_of(await said(response), "Cookie")[0]
            client.cookies.clear()
            answer = await said(await within(client.get(server.url())))
            assert header_of(answer, "Cookie") == ["mine=0"]

    run(main())


def test_a_client_without_cookies(run: Run) -> None:
    async def main() -> None:
        async with echoing() as server, http.Client(cookie_jar=http.NoCookies()) as client:
            await (await within(client.get(server.url("/cookies?a=1")))).read()
            assert header_of(await said(await within(client.get(server.url()))), "Cookie") == []

    run(main())


# -- credentials


@BOTH
def test_basic_and_bearer(run: Run, kind: str) -> None:
    async def main() -> None:
        async with echoing(kind) as server, http.Client() as client:
            url = server.url("/basic")
            for auth in (("Äls", "se cret"), http.BasicAuth("Äls", "se cret")):
                assert (await within(client.get(url, auth=auth))).status == 200
            assert (await within(client.get(url))).status == 401
            assert (await within(client.get(url, auth=("Äls", "wrong")))).status == 401
            in_url = url.replace("//", "//%C3%84ls:se%20cret@")
            for _ in range(2):
                response = await within(client.get(in_url))
                assert response.status == 200
                assert "cret" not in repr(response) + str(response.url)
            tokens = iter(["one", "two"])
            bearer = http.BearerAuth(lambda: next(tokens))
            for token in ("one", "two"):
                answer = await said(await within(client.get(server.url(), auth=bearer)))
                assert header_of(answer, "Authorization") == [f"Bearer {token}"]

    run(main())


@BOTH
def test_digest(run: Run, kind: str) -> None:
    async def main() -> None:
        auth = http.DigestAuth("user", "secret")
        async with echoing(kind) as server, http.Client(auth=auth) as client:
            for number in range(3):
                response = await within(client.get(server.url(f"/digest?n={number}")))
                assert (response.status, await response.read()) == (200, b"welcome")
            assert len(server.app.seen) == 4  # one challenge for all of them
            wrong = http.DigestAuth("user", "wrong")
            assert (await within(client.post(server.url("/digest"), content=b"x", auth=wrong))).status == 403

    run(main())


def test_netrc(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login user password pass\n")
    monkeypatch.setenv("NETRC", str(file))

    async def main() -> None:
        async with echoing() as server:
            for options, has in (({}, True), ({"trust_env": False}, False), ({"auth": ("me", "x")}, False)):
                async with http.Client(**options) as client:
                    answer = await said(await within(client.get(server.url())))
                    assert ("Basic dXNlcjpwYXNz" in header_of(answer, "Authorization")) is has

    run(main())


# -- repetitions


AT_ONCE = http.Retry(attempts=3, backoff=0.0)


@BOTH
def test_retries(run: Run, kind: str) -> None:
    async def main() -> None:
        async with echoing(kind) as server, http.Client(retry=AT_ONCE) as client:
            response = await within(client.get(server.url("/flaky?times=3")))
            assert (response.status, await response.read(), response.history) == (200, b"now", ())
            server.app.failures = 0
            response = await within(client.get(server.url("/flaky?times=4")))
            assert (response.status, await response.read()) == (503, b"later")
            server.app.failures = 0
            assert (await within(client.get(server.url("/flaky?times=1"), retry=None))).status == 503
            server.app.failures = 0
            assert (await within(client.post(server.url("/flaky?times=1"), content=b"x"))).status == 503
            server.app.failures = 0
            response = await within(client.post(server.url("/flaky?times=1&after=0"), content=b"x"))
            assert response.status == 200
            server.app.failures = 0
            with pytest.raises(http.StatusError):
                await within(client.get(server.url("/flaky?times=9"), raise_for_status=True))
            server.app.failures = 0
            response = await within(client.get(server.url("/flaky?times=9&after=9999")))
            assert (response.status, server.app.failures) == (503, 1)
            await settled(client, 1, 1)

    run(main())


def test_a_connection_that_breaks_is_retried(run: Run) -> None:
    async def breaks(peer: Peer) -> None:
        await peer.request()
        await peer.close()

    async def works(peer: Peer) -> None:
        await peer.answer()

    async def main() -> None:
        async with playing(breaks, breaks, works) as server, http.Client() as client:
            response = await within(client.get(server.url(), retry=AT_ONCE))
            assert (response.status, await response.read()) == (200, b"ok")
        async with playing(breaks, breaks) as server, http.Client(retry=AT_ONCE) as client:
            with pytest.raises(http.PeerClosedError):
                await within(client.post(server.url(), content=b"x"))
            with pytest.raises(http.PeerClosedError):
                await within(client.get(server.url(), retry=0))
            assert len(server.peers) == 2

    run(main())


# -- hooks


def test_hooks_are_told_in_order(run: Run) -> None:
    hooks = Recorded()

    async def main() -> None:
        async with echoing() as server, http.Client(hooks=hooks) as client:
            await (await within(client.get(server.url(to("/echo"))))).read()
            assert hooks.told == [
                "start", "connect", "first byte 302", "end 302 well", "start", "connect", "first byte 200",
                "end 200 well",
            ]  # fmt: skip
            first, second = hooks.traces
            assert (first.is_reused, second.is_reused) == (False, True)
            for trace in hooks.traces:
                assert trace.started <= trace.connected <= trace.first_byte <= trace.ended
            assert str(second.request.url) == server.url("/echo")

    run(main())


def test_hooks_are_told_of_failures(run: Run) -> None:
    hooks = Recorded()

    async def breaks(peer: Peer) -> None:
        await peer.request()
        await peer.close()

    async def half(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await go.wait()
        await peer.close()

    async def main() -> None:
        async with playing(breaks, half) as server, http.Client(hooks=hooks) as client:
            with pytest.raises(http.PeerClosedError):
                await within(client.get(server.url()))
            assert hooks.told == ["start", "connect", "end None PeerClosedError"]
            hooks.told.clear()
            response = await within(client.get(server.url()))
            go.set()
            with pytest.raises(http.IncompleteBodyError):
                await within(response.read())
            assert hooks.told == ["start", "connect", "first byte 200", "end 200 IncompleteBodyError"]
            hooks.told.clear()
        async with http.Client(hooks=hooks) as client:
            with pytest.raises(http.ConnectError):
                await within(client.get(server.url()))
            assert hooks.told == ["start", "end None ConnectError"]

    go = asyncio.Event()
    run(main())


def test_a_hook_that_fails_changes_nothing(run: Run) -> None:
    class Broken(http.Hooks):
        def on_start(self, trace: Any) -> None:
            raise KeyError("hook")

        on_connect = on_first_byte = on_end = on_start

    async def main() -> None:
        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        async with echoing() as server, http.Client(hooks=Broken()) as client:
            await said(await within(client.get(server.url())))
            assert [type(error) for error in reported] == [KeyError] * 4
            await settled(client, 1, 1)

    run(main())
