"""Headers against a list of pairs as model, and the bytes that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weft.http.errors import InvalidHeaderError
from weft.http.headers import Headers, encode_headers

Pairs = list[tuple[str, str]]

NAMES = ["A", "a", "B", "b", "Set-Cookie", "set-cookie", "X"]

names = st.sampled_from(NAMES)
values = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=8)
pair_lists = st.lists(st.tuples(names, values), max_size=6)
tokens = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=12)

HEAD = (
    b"HTTP/1.1 200 OK: really\r\nServer: x\r\nset-cookie: a=b\r\nSet-Cookie:c=d \t\r\nEmpty:\r\n"
    b"Colons: a:b: c\r\nLatin: caf\xe9\r\nTabs:\t a\tb\t\r\n\r\n"
)
HEAD_PAIRS = [
    ("Server", "x"),
    ("set-cookie", "a=b"),
    ("Set-Cookie", "c=d"),
    ("Empty", ""),
    ("Colons", "a:b: c"),
    ("Latin", "café"),
    ("Tabs", "a\tb"),
]


class Model:
    """The same as a list of pairs, in the plainest way."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = list(pairs)

    def all(self, name: str) -> list[str]:
        return [value for one, value in self.pairs if one.lower() == name.lower()]

    def set(self, name: str, value: str) -> None:
        where = [index for index, (one, _) in enumerate(self.pairs) if one.lower() == name.lower()]
        if not where:
            self.pairs.append((name, value))
            return
        self.pairs[where[0]] = (name, value)
        for index in reversed(where[1:]):
            del self.pairs[index]

    def delete(self, name: str) -> None:
        self.pairs = [pair for pair in self.pairs if pair[0].lower() != name.lower()]

    def update(self, other: Pairs) -> None:
        for name, _ in other:
            self.delete(name)
        self.pairs += other


def check(headers: Headers, model: Model) -> None:
    """Compares everything that can be read."""
    assert list(headers.items()) == model.pairs
    assert list(headers) == list(headers.keys()) == [name for name, _ in model.pairs]
    assert list(headers.values()) == [value for _, value in model.pairs]
    assert len(headers) == len(headers.items()) == len(headers.values()) == len(model.pairs)
    assert bool(headers) is bool(model.pairs)
    for name in NAMES:
        expected = model.all(name)
        assert headers.get_list(name) == headers.getall(name) == expected
        assert (name in headers) is bool(expected)
        assert headers.get(name) == (expected[0] if expected else None)
        assert headers.get(name, "default") == (expected[0] if expected else "default")
        if expected:
            assert headers[name] == expected[0]
        else:
            with pytest.raises(KeyError, match=name):
                headers[name]


changes = st.one_of(
    st.tuples(st.just("set"), names, values),
    st.tuples(st.just("add"), names, values),
    st.tuples(st.just("delete"), names, st.just("")),
    st.tuples(st.just("pop"), names, st.just("")),
    st.tuples(st.just("setdefault"), names, values),
    st.tuples(st.just("update"), pair_lists, st.just("")),
    st.tuples(st.just("extend"), pair_lists, st.just("")),
    st.tuples(st.just("clear"), st.just(""), st.just("")),
)


def change(headers: Headers, model: Model, kind: str, what: Any, value: str) -> None:
    """The same change to both."""
    if kind == "set":
        headers[what] = value
        model.set(what, value)
    elif kind == "add":
        headers.add(what, value)
        model.pairs.append((what, value))
    elif kind == "delete":
        if model.all(what):
            del headers[what]
        else:
            with pytest.raises(KeyError):
                del headers[what]
        model.delete(what)
    elif kind == "pop":
        assert headers.pop(what, None) == next(iter(model.all(what)), None)
        model.delete(what)
    elif kind == "setdefault":
        if not model.all(what):
            model.set(what, value)
        assert headers.setdefault(what, value) == model.all(what)[0]
    elif kind == "update":
        headers.update(what)
        model.update(what)
    elif kind == "extend":
        headers.extend(what)
        model.pairs += what
    else:
        headers.clear()
        model.pairs = []


