"""URLs: sent as written, taken apart as the RFC has it, and refused where they could end a request line."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weft.http.errors import HTTPError, InvalidURLError
from weft.http.url import URL

VISIBLE = [chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"<>']

hosts = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{2,5}){0,2}", fullmatch=True)
paths = st.text([one for one in VISIBLE if one not in "?#"], max_size=20).map("/{}".format)
queries = st.text([one for one in VISIBLE if one != "#"], max_size=20)
fragments = st.text(VISIBLE, max_size=10)
encodable = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


class TestAsWritten:
    @pytest.mark.parametrize(
        "text",
        [
            "http://example.org",
            "http://example.org/",
            "http://example.org?",
            "http://example.org/a/../b/./c//d",
            "https://bucket.example/key%2Fwith%2fslashes?X-Sig=a%2Bb%3D%3d+c&d='e'",
            "https://example.org/{a}|b^c`d\\e?[f]&g={h}&%&%zz&;=,:@!$*()~",
            "https://example.org/?redirect=http://other.example/?x=1#frag?ment/",
            "HTTP://Example.ORG:80/Path",
            "http://user:p%40ss@example.org/",
            "ws://example.org:8080/chat",
        ],
    )
    def test_nothing_changes(self, text: str) -> None:
        assert URL(text).text == text
        assert str(URL(text)) == text

    @pytest.mark.parametrize("scheme", ["http", "https", "ws", "wss"])
    @given(host=hosts, path=paths, query=queries, fragment=fragments)
    def test_round_trip_byte_for_byte(self, scheme: str, host: str, path: str, query: str, fragment: str) -> None:
        text = f"{scheme}://{host}{path}?{query}#{fragment}"
        url = URL(text)
        assert (url.text, url.target, url.path, url.query) == (text, f"{path}?{query}", path, query)
        assert (url.scheme, url.host, url.fragment) == (scheme, host, fragment)
        assert URL(url.text) == url

    @pytest.mark.parametrize(
        ("written", "sent"),
        [
            ("http://a/b c", "http://a/b%20c"),
            ('http://a/"<>"', "http://a/%22%3C%3E%22"),
            ("http://a/\x7f", "http://a/%7F"),
            ("http://a/é?ü=€#ß", "http://a/%C3%A9?%C3%BC=%E2%82%AC#%C3%9F"),
            ("http://a/é%C3%A9%", "http://a/%C3%A9%C3%A9%"),
            ("http://a/\u2028\x85", "http://a/%E2%80%A8%C2%85"),
            ("http://ü:ö@a/", "http://%C3%BC:%C3%B6@a/"),
        ],
    )
    def test_what_may_not_stand_in_a_request_line_is_encoded(self, written: str, sent: str) -> None:
        assert URL(written).text == sent

    @given(encodable)
    @example("\r\nHost: evil")
    @example("a b\x00")
    def test_a_request_line_is_never_ended_nor_split(self, anything: str) -> None:
        try:
            url = URL(f"http://example.org/{anything}")
        except InvalidURLError:
            assert min(anything) < " "
            return
        assert set(url.target) <= set(VISIBLE)
        assert set(url.text) <= set(VISIBLE)
        assert url.host == "example.org"
        assert URL(url.text) == url
        encoded = "".join(chr(byte) if chr(byte) in VISIBLE else f"%{byte:02X}" for byte in anything.encode())
        assert url.target == "/" + encoded.partition("#")[0]

    def test_anything_with_a_str_is_taken(self) -> None:
        class Foreign:
            def __str__(self) -> str:
                return "http://example.org/%2F?a|b"

        assert URL(Foreign()).target == "/%2F?a|b"
        url = URL("http://example.org/")
        assert URL(url) is url

        class Text(str): ...

        assert type(URL(Text("http://example.org/")).text) is str


class TestParts:
    @pytest.mark.parametrize(
        ("text", "host", "port", "authority", "target"),
        [
            ("http://example.org", "example.org", 80, "example.org", "/"),
            ("https://example.org", "example.org", 443, "example.org", "/"),
            ("ws://example.org/x", "example.org", 80, "example.org", "/x"),
            ("wss://example.org/x", "example.org", 443, "example.org", "/x"),
            ("http://example.org:8080/a?b#c", "example.org", 8080, "example.org:8080", "/a?b"),
            ("http://example.org:80/", "example.org", 80, "example.org", "/"),
            ("http://example.org:0080/", "example.org", 80, "example.org", "/"),
            ("https://example.org:80/", "example.org", 80, "example.org:80", "/"),
            ("http://example.org:/", "example.org", 80, "example.org", "/"),
            ("http://EXAMPLE.org./", "example.org.", 80, "example.org.", "/"),
            ("http://example.org?a/b", "example.org", 80, "example.org", "/?a/b"),
            ("http://example.org#a/b?c", "example.org", 80, "example.org", "/"),
            ("http://example.org//a", "example.org", 80, "example.org", "//a"),
            ("http://example.org?a@b/", "example.org", 80, "example.org", "/?a@b/"),
            ("http://my_host-1.x~/", "my_host-1.x~", 80, "my_host-1.x~", "/"),
            ("http://127.0.0.1:81/", "127.0.0.1", 81, "127.0.0.1:81", "/"),
            ("http://[::1]/x", "::1", 80, "[::1]", "/x"),
            ("http://[::1]:8000/x", "::1", 8000, "[::1]:8000", "/x"),
            ("http://[2001:DB8:0:0::1]?", "2001:db8::1", 80, "[2001:db8::1]", "/?"),
            ("http://[fe80::1%25eth0]:81/", "fe80::1%eth0", 81, "[fe80::1]:81", "/"),
            ("http://[fe80::1%eth0]/", "fe80::1%eth0", 80, "[fe80::1]", "/"),
            ("http://u:p@[::1]:8000/x", "::1", 8000, "[::1]:8000", "/x"),
            ("http://ex%61mple.org/", "example.org", 80, "example.org", "/"),
        ],
    )
    def test_where_it_goes(self, text: str, host: str, port: int, authority: str, target: str) -> None:
        url = URL(text)
        assert (url.host, url.port, url.authority, url.target) == (host, port, authority, target)
        assert url.origin == (url.scheme, host, port)

    @pytest.mark.parametrize(
        ("text", "username", "password"),
        [
            ("http://h/", None, None),
            ("http://@h/", None, None),
            ("http://u@h/", "u", None),
            ("http://u:@h/", "u", ""),
            ("http://:p@h/", "", "p"),
            ("http://u:p:q@h/", "u", "p:q"),
            ("http://a%40b%3A:p%2Fq%25@h/", "a@b:", "p/q%"),
            ("http://me@mail.example:p@h/", "me@mail.example", "p"),
            ("http://ü:ö@h/", "ü", "ö"),
        ],
    )
    def test_user(self, text: str, username: str | None, password: str | None) -> None:
        url = URL(text)
        assert (url.username, url.password, url.host) == (username, password, "h")

    def test_path_query_fragment(self) -> None:
        url = URL("http://h/a%20b/é?c=%20?d#e#f")
        assert (url.path, url.query, url.fragment) == ("/a%20b/%C3%A9", "c=%20?d", "e#f")
        empty = URL("http://h")
        assert (empty.path, empty.query, empty.fragment) == ("/", "", "")

    def test_security_is_the_scheme(self) -> None:
        assert [URL(f"{scheme}://h/").is_secure for scheme in ("http", "ws", "https", "wss", "HTTPS")] == [
            False,
            False,
            True,
            True,
            True,
        ]

    @given(host=hosts, port=st.none() | st.integers(1, 65535), path=paths, query=queries, fragment=fragments)
    def test_as_the_standard_library_has_it(
        self, host: str, port: int | None, path: str, query: str, fragment: str
    ) -> None:
        text = f"http://{host}{'' if port is None else f':{port}'}{path}?{query}#{fragment}"
        url, oracle = URL(text), urlsplit(text)
        assert (url.host, url.port) == (oracle.hostname, oracle.port or 80)
        assert (url.path, url.query, url.fragment) == (oracle.path, oracle.query, oracle.fragment)


class TestInternational:
    @pytest.mark.parametrize(
        ("written", "text", "host"),
        [
            ("http://bücher.example/ü", "http://xn--bcher-kva.example/%C3%BC", "xn--bcher-kva.example"),
            ("http://BÜCHER.example:81", "http://xn--bcher-kva.example:81", "xn--bcher-kva.example"),
            ("http://b%C3%BCcher.example/", "http://xn--bcher-kva.example/", "xn--bcher-kva.example"),
            ("http://u:p@bücher.example?x", "http://u:p@xn--bcher-kva.example?x", "xn--bcher-kva.example"),
            ("http://例え。テスト/", "http://xn--r8jz45g.xn--zckzah/", "xn--r8jz45g.xn--zckzah"),
            ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ],
    )
    @pytest.mark.parametrize("with_package", [True, False])
    def test_the_host_in_dns_form(
        self, written: str, text: str, host: str, with_package: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.choose(with_package, monkeypatch)
        url = URL(written)
        assert (url.text, url.host) == (text, host)
        assert url.authority.startswith(host)
        assert URL(url.text) == url

    @pytest.mark.parametrize("host", ["a\u2044b", "ex\uff0fample.org", "\uff05.org", "a\u3000b", "\u00ad", "ü" * 70])
    @pytest.mark.parametrize("with_package", [True, False])
    def test_a_host_that_dns_cannot_have(self, host: str, with_package: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.choose(with_package, monkeypatch)
        with pytest.raises(InvalidURLError):
            url = URL(f"http://{host}/")
            # What a table of characters may allow must at least not end the host.
            assert set(url.host) <= set("abcdefghijklmnopqrstuvwxyz0123456789-."), url
            raise InvalidURLError

    def test_the_newer_standard_if_the_package_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("idna")
        self.choose(True, monkeypatch)
        assert URL("http://straße.example/").host == "xn--strae-oqa.example"

    @staticmethod
    def choose(with_package: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Encodes hosts with or without the package, and forgets those that were encoded before."""
        import weft.http.url

        if with_package:
            pytest.importorskip("idna")
        else:
            monkeypatch.setitem(sys.modules, "idna", None)
        weft.http.url._server.cache_clear()


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "no scheme"),
            ("example.org/path", "no scheme"),
            ("localhost:8080/", "no scheme"),
            ("/path", "no scheme"),
            ("//example.org/", "no scheme"),
            ("example.org/?u=http://x/", "no scheme"),
            (" http://example.org/", "no scheme"),
            ("ftp://example.org/", "'ftp'"),
            ("file:///etc/passwd", "'file'"),
            ("javascript:alert(1)", "no scheme"),
            ("http:example.org", "no host"),
            ("http:/example.org", "no host"),
            ("https:", "no host"),
            ("http://", "no host"),
            ("http:///path", "no host"),
            ("http://?q", "no host"),
            ("http://#f", "no host"),
            ("http://:80/", "no host"),
            ("http://user@/", "no host"),
            ("http://user@:80/", "no host"),
            ("http://h:x/", "port 'x'"),
            ("http://h:65536/", "port"),
            ("http://h:0/", "port"),
            ("http://h:-1/", "port"),
            ("http://h:+1/", "port"),
            ("http://h:8_0/", "port"),
            ("http://h:80:81/", "port"),
            ("http://h:٨٠/", "port"),
            ("http://h:" + "9" * 5000, "port"),
            ("http://[::1/", "bracket"),
            ("http://[::1]x/", "bracket"),
            ("http://[::1]80/", "bracket"),
            ("http://[1.2.3.4]/", "IPv6"),
            ("http://[v1.x]/", "IPv6"),
            ("http://[]/", "IPv6"),
            ("http://[::1%25]/", "zone"),
            ("http://[::1%25a/b]/", "bracket"),
            ("http://[fe80::1%25a b]/", "zone"),
            ("http://::1/", "no host"),
            ("http://a b/", "' '"),
            ("http://a%20b/", "' '"),
            ("http://a%00b/", "host"),
            ("http://a%0d%0ab/", "host"),
            ("http://a%2fb/", "'/'"),
            ("http://a%zz/", "'%'"),
            ("http://a%ff/", "host"),
            ("http://a|b/", "'|'"),
            ("http://a<b/", "'<'"),
            ("http://a\\b/", r"\\"),
            ("http://good.example\\@evil.example/", "backslash"),
            ("http://a/\r\nHost: b", "control"),
            ("http://a/\n", "control"),
            ("http://a/\t", "control"),
            ("http://a/\0", "control"),
            ("http://a\x0b/", "control"),
            ("http://a/\ud800", "surrogate"),
        ],
    )
    def test_with_the_reason(self, text: str, problem: str) -> None:
        with pytest.raises(InvalidURLError) as caught:
            URL(text)
        assert problem in str(caught.value)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, HTTPError)

    @pytest.mark.parametrize("text", ["http://me:secret@h:x/", "ftp://me:secret@h/", "http://me:secret@h/\n\x1b[2J"])
    def test_the_error_shows_neither_password_nor_control_characters(self, text: str) -> None:
        with pytest.raises(InvalidURLError) as caught:
            URL(text)
        shown = f"{caught.value} {caught.value.url}"
        assert "secret" not in shown
        assert "h" in shown
        assert "\n" not in shown
        assert "\x1b" not in shown

    def test_the_error_is_short(self) -> None:
        with pytest.raises(InvalidURLError) as caught:
            URL("ftp://" + "a" * 100_000)
        assert len(str(caught.value)) < 500

    @given(st.text(max_size=30))
    def test_nothing_but_its_own_error(self, text: str) -> None:
        for candidate in (text, f"http://{text}", f"http://h/{text}", f"http://[{text}", f"http://h:{text}"):
            try:
                url = URL(candidate)
            except InvalidURLError:
                continue
            assert url.host
            assert 0 < url.port < 65536
            assert url.target[0] == "/"
            assert set(url.text + url.host + url.authority) <= set(VISIBLE)


