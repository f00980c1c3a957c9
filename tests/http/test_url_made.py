"""URLs that are made from another one: a reference resolved, parameters added, the user's name left out."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.http.errors import InvalidURLError
from weft.http.url import URL

encodable = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)

# RFC 3986, 5.4: the base and every reference of both tables ("g:h" is no URL of ours).
BASE = "http://a/b/c/d;p?q"
NORMAL = {
    "g": "http://a/b/c/g",
    "./g": "http://a/b/c/g",
    "g/": "http://a/b/c/g/",
    "/g": "http://a/g",
    "//g": "http://g",
    "?y": "http://a/b/c/d;p?y",
    "g?y": "http://a/b/c/g?y",
    "#s": "http://a/b/c/d;p?q#s",
    "g#s": "http://a/b/c/g#s",
    "g?y#s": "http://a/b/c/g?y#s",
    ";x": "http://a/b/c/;x",
    "g;x": "http://a/b/c/g;x",
    "g;x?y#s": "http://a/b/c/g;x?y#s",
    "": "http://a/b/c/d;p?q",
    ".": "http://a/b/c/",
    "./": "http://a/b/c/",
    "..": "http://a/b/",
    "../": "http://a/b/",
    "../g": "http://a/b/g",
    "../..": "http://a/",
    "../../": "http://a/",
    "../../g": "http://a/g",
}
ABNORMAL = {
    "../../../g": "http://a/g",
    "../../../../g": "http://a/g",
    "/./g": "http://a/g",
    "/../g": "http://a/g",
    "g.": "http://a/b/c/g.",
    ".g": "http://a/b/c/.g",
    "g..": "http://a/b/c/g..",
    "..g": "http://a/b/c/..g",
    "./../g": "http://a/b/g",
    "./g/.": "http://a/b/c/g/",
    "g/./h": "http://a/b/c/g/h",
    "g/../h": "http://a/b/c/h",
    "g;x=1/./y": "http://a/b/c/g;x=1/y",
    "g;x=1/../y": "http://a/b/c/y",
    "g?y/./x": "http://a/b/c/g?y/./x",
    "g?y/../x": "http://a/b/c/g?y/../x",
    "g#s/./x": "http://a/b/c/g#s/./x",
    "g#s/../x": "http://a/b/c/g#s/../x",
    "http:g": "http://a/b/c/g",  # "for backward compatibility", and what browsers do
}

pieces = ["a", "b", ".", "..", "/", "/", ";", "?", "#", "=", "%2e", "é", ":1"]
references = st.lists(st.sampled_from(pieces), max_size=10).map("".join)


class TestJoin:
    @pytest.mark.parametrize(("reference", "expected"), [*NORMAL.items(), *ABNORMAL.items()])
    def test_examples_of_the_rfc(self, reference: str, expected: str) -> None:
        assert URL(BASE).join(reference).text == expected

    @pytest.mark.parametrize(
        ("base", "reference", "expected"),
        [
            ("http://a", "g", "http://a/g"),
            ("http://a?q", "g", "http://a/g"),
            ("http://a?q", "?y", "http://a?y"),
            ("http://a?q#f", "", "http://a?q"),
            ("http://a?q#f", "?", "http://a?"),
            ("http://a/?", "#f", "http://a/?#f"),
            ("http://u:p@a:81/b", "/g", "http://u:p@a:81/g"),
            ("https://a/b", "//c:80/d", "https://c:80/d"),
            ("https://a/b", "http://c/d/../e", "http://c/e"),
            ("https://a/b", "HTTP://C/d", "HTTP://C/d"),
            ("http://a/b", "/%2e%2E/c%2f../d|e", "/%2e%2E/c%2f../d|e"),
            ("http://a/b", "c d?é", "/c%20d?%C3%A9"),
            ("http://a/b//c/", "../d", "/b//d"),
            ("http://a/b/../c", "#f", "/b/../c#f"),
            ("http://a/b/../c", "?q", "/b/../c?q"),
            ("http://a/b/../c", "d", "/d"),
            ("http://a/b", "//bücher.example/", "http://xn--bcher-kva.example/"),
            ("http://bücher.example/a", "b", "http://xn--bcher-kva.example/b"),
            ("http://a/b", "/c:d", "/c:d"),
            ("http://a/b", "?u=http://x/../y", "/b?u=http://x/../y"),
            ("http://a/b", "/\\evil.example", "/\\evil.example"),
        ],
    )
    def test_bytes_stay_as_written(self, base: str, reference: str, expected: str) -> None:
        expected = f"http://a{expected}" if expected[0] == "/" else expected
        assert URL(base).join(reference).text == expected

    def test_a_url_is_a_reference(self) -> None:
        assert URL("http://a/b").join(URL("https://c/d")) == URL("https://c/d")

    @pytest.mark.parametrize(
        "reference",
        ["mailto:a@b", "data:,x", "javascript:alert(1)", "ftp://h/", "//", "///x", "//h:x/", "/a\nb", "#a\nb", "/\0"],
    )
    def test_no_reference_of_ours(self, reference: str) -> None:
        with pytest.raises(InvalidURLError):
            URL("http://a/b").join(reference)

    @given(base=st.lists(st.sampled_from(["a", "b"])), reference=references)
    def test_as_the_standard_library_does(self, base: list[str], reference: str) -> None:
        if "//" in reference or ":" in reference or ";" in reference:
            # urljoin() drops empty segments and parameters in some releases of Python, and takes `a:1` for a path.
            return
        start = "http://h/" + "/".join(base)
        assert URL(start).join(reference) == URL(strip_empty(urljoin(start, reference), reference))

    @given(base=references, reference=references)
    def test_the_result_has_no_dot_segments_and_is_stable(self, base: str, reference: str) -> None:
        url = URL(f"http://h/{base}")
        try:
            joined = url.join(reference)
        except InvalidURLError:
            assert ":" in reference or "//" in reference
            return
        if joined.path != url.path:
            assert not {".", ".."} & set(joined.path.split("/"))
        assert URL(joined.text) == joined
        assert url.join(joined.text).target == joined.target or joined.path == url.path


def strip_empty(text: str, reference: str) -> str:
    """What urljoin() gives, with the empty query and fragment that it loses (up to 3.13)."""
    head, mark, fragment = reference.partition("#")
    if "?" in head and "?" not in text.partition("#")[0]:
        text = text.partition("#")[0] + "?" + "".join(text.partition("#")[1:])
    if mark and not fragment and "#" not in text:
        text += "#"
    return text


class TestQuery:
    @pytest.mark.parametrize(
        ("url", "params", "expected"),
        [
            ("http://h", {"a": "b"}, "http://h?a=b"),
            ("http://h/", {"a": "b"}, "http://h/?a=b"),
            ("http://h/?", {"a": "b"}, "http://h/?a=b"),
            ("http://h/?x=%2f+", {"a": "b"}, "http://h/?x=%2f+&a=b"),
            ("http://h/?x&", {"a": "b"}, "http://h/?x&a=b"),
            ("http://h/p?x#f?", {"a": "b"}, "http://h/p?x&a=b#f?"),
            ("http://h/p#f?", {"a": "b"}, "http://h/p?a=b#f?"),
            ("http://h/", {"a": ["1", 2, 2.5]}, "http://h/?a=1&a=2&a=2.5"),
            ("http://h/", [("a", 1), ("b", 2), ("a", 3)], "http://h/?a=1&b=2&a=3"),
            ("http://h/", {"a": None, "b": True, "c": False, "d": ""}, "http://h/?b=true&c=false&d="),
            ("http://h/", {"a b&=": "c d&=+#/?é%"}, "http://h/?a+b%26%3D=c+d%26%3D%2B%23%2F%3F%C3%A9%25"),
            ("http://h/", {"a": b"\xff~-._"}, "http://h/?a=%FF~-._"),
            ("http://h/", {"a": ()}, "http://h/"),
            ("http://h/?x", {}, "http://h/?x"),
            ("http://h/?x", None, "http://h/?x"),
            ("http://h/?x", "", "http://h/?x"),
            ("http://h/?x", "a=%2f+b|&c d#e", "http://h/?x&a=%2f+b|&c%20d%23e"),
        ],
    )
    def test_added(self, url: str, params: Any, expected: str) -> None:
        assert URL(url).with_query(params).text == expected

    @given(st.lists(st.tuples(encodable, encodable)))
    def test_what_goes_in_comes_out(self, pairs: list[tuple[str, str]]) -> None:
        url = URL("http://h/p?first=1#f").with_query(pairs)
        assert parse_qsl(url.query, keep_blank_values=True, separator="&") == [("first", "1"), *pairs]
        assert (url.path, url.fragment, url.host) == ("/p", "f", "h")

    def test_a_mapping_is_no_value(self) -> None:
        with pytest.raises(TypeError, match="'a'"):
            URL("http://h/").with_query({"a": {"b": 1}})


class TestOthersMadeFromIt:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("http://u:p@h:81/a@b?c@d", "http://h:81/a@b?c@d"),
            ("http://a@b:c@h/", "http://h/"),
            ("http://@h/", "http://h/"),
            ("http://h/u:p@x", "http://h/u:p@x"),
        ],
    )
    def test_without_userinfo(self, text: str, expected: str) -> None:
        url = URL(text).without_userinfo()
        assert url.text == expected
        assert url.username is None

    @pytest.mark.parametrize(
        ("text", "fragment", "expected"),
        [
            ("http://h/a?b#c", "d e", "http://h/a?b#d%20e"),
            ("http://h/a?b", "d", "http://h/a?b#d"),
            ("http://h/a?b#c", "", "http://h/a?b"),
        ],
    )
    def test_with_fragment(self, text: str, fragment: str, expected: str) -> None:
        assert URL(text).with_fragment(fragment).text == expected
