"""Proxies as values: what their URLs may be, what they print, and which one the environment names."""

from __future__ import annotations

import copy
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from weft.http.dial import Route
from weft.http.errors import InvalidHeaderError, InvalidURLError
from weft.http.proxies import Proxy, environment_proxy


@dataclass(frozen=True)
class Target:
    scheme: str
    host: str
    port: int


def target(text: str) -> Target:
    """A URL in parts; enough of one for these tests."""
    parts = urlsplit(text)
    return Target(parts.scheme, parts.hostname or "", parts.port or {"http": 80, "ws": 80}.get(parts.scheme, 443))


class TestProxy:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("http://p.test", ("http", "p.test", 80, None)),
            ("HTTP://P.Test:3128/", ("http", "p.test", 3128, None)),
            ("p.test:3128", ("http", "p.test", 3128, None)),
            ("p.test", ("http", "p.test", 80, None)),
            ("https://p.test", ("https", "p.test", 443, None)),
            ("socks5://p.test", ("socks5", "p.test", 1080, None)),
            ("socks5h://[::1]:9050", ("socks5h", "::1", 9050, None)),
            ("http://user:pass@p.test", ("http", "p.test", 80, ("user", "pass"))),
            ("user:pass@p.test:8080", ("http", "p.test", 8080, ("user", "pass"))),
            ("http://us%40er:p%3Aa%2Fss@p.test", ("http", "p.test", 80, ("us@er", "p:a/ss"))),
            ("http://user@p.test", ("http", "p.test", 80, ("user", ""))),
            (" http://p.test ", ("http", "p.test", 80, None)),
            ("http://bücher.test", ("http", "xn--bcher-kva.test", 80, None)),
        ],
    )
    def test_its_parts(self, url: str, expected: object) -> None:
        proxy = Proxy(url)
        assert (proxy.scheme, proxy.host, proxy.port, proxy.auth) == expected

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "http://",
            "http://:3128",
            "ftp://p.test",
            "socks4://p.test",
            "http://p.test:99999",
            "http://p.test:0",
            "http://p.test:x",
            "http://p.test/path",
            "http://p.test?query",
            "http://p.test#fragment",
            "http://p te.st",
            "http://p.te\tst",
            "http://p.test\r\nX: y",
            "http://p%0d%0aX.test",
            "http://[::1",
            "socks5://user:" + 256 * "x" + "@p.test",
            "http://us%3Aer:x@p.test",
        ],
    )
    def test_what_is_none(self, url: str) -> None:
        with pytest.raises(InvalidURLError) as info:
            Proxy(url)
        assert "xxx" not in str(info.value)

    def test_any_object_that_prints_as_a_url(self) -> None:
        class URL:
            def __str__(self) -> str:
                return "http://p.test:3128"

        assert Proxy(URL()) == Proxy("http://p.test:3128")

    def test_auth_apart_from_the_url(self) -> None:
        assert Proxy("http://p.test", auth=("a", "b:c")).auth == ("a", "b:c")
        assert Proxy("http://x:y@p.test", auth=("a", "b")) == Proxy("http://a:b@p.test")

    def test_secrets_are_not_printed(self) -> None:
        proxy = Proxy("http://user:secret@[::1]:3128", headers={"X-Token": "secret"})
        assert repr(proxy) == "<Proxy http://user:***@[::1]:3128>"
        assert str(proxy) == "http://[::1]:3128"
        assert "secret" not in repr(Route("http", "a.test", 80, proxy))

    def test_authorization(self) -> None:
        assert Proxy("http://Aladdin:open%20sesame@p.test").authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        assert Proxy("http://ü:ü@p.test").authorization == "Basic w7w6w7w="
        assert Proxy("http://p.test").authorization is None
        assert Proxy("socks5://user:secret@p.test").authorization is None

    def test_equality(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made = [
            Proxy("http://p.test"),
            Proxy("https://p.test"),
            Proxy("http://q.test"),
            Proxy("http://p.test:81"),
            Proxy("http://u:v@p.test"),
            Proxy("http://u:w@p.test"),
            Proxy("http://p.test", headers={"a": "b"}),
            Proxy("http://p.test", tls=False),
            Proxy("http://p.test", tls=context),
        ]
        assert len(set(made)) == len(made)
        assert Proxy("http://p.test:80", headers=[("a", "b")]) == made[6]
        assert hash(Proxy("http://p.test:80/")) == hash(made[0])
        assert made[0] != "http://p.test"

    @pytest.mark.parametrize("header", [("a b", "c"), ("", "c"), ("a", "b\r\nc: d"), ("a", "b\0"), ("a:", "b")])
    def test_headers_that_end_their_line(self, header: tuple[str, str]) -> None:
        with pytest.raises(InvalidHeaderError):
            Proxy("http://p.test", headers=[header])

    def test_it_is_not_copied_by_accident(self) -> None:
        with pytest.raises(TypeError):
            copy.copy(Proxy("http://p.test"))

    @pytest.mark.parametrize(
        ("scheme", "proxy", "tunnel", "has_tunnel"),
        [
            ("http", "http://p.test", False, False),
            ("http", "http://p.test", True, True),
            ("https", "http://p.test", False, True),
            ("http", "https://p.test", False, False),
            ("https", "https://p.test", False, True),
            ("http", "socks5://p.test", False, True),
            ("https", "socks5h://p.test", False, True),
        ],
    )
    def test_who_goes_through_a_tunnel(self, scheme: str, proxy: str, tunnel: bool, has_tunnel: bool) -> None:
        route = Route(scheme, "a.test", 80, Proxy(proxy), tunnel=tunnel)
        assert (route.has_tunnel, route.is_forwarded) == (has_tunnel, not has_tunnel)

    def test_who_does_not(self) -> None:
        for route in (Route("https", "a.test", 443), Route("http", "a.test", 80, Proxy("http://p.test"), unix="/a")):
            assert (route.has_tunnel, route.is_forwarded) == (False, False)


class TestEnvironment:
    @pytest.mark.parametrize(
        ("url", "environ", "expected"),
        [
            ("http://a.test", {}, None),
            ("http://a.test", {"http_proxy": "http://p.test"}, "http://p.test:80"),
            ("http://a.test", {"HTTP_PROXY": "http://p.test"}, "http://p.test:80"),
            ("http://a.test", {"http_proxy": "p.test:3128"}, "http://p.test:3128"),
            ("http://a.test", {"http_proxy": "http://p.test", "HTTP_PROXY": "http://q.test"}, "http://p.test:80"),
            ("http://a.test", {"https_proxy": "http://p.test"}, None),
            ("https://a.test", {"http_proxy": "http://p.test"}, None),
            ("https://a.test", {"https_proxy": "http://p.test"}, "http://p.test:80"),
            ("https://a.test", {"HTTPS_PROXY": "https://p.test"}, "https://p.test:443"),
            ("ws://a.test", {"http_proxy": "http://p.test", "https_proxy": "http://q.test"}, "http://p.test:80"),
            ("wss://a.test", {"http_proxy": "http://p.test", "https_proxy": "http://q.test"}, "http://q.test:80"),
            ("https://a.test", {"all_proxy": "socks5h://p.test"}, "socks5h://p.test:1080"),
            ("https://a.test", {"ALL_PROXY": "socks5://p.test"}, "socks5://p.test:1080"),
            ("https://a.test", {"ALL_PROXY": "http://p.test", "HTTPS_PROXY": "http://q.test"}, "http://q.test:80"),
            ("http://a.test", {"http_proxy": "", "ALL_PROXY": "http://p.test"}, "http://p.test:80"),
            # httpoxy: a request's "Proxy:" header is HTTP_PROXY in a CGI program
            ("http://a.test", {"HTTP_PROXY": "http://evil.test", "REQUEST_METHOD": "GET"}, None),
            ("http://a.test", {"http_proxy": "http://p.test", "REQUEST_METHOD": "GET"}, "http://p.test:80"),
            ("https://a.test", {"HTTPS_PROXY": "http://p.test", "REQUEST_METHOD": "GET"}, "http://p.test:80"),
        ],
    )
    def test_who_is_named(self, url: str, environ: dict[str, str], expected: str | None) -> None:
        proxy = environment_proxy(target(url), environ)
        assert (None if proxy is None else str(proxy)) == expected

    @pytest.mark.parametrize(
        ("url", "no_proxy", "excepted"),
        [
            ("http://a.test", "*", True),
            ("http://a.test", "a.test", True),
            ("http://a.test.", "a.test", True),
            ("http://a.test", "A.TEST", True),
            ("http://a.test", "b.test, a.test", True),
            ("http://a.test", "b.test a.test", True),
            ("http://sub.a.test", "a.test", True),
            ("http://sub.a.test", ".a.test", True),
            ("http://sub.a.test", "*.a.test", True),
            ("http://a.test", ".a.test", True),
            ("http://ba.test", "a.test", False),
            ("http://a.test", "sub.a.test", False),
            ("http://a.test.b", "a.test", False),
            ("http://a.test", "", False),
            ("http://a.test", ",, ,", False),
            ("http://a.test", ".", False),
            ("http://a.test:8080", "a.test:8080", True),
            ("http://a.test:8080", "a.test:80", False),
            ("http://a.test", "a.test:80", True),
            ("https://a.test", "a.test:80", False),
            ("http://xn--bcher-kva.test", "bücher.test", True),
            ("http://10.1.2.3", "10.1.2.3", True),
            ("http://10.1.2.3", "10.0.0.0/8", True),
            ("http://11.1.2.3", "10.0.0.0/8", False),
            ("http://10.1.2.3", "10.1.2.3/33", False),
            ("http://a.test", "10.0.0.0/8", False),
            ("http://10.1.2.3", "1.2.3", False),
            ("http://10.1.2.3", "2.3", False),
            ("http://10.1.2.3:81", "10.1.2.3:81", True),
            ("http://10.1.2.3:81", "10.1.2.3:80", False),
            ("http://[::1]:80", "::1", True),
            ("http://[::1]:80", "[::1]", True),
            ("http://[::1]:80", "[::1]:80", True),
            ("http://[::1]:81", "[::1]:80", False),
            ("http://[fe80::5]:80", "fe80::/10", True),
            ("http://[0:0::1]:80", "::1", True),
            ("http://[::ffff:10.1.2.3]:80", "10.0.0.0/8", True),
        ],
    )
    @pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
    def test_who_is_excepted(self, url: str, no_proxy: str, excepted: bool, name: str) -> None:
        environ = {"all_proxy": "http://p.test", name: no_proxy}
        assert (environment_proxy(target(url), environ) is None) is excepted

    def test_what_is_no_proxy(self) -> None:
        with pytest.raises(InvalidURLError, match="the environment variable HTTP_PROXY: a proxy's URL begins with"):
            environment_proxy(target("http://a.test"), {"HTTP_PROXY": "ftp://p.test"})

    def test_whoever_is_excepted_sees_no_error(self) -> None:
        assert environment_proxy(target("http://a.test"), {"http_proxy": "ftp://p.test", "no_proxy": "a.test"}) is None

    def test_the_environment_of_the_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "REQUEST_METHOD"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", "http://p.test:3128")
        assert environment_proxy(target("http://a.test")) == Proxy("http://p.test:3128")
