"""Redirects: the next request by the tables of RFC 9110 and of browsers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.http.errors import InvalidURLError
from weft.http.redirects import BODY_HEADERS, CREDENTIAL_HEADERS, REDIRECT_STATUSES, redirected
from weft.http.url import URL

HERE = URL("http://h.example/a/b?c")


class TestStatuses:
    def test_which(self) -> None:
        assert {301, 302, 303, 307, 308} == REDIRECT_STATUSES

    def test_headers_that_go_with_something(self) -> None:
        assert {"authorization", "cookie", "proxy-authorization"} == CREDENTIAL_HEADERS
        assert {"content-length", "content-type", "transfer-encoding"} <= BODY_HEADERS
        assert all(name == name.lower() for name in CREDENTIAL_HEADERS | BODY_HEADERS)


class TestMethod:
    @pytest.mark.parametrize(
        ("status", "method", "becomes", "keeps_body"),
        [
            (301, "GET", "GET", True),
            (301, "HEAD", "HEAD", True),
            (301, "POST", "GET", False),
            (301, "PUT", "PUT", True),
            (301, "DELETE", "DELETE", True),
            (302, "GET", "GET", True),
            (302, "HEAD", "HEAD", True),
            (302, "POST", "GET", False),
            (302, "PATCH", "PATCH", True),
            (303, "GET", "GET", True),
            (303, "HEAD", "HEAD", True),
            (303, "POST", "GET", False),
            (303, "PUT", "GET", False),
            (303, "DELETE", "GET", False),
            (307, "GET", "GET", True),
            (307, "POST", "POST", True),
            (307, "PUT", "PUT", True),
            (308, "HEAD", "HEAD", True),
            (308, "POST", "POST", True),
            (308, "PATCH", "PATCH", True),
        ],
    )
    def test_table(self, status: int, method: str, becomes: str, keeps_body: bool) -> None:
        new = redirected(method, HERE, status, "/x")
        assert (new.method, new.keeps_body) == (becomes, keeps_body)
        assert new.url.text == "http://h.example/x"


class TestTarget:
    @pytest.mark.parametrize(
        ("url", "location", "target"),
        [
            ("http://h/a/b?c", "d", "http://h/a/d"),
            ("http://h/a/b?c", "/d?e", "http://h/d?e"),
            ("http://h/a/b?c", "?d", "http://h/a/b?d"),
            ("http://h/a/b?c", "", "http://h/a/b?c"),
            ("http://h/a/b", "//other/x", "http://other/x"),
            ("http://h/a/b", "https://other/x/../y%2f|z", "https://other/y%2f|z"),
            ("http://h/a/b", " \t/x ", "http://h/x"),
            ("http://h/a/b", "/x y", "http://h/x%20y"),
            # A fragment is carried over where the target has none: RFC 9110, section 10.2.2, with its examples.
            ("http://www.example.org/~tim", "/People.html#tim", "http://www.example.org/People.html#tim"),
            ("http://www.example.org/index.html#larry", "http://www.example.net/", "http://www.example.net/#larry"),
            ("http://h/a#old", "/b#new", "http://h/b#new"),
            ("http://h/a#old", "/b#", "http://h/b#"),
            # Headers are latin-1 to us; servers send UTF-8, and sometimes latin-1.
            ("http://h/a", "/caf\xc3\xa9", "http://h/caf%C3%A9"),
            ("http://h/a", "/caf\xe9", "http://h/caf%E9"),
            ("http://h/a", "/\x80", "http://h/%80"),
            ("http://h/a", "/caf\u20ac", "http://h/caf%E2%82%AC"),
            ("http://h/a", "http://b\xc3\xbccher.example/", "http://xn--bcher-kva.example/"),
            ("http://u:p@h/a", "/b", "http://u:p@h/b"),
            ("http://u:p@h/a", "http://h/b", "http://h/b"),
        ],
    )
    def test_table(self, url: str, location: str, target: str) -> None:
        assert redirected("GET", URL(url), 302, location).url.text == target

    @pytest.mark.parametrize(
        "location", [None, "ftp://h/", "mailto:a@b", "http://", "//", "http://h:x/", "/a\r\nb", "/\0"]
    )
    def test_what_cannot_be_followed(self, location: str | None) -> None:
        with pytest.raises(InvalidURLError) as caught:
            redirected("GET", HERE, 302, location)
        assert isinstance(caught.value, ValueError)

    @given(st.text(st.characters(codec="latin-1")))
    def test_any_header(self, location: str) -> None:
        try:
            new = redirected("GET", HERE, 302, location)
        except ValueError:
            return
        assert new.url.text.isascii()


class TestCredentials:
    @pytest.mark.parametrize(
        ("url", "location", "drops"),
        [
            ("http://h/a", "/b", False),
            ("http://h/a", "http://h/b", False),
            ("http://h/a", "http://H:80/b", False),
            ("https://h/a", "https://h:443/b", False),
            ("https://h/a", "//h/b", False),
            ("http://h/a", "http://other/b", True),
            ("http://h/a", "//other/b", True),
            ("http://h/a", "http://www.h/b", True),
            ("http://h/a", "http://h:81/b", True),
            ("http://h/a", "https://h/b", True),
            ("https://h/a", "http://h/b", True),
            ("https://h/a", "http://h:443/b", True),
            ("http://h/a", "http://h@other/b", True),
            ("http://h/a", "/\\other/b", False),
        ],
    )
    def test_another_origin_does_not_get_them(self, url: str, location: str, drops: bool) -> None:
        assert redirected("GET", URL(url), 307, location).drops_credentials is drops
