"""The cookie jar: which cookies are taken, and where they are sent, by the tables of RFC 6265."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from weft.http.cookies import (
    MAX_BYTES,
    MAX_PER_DOMAIN,
    MAX_TOTAL,
    Cookie,
    CookieJar,
    NoCookies,
    load_public_suffixes,
)
from weft.http.errors import InvalidHeaderError
from weft.http.url import URL

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jar(clock: Clock) -> CookieJar:
    """A jar whose public suffixes are the names without a dot, and co.uk."""
    return CookieJar(clock=clock, public_suffix=lambda domain: "." not in domain or domain == "co.uk")


def sent(jar: CookieJar, url: str) -> str | None:
    return jar.header_for(URL(url))


def took(jar: CookieJar, url: str, *headers: str) -> bool:
    """Whether the jar took all of these."""
    before = len(jar)
    jar.update(headers, URL(url))
    return len(jar) == before + len(headers)


class TestReading:
    @pytest.mark.parametrize(
        ("header", "pair"),
        [
            ("a=b", "a=b"),
            (" a = b ", "a=b"),
            ("a=b=c", "a=b=c"),
            ("a=", "a="),
            ('a="b c"', 'a="b c"'),
            ("a=b;", "a=b"),
            ("a=b; ;;Path", "a=b"),
            ("a=b,c", "a=b,c"),
            ("\ta\t=\tb\t; HttpOnly", "a=b"),
            ("a=caf\xe9", "a=caf\xe9"),
            ("a[b]=c", "a[b]=c"),
        ],
    )
    def test_name_and_value(self, jar: CookieJar, header: str, pair: str) -> None:
        jar.update([header], URL("http://h.example/"))
        assert sent(jar, "http://h.example/") == pair

    @pytest.mark.parametrize("header", ["", "a", "=b", " =b", ";a=b", "a=b\0", "a=b\r\nc: d", "a=b; path=/\x7f"])
    def test_what_is_no_cookie(self, jar: CookieJar, header: str) -> None:
        jar.update([header], URL("http://h.example/"))
        assert list(jar) == []

    def test_every_attribute(self, jar: CookieJar) -> None:
        header = "a=b; PATH=/p; Domain=h.example; secure; HttpOnly; SameSite=Lax; Max-Age=60; Other=x"
        jar.update([header], URL("https://www.h.example/"))
        assert list(jar) == [
            Cookie("a", "b", "h.example", "/p", True, True, False, NOW + 60, "Lax", next(iter(jar)).created)
        ]

    def test_the_defaults(self, jar: CookieJar) -> None:
        jar.update(["a=b"], URL("http://h.example/x/y"))
        assert list(jar) == [Cookie("a", "b", "h.example", "/x", created=next(iter(jar)).created)]
        assert next(iter(jar)).expires is None

    def test_too_large(self, jar: CookieJar) -> None:
        assert took(jar, "http://h.example/", "a=" + "x" * (MAX_BYTES - 1))
        assert not took(jar, "http://h.example/", "b=" + "x" * MAX_BYTES)
        assert took(jar, "http://h.example/", f"c=1; Path=/{'x' * 1024}; SameSite={'y' * 1025}")
        assert took(jar, "http://h.example/", f"d=1; Path=/{'x' * 1023}; SameSite={'y' * 1024}")
        assert [len(cookie.path) for cookie in jar] == [1, 1, 1024]
        assert [len(cookie.same_site or "") for cookie in jar] == [0, 0, 1024]


class TestExpiry:
    @pytest.mark.parametrize(
        ("attributes", "expires"),
        [
            ("", None),
            ("Max-Age=60", NOW + 60),
            ("max-age = 60", NOW + 60),
            ("Max-Age=60; Max-Age=70", NOW + 70),
            ("Max-Age=60; Max-Age=x", NOW + 60),
            ("Max-Age=1.5", None),
            ("Max-Age=+5", None),
            ("Max-Age=", None),
            ("Max-Age=٣", None),
            ("Max-Age=" + "9" * 1000, NOW + 1e10),
            ("Expires=Sun, 06 Nov 1994 08:50:37 GMT", NOW + 60),
            ("Expires=Sun, 06-Nov-94 08:50:37 GMT", NOW + 60),
            ("Expires=never", None),
            ("Expires=Sun, 06 Nov 1994 08:50:37 GMT; Expires=never", NOW + 60),
            ("Expires=Sun, 06 Nov 1990 08:50:37 GMT; Max-Age=5", NOW + 5),
            ("Max-Age=5; Expires=Sun, 06 Nov 1990 08:50:37 GMT", NOW + 5),
        ],
    )
    def test_when(self, jar: CookieJar, attributes: str, expires: float | None) -> None:
        jar.update([f"a=b; {attributes}"], URL("http://h.example/"))
        assert [cookie.expires for cookie in jar] == [expires]

    @pytest.mark.parametrize(
        "attributes", ["Max-Age=0", "Max-Age=-1", "Max-Age=-0", "Max-Age=000", "Expires=Sun, 06 Nov 1994 08:49:37 GMT"]
    )
    def test_a_cookie_is_removed_by_one_that_has_ended(self, jar: CookieJar, attributes: str) -> None:
        url = URL("http://h.example/")
        jar.update(["a=b", "c=d"], url)
        jar.update([f"a=; {attributes}"], url)
        assert jar.header_for(url) == "c=d"

    def test_time_passes(self, jar: CookieJar, clock: Clock) -> None:
        url = URL("http://h.example/")
        jar.update(["a=b; Max-Age=10", "c=d; Max-Age=20", "e=f"], url)
        version = jar.version
        clock.now += 9.5
        assert jar.header_for(url) == "a=b; c=d; e=f"
        assert jar.version == version
        clock.now += 0.5
        assert jar.version > version  # before anything else is asked: it is what the client looks at
        assert jar.header_for(url) == "c=d; e=f"
        assert len(jar) == 2
        clock.now += 1e9
        assert [cookie.name for cookie in jar] == ["e"]
        assert jar.header_for(url) == "e=f"

    def test_bool_and_length_do_not_count_what_has_ended(self, jar: CookieJar, clock: Clock) -> None:
        jar.update(["a=b; Max-Age=10"], URL("http://h.example/"))
        assert jar
        clock.now += 10
        assert not jar
        assert len(jar) == 0


class TestPath:
    @pytest.mark.parametrize(
        ("request_path", "default"),
        [("", "/"), ("/", "/"), ("/a", "/"), ("/a/", "/a"), ("/a/b", "/a"), ("/a/b/c?d/e", "/a/b"), ("?x/y", "/")],
    )
    def test_default(self, jar: CookieJar, request_path: str, default: str) -> None:
        jar.update(["a=b"], URL(f"http://h.example{request_path}"))
        assert [cookie.path for cookie in jar] == [default]

    @pytest.mark.parametrize("attribute", ["Path", "Path=", "Path=x/y", "Path=/q; Path=x"])
    def test_what_is_no_path_leaves_the_default(self, jar: CookieJar, attribute: str) -> None:
        jar.update([f"a=b; {attribute}"], URL("http://h.example/d/e"))
        assert [cookie.path for cookie in jar] == ["/d"]

    @pytest.mark.parametrize(
        ("cookie_path", "path", "matches"),
        [
            ("/", "/", True),
            ("/", "/a", True),
            ("/a", "/a", True),
            ("/a", "/a/", True),
            ("/a", "/a/b", True),
            ("/a", "/ab", False),
            ("/a", "/", False),
            ("/a", "/A", False),
            ("/a/", "/a/", True),
            ("/a/", "/a/b", True),
            ("/a/", "/a", False),
            ("/a", "/a?x", True),
            ("/a", "/?x=/a", False),
            ("/a%20b", "/a%20b/c", True),
        ],
    )
    def test_matching(self, jar: CookieJar, cookie_path: str, path: str, matches: bool) -> None:
        jar.update([f"a=b; Path={cookie_path}"], URL("http://h.example/z"))
        assert sent(jar, f"http://h.example{path}") == ("a=b" if matches else None)

    def test_longer_paths_first_then_the_older(self, jar: CookieJar) -> None:
        headers = ["a=1; Path=/", "b=2; Path=/x", "c=3; Path=/", "d=4; Path=/x/y"]
        jar.update(headers, URL("http://h.example/"))
        jar.update(["a=5; Path=/"], URL("http://h.example/"))  # keeps its age
        assert sent(jar, "http://h.example/x/y/z") == "d=4; b=2; a=5; c=3"

    def test_the_older_first_whatever_its_domain(self, jar: CookieJar) -> None:
        jar.update(["a=1; Domain=h.example", "b=2", "c=3; Domain=h.example"], URL("http://www.h.example/"))
        assert sent(jar, "http://www.h.example/") == "a=1; b=2; c=3"
        assert [cookie.name for cookie in jar] == ["a", "b", "c"]


class TestDomain:
    @pytest.mark.parametrize(
        ("host", "attribute", "kept"),
        [
            ("www.h.example", "Domain=www.h.example", "www.h.example"),
            ("www.h.example", "Domain=h.example", "h.example"),
            ("www.h.example", "Domain=.h.example", "h.example"),
            ("www.h.example", "domain=H.Example", "h.example"),
            ("www.h.example", "Domain=", "www.h.example"),
            ("www.h.example", "Domain=other.example; Domain=h.example", "h.example"),
            ("h.example", "Domain=www.h.example", None),
            ("h.example", "Domain=other.example", None),
            ("notexample.co", "Domain=example.co", None),
            ("www.h.example", "Domain=.example", None),
            ("www.h.co.uk", "Domain=co.uk", None),
            ("www.h.co.uk", "Domain=h.co.uk", "h.co.uk"),
            ("www.h.example", "Domain=..h.example", None),
            ("www.h.example", "Domain=.", "www.h.example"),
            ("127.0.0.1", "Domain=127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "Domain=0.0.1", None),
            ("127.0.0.1", "Domain=.1", None),
            ("[::1]", "Domain=::1", "::1"),
            ("www.h.example", "Domain=münchen.example", None),
        ],
    )
    def test_who_may_set_it(self, jar: CookieJar, host: str, attribute: str, kept: str | None) -> None:
        jar.update([f"a=b; {attribute}"], URL(f"http://{host}/"))
        assert [cookie.domain for cookie in jar] == ([] if kept is None else [kept])

    @pytest.mark.parametrize(
        ("attribute", "host", "expected"),
        [
            ("", "www.h.example", True),
            ("", "h.example", False),
            ("", "a.www.h.example", False),
            ("Domain=h.example", "h.example", True),
            ("Domain=h.example", "WWW.H.EXAMPLE", True),
            ("Domain=h.example", "a.b.h.example", True),
            ("Domain=h.example", "xh.example", False),
            ("Domain=h.example", "example", False),
            ("Domain=h.example", "h.example.other", False),
            ("Domain=h.example", "www.h.example:8080", True),  # cookies know no ports
        ],
    )
    def test_where_it_is_sent(self, jar: CookieJar, attribute: str, host: str, expected: bool) -> None:
        jar.update([f"a=b; {attribute}"], URL("http://www.h.example/"))
        assert sent(jar, f"http://{host}/") == ("a=b" if expected else None)

    def test_a_public_suffix_that_is_a_host_has_its_own(self, jar: CookieJar) -> None:
        jar.update(["a=b; Domain=localhost"], URL("http://localhost/"))
        assert sent(jar, "http://localhost/") == "a=b"
        assert sent(jar, "http://www.localhost/") is None

    def test_an_address_is_no_domain(self, jar: CookieJar) -> None:
        jar.set("a", "b", domain=".0.0.1")
        jar.set("c", "d", domain=".1")
        assert sent(jar, "http://127.0.0.1/") is None
        jar.update(["a=b"], URL("http://[::1]/"))
        assert sent(jar, "http://[::1]/") == "a=b"
        assert sent(jar, "http://[::2]/") is None

    def test_international_hosts(self, jar: CookieJar) -> None:
        jar.update(["a=b; Domain=xn--bcher-kva.example"], URL("http://www.bücher.example/"))
        assert sent(jar, "http://bücher.example/") == "a=b"


class TestPublicSuffixes:
    @pytest.fixture
    def without_the_package(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setitem(sys.modules, "publicsuffixlist", None)
        load_public_suffixes.cache_clear()
        yield
        load_public_suffixes.cache_clear()

    @pytest.mark.parametrize(
        ("host", "domain", "expected"),
        [
            ("www.example.com", "example.com", True),
            ("www.example.com", "com", False),
            ("www.example.co.uk", "co.uk", False),
            ("www.example.co.uk", "example.co.uk", True),
            ("someone.github.io", "github.io", False),
            ("app.intranet", "intranet", False),
        ],
    )
    def test_by_the_list(self, host: str, domain: str, expected: bool) -> None:
        pytest.importorskip("publicsuffixlist")
        assert took(CookieJar(), f"http://{host}/", f"a=b; Domain={domain}") is expected

    def test_without_the_list_no_domain_has_cookies(self, without_the_package: None) -> None:
        jar = CookieJar()
        assert not took(jar, "http://www.example.com/", "a=b; Domain=example.com")
        assert took(jar, "http://www.example.com/", "a=b; Domain=www.example.com")
        assert sent(jar, "http://www.example.com/") == "a=b"
        assert sent(jar, "http://a.www.example.com/") is None


class TestSecure:
    def test_not_set_from_http(self, jar: CookieJar) -> None:
        assert not took(jar, "http://h.example/", "a=b; Secure")
        assert took(jar, "https://h.example/", "a=b; Secure")
        assert took(jar, "wss://h.example/", "c=d; secure=x")

    def test_not_sent_over_http(self, jar: CookieJar) -> None:
        jar.update(["a=b; Secure", "c=d"], URL("https://h.example/"))
        assert sent(jar, "http://h.example/") == sent(jar, "ws://h.example/") == "c=d"
        assert sent(jar, "https://h.example/") == sent(jar, "wss://h.example/") == "a=b; c=d"

    @pytest.mark.parametrize(
        ("header", "taken"),
        [
            ("a=evil; Path=/x", False),
            ("a=evil; Path=/x/y", False),
            ("a=evil; Path=/x; Domain=h.example", False),
            ("a=evil; Path=/", True),
            ("a=evil; Path=/xy", True),
            ("A=evil; Path=/x", True),
        ],
    )
    def test_a_secure_cookie_is_not_hidden_by_one_that_is_not(self, jar: CookieJar, header: str, taken: bool) -> None:
        jar.update(["a=b; Secure; Path=/x; Domain=h.example"], URL("https://www.h.example/"))
        jar.update([header], URL("http://www.h.example/"))
        assert ("evil" in (sent(jar, "https://www.h.example/x/y") or "")) is (taken and "Path=/xy" not in header)
        assert len(jar) == (2 if taken else 1)

    @pytest.mark.parametrize(
        ("url", "header", "taken"),
        [
            ("https://h.example/", "__Secure-a=b; Secure", True),
            ("https://h.example/", "__Secure-a=b", False),
            ("http://h.example/", "__Secure-a=b; Secure", False),
            ("https://h.example/", "__SECURE-a=b", False),
            ("https://h.example/", "__Secure-a=b; Secure; Domain=h.example", True),
            ("https://h.example/", "__Host-a=b; Secure; Path=/", True),
            ("https://h.example/", "__Host-a=b; Path=/", False),
            ("http://h.example/", "__Host-a=b; Secure; Path=/", False),
            ("https://h.example/x/y", "__Host-a=b; Secure", False),
            ("https://h.example/", "__Host-a=b; Secure; Path=/x", False),
            ("https://h.example/", "__Host-a=b; Secure; Path=/; Domain=h.example", False),
            ("https://h.example/", "__host-a=b", False),
            ("http://h.example/", "__Other-a=b", True),
        ],
    )
    def test_prefixes(self, jar: CookieJar, url: str, header: str, taken: bool) -> None:
        assert took(jar, url, header) is taken


class TestLimits:
    def test_per_domain(self, jar: CookieJar) -> None:
        url = URL("http://h.example/")
        jar.update([f"n{number}=x" for number in range(MAX_PER_DOMAIN)], url)
        jar.update(["n0=again"], url)  # set last, so it is not the first to go
        jar.update(["new=x"], url)
        names = {cookie.name for cookie in jar}
        assert len(jar) == MAX_PER_DOMAIN
        assert {"n0", "n2", "new"} <= names
        assert "n1" not in names

    def test_in_all(self, jar: CookieJar) -> None:
        for number in range(MAX_TOTAL + 10):
            jar.update(["a=b"], URL(f"http://h{number}.example/"))
        assert len(jar) == len(list(jar)) == MAX_TOTAL
        assert sent(jar, "http://h9.example/") is None
        assert sent(jar, "http://h10.example/") == "a=b"


class TestNoCookies:
    def test_nothing_is_kept(self) -> None:
        jar = NoCookies()
        version = jar.version
        jar.update(["a=b"], URL("http://h.example/"))
        jar.set("a", "b", domain="h.example")
        assert sent(jar, "http://h.example/") is None
        assert (len(jar), bool(jar), list(jar), jar.version) == (0, False, [], version)
        assert isinstance(jar, CookieJar)


class TestByHand:
    def test_set(self, jar: CookieJar) -> None:
        jar.set("a", "b", domain="h.example")
        jar.set("c", "d", domain=".H.example", path="/x", secure=True, expires=NOW + 5)
        jar.set("e", "f", domain="bücher.example")
        jar.set("g", "h", domain="::1")
        jar.set("i", "j", domain="[::2]")
        assert sent(jar, "http://h.example/x") == "a=b"
        assert sent(jar, "https://www.h.example/x") == "c=d"
        assert sent(jar, "http://xn--bcher-kva.example/") == "e=f"
        assert sent(jar, "http://[::1]/") == "g=h"
        assert sent(jar, "http://[::2]/") == "i=j"
        assert jar.get("c") == "d"
        assert jar.get("c", domain="other.example") is None
        assert jar.get("x", "default") == "default"

    @pytest.mark.parametrize(
        ("name", "value"),
        [("", "b"), ("a=", "b"), ("a;", "b"), ("a b", "c"), ("a", "b;c"), ("a", "b\r\nc"), ("a\0", "b")],
    )
    def test_what_would_be_another_cookie(self, jar: CookieJar, name: str, value: str) -> None:
        with pytest.raises(InvalidHeaderError):
            jar.set(name, value, domain="h.example")

    def test_remove(self, jar: CookieJar) -> None:
        for domain in ("h.example", "other.example"):
            for path in ("/", "/x"):
                jar.set("a", domain, domain=domain, path=path)
                jar.set("b", domain, domain=domain, path=path)
        assert jar.remove("a", domain="h.example", path="/x") == 1
        assert jar.remove("a", domain="h.example") == 1
        assert jar.remove("nothing") == 0
        assert sent(jar, "http://h.example/x") == "b=h.example; b=h.example"
        assert jar.remove("b") == 4
        assert len(jar) == 2
        jar.clear("h.example")
        assert len(jar) == 2
        jar.clear("other.example")
        assert not jar
        jar.set("a", "b", domain="h.example")
        jar.clear()
        assert not jar

    def test_each_change_has_another_version(self, jar: CookieJar) -> None:
        versions = [jar.version]
        url = URL("http://h.example/")
        for change in (
            lambda: jar.update(["a=b"], url),
            lambda: jar.update(["a=c"], url),
            lambda: jar.update(["a=c; Max-Age=0"], url),
            lambda: jar.set("a", "b", domain="h.example"),
            lambda: jar.remove("a"),
            lambda: jar.set("a", "b", domain="h.example"),
            lambda: jar.clear(),
        ):
            change()
            versions.append(jar.version)
        assert versions == sorted(set(versions))
        jar.update([], url)
        jar.update(["nothing"], url)
        jar.header_for(url)
        assert jar.version == versions[-1]

    def test_repr_has_no_values(self, jar: CookieJar) -> None:
        jar.set("a", "secret", domain="h.example")
        assert repr(jar) == "<CookieJar with 1 cookies of 1 domains>"