class TestAgainstAModel:
    @given(start=pair_lists, steps=st.lists(changes, max_size=8), look=st.booleans())
    def test_every_change(self, start: Pairs, steps: list[tuple[str, Any, str]], look: bool) -> None:
        headers, model = Headers(start), Model(start)
        for step in steps:
            change(headers, model, *step)
            if look:  # What is looked up is remembered, and a change must not leave that behind.
                check(headers, model)
        check(headers, model)

    @given(pair_lists, pair_lists)
    def test_a_copy_is_another_one(self, pairs: Pairs, more: Pairs) -> None:
        headers = Headers(pairs)
        for other in (headers.copy(), Headers(headers)):
            other.update(more)
            other.add("Z", "z")
            check(headers, Model(pairs))

    @given(pair_lists, pair_lists)
    def test_equality_ignores_case_and_the_order_of_names(self, left: Pairs, right: Pairs) -> None:
        same = all(Model(left).all(name) == Model(right).all(name) for name in NAMES)
        assert (Headers(left) == Headers(right)) is same
        assert (Headers(left) != Headers(right)) is not same


class TestMapping:
    @pytest.mark.parametrize(
        "look",
        [
            lambda headers: headers["b"] == "2",
            lambda headers: headers.get("b") == "2",
            lambda headers: "b" in headers and "c" not in headers,
            lambda headers: headers.get_list("b") == ["2"],
        ],
    )
    def test_the_first_look(self, look: Callable[[Headers], bool]) -> None:
        assert look(Headers([("A", "1"), ("B", "2")]))

    def test_spelling_and_order_stay(self) -> None:
        headers = Headers({"X-Request-ID": "1", "accept": "a"})
        assert list(headers.items()) == [("X-Request-ID", "1"), ("accept", "a")]
        headers["x-request-id"] = "2"
        assert list(headers.items()) == [("x-request-id", "2"), ("accept", "a")]

    def test_it_is_a_mapping(self) -> None:
        headers = Headers([("A", "1"), ("a", "2")])
        assert isinstance(headers, MutableMapping)
        assert dict(headers) == {"A": "1", "a": "1"}
        assert ("a", "2") in headers.items()
        assert ("a", "3") not in headers.items()
        no_pair: Any = "A"
        assert no_pair not in headers.items()
        assert "2" in headers.values()
        assert "3" not in headers.values()
        assert "a" in headers.keys()  # noqa: SIM118 - the view is meant
        assert headers.popitem() == ("A", "1")
        assert not headers

    def test_equal_to_another_mapping(self) -> None:
        assert Headers({"A": "1"}) == {"a": "1"}
        assert Headers({"A": "1"}) != {"a": "2"}
        assert Headers({"A": "1"}) != {1: "1"}
        assert Headers({"A": "1"}) != [("A", "1")]
        with pytest.raises(TypeError):
            hash(Headers())

    def test_update_with_words(self) -> None:
        headers = Headers({"Accept": "a"})
        headers.update({"b": "2"}, accept="c")
        assert list(headers.items()) == [("b", "2"), ("accept", "c")]

    def test_from_a_mapping_with_repeated_names(self) -> None:
        multidict = pytest.importorskip("multidict")
        assert list(Headers(multidict.CIMultiDict([("a", "1"), ("A", "2")])).items()) == [("a", "1"), ("A", "2")]

    def test_what_is_no_string_is_no_name(self) -> None:
        number: Any = 1
        assert number not in Headers({"1": "1"})

    @pytest.mark.parametrize(
        "use",
        [
            lambda headers: headers.add("A", 1),
            lambda headers: headers.add(b"A", "1"),
            lambda headers: headers.__setitem__("A", None),
            lambda headers: headers.update({"A": b"1"}),
            lambda headers: headers.extend([("A", 1)]),
            lambda headers: type(headers)({"A": 1}),
        ],
    )
    def test_only_strings(self, use: Callable[[Any], Any]) -> None:
        headers = Headers({"B": "1"})
        with pytest.raises(TypeError, match="header"):
            use(headers)
        assert list(headers.items()) == [("B", "1")]

    def test_repr_hides_secrets(self) -> None:
        headers = Headers(
            [
                ("Accept", "x"),
                ("authorization", "s1"),
                ("Cookie", "s2"),
                ("Set-Cookie", "s3"),
                ("Proxy-Authorization", "s4"),
            ]
        )
        shown = repr(headers)
        assert shown.startswith("Headers([('Accept', 'x'), ('authorization', '***')")
        assert not any(secret in shown for secret in ("s1", "s2", "s3", "s4"))