class TestAsAnObject:
    def test_equality_and_hash_are_the_text(self) -> None:
        a, b = URL("http://h/a"), URL("http://h/a")
        assert a == b
        assert hash(a) == hash(b)
        assert a != URL("http://h/b")
        assert a != "http://h/a"
        assert {a: 1}[b] == 1

    def test_it_cannot_be_changed(self) -> None:
        url: Any = URL("http://h/a")
        with pytest.raises(AttributeError):
            url.host = "other"
        with pytest.raises(AttributeError):
            url.anything = 1

    def test_copies(self) -> None:
        url = URL("http://u:p@bücher.example/a b")
        for other in (copy.copy(url), copy.deepcopy(url), pickle.loads(pickle.dumps(url))):
            assert other == url
            assert (other.host, other.target, other.password) == (url.host, url.target, "p")

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("http://h/a", "URL('http://h/a')"),
            ("http://u@h/a", "URL('http://u@h/a')"),
            ("http://u:secret@h/a?secretive", "URL('http://u:***@h/a?secretive')"),
            ("http://:secret@h:81/", "URL('http://:***@h:81/')"),
            ("http://u:@h/", "URL('http://u:***@h/')"),
        ],
    )
    def test_repr_hides_the_password(self, text: str, shown: str) -> None:
        assert repr(URL(text)) == shown