class TestFromHead:
    def test_lines(self) -> None:
        headers = Headers.from_head(HEAD)
        assert list(headers.items()) == HEAD_PAIRS
        assert headers.get_list("SET-COOKIE") == ["a=b", "c=d"]
        assert isinstance(headers, Mapping)

    def test_no_header(self) -> None:
        assert len(Headers.from_head(b"HTTP/1.1 204 No Content\r\n\r\n")) == 0

    def test_it_can_be_changed(self) -> None:
        headers = Headers.from_head(HEAD)
        headers.add("New", "1")
        assert list(headers.items()) == [*HEAD_PAIRS, ("New", "1")]

    @given(st.lists(st.tuples(tokens, values.map(lambda value: value.strip(" \t"))), max_size=10))
    @example([("a", "\x85"), ("b", "\xa0x\xa0")])  # white space to str, not to HTTP
    def test_what_is_written_is_read(self, pairs: Pairs) -> None:
        head = b"HTTP/1.1 200 OK\r\n" + encode_headers(pairs) + b"\r\n"
        headers = Headers.from_head(head)
        assert list(headers.items()) == pairs
        assert encode_headers(headers.items()) == encode_headers(pairs)
        assert headers.raw == [(name.encode(), value.encode("latin-1")) for name, value in pairs]

    def test_raw(self) -> None:
        assert Headers([("A", "é"), ("B", "€")]).raw == [(b"A", b"\xe9"), (b"B", b"\xe2\x82\xac")]


class TestEncode:
    def test_lines(self) -> None:
        assert encode_headers([]) == b""
        assert encode_headers([("Host", "a"), ("X", ""), ("host", "b c\td")]) == b"Host: a\r\nX: \r\nhost: b c\td\r\n"

    def test_beyond_ascii(self) -> None:
        assert encode_headers([("A", "é"), ("B", "€é")]) == b"A: \xe9\r\nB: \xe2\x82\xac\xc3\xa9\r\n"

    @pytest.mark.parametrize("control", [chr(code) for code in (*range(9), *range(10, 32), 127)])
    def test_no_control_character_in_a_value(self, control: str) -> None:
        for value in (control, f"a{control}b", f"é{control}", f"secret{control}"):
            with pytest.raises(InvalidHeaderError, match="'Name'") as caught:
                encode_headers([("A", "b"), ("Name", value)])
            assert "secret" not in str(caught.value)
            assert isinstance(caught.value, ValueError)

    @pytest.mark.parametrize(
        "name", ["", " ", "a b", "a:", ":a", "a\r\nb", "a\0", "é", "a\t", "(a)", 'a"', "a/b", "a\x7f"]
    )
    def test_a_name_is_a_token(self, name: str) -> None:
        with pytest.raises(InvalidHeaderError, match="name of a header"):
            encode_headers([(name, "b")])

    def test_half_a_character(self) -> None:
        for pair in (("A", "\ud800"), ("\ud800", "a")):
            with pytest.raises(InvalidHeaderError):
                encode_headers([pair])

    @given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=8)), max_size=4))
    @example([("A", "b\r\nC: d")])
    @example([("A: b\r\nC", "d")])
    def test_one_line_per_pair_whatever_is_in_it(self, pairs: Pairs) -> None:
        try:
            data = encode_headers(pairs)
        except InvalidHeaderError:
            return
        assert data.count(b"\r") == data.count(b"\n") == len(pairs)
        assert b"\0" not in data
        lines = [line.split(b": ", 1) for line in data.split(b"\r\n")[:-1]]
        assert [name.decode() for name, _ in lines] == [name for name, _ in pairs]
        assert [value for _, value in lines] == [value for _, value in Headers(pairs).raw]
