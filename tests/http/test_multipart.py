"""Forms, checked against what other parsers make of them: the stdlib's, its email parser, and aiohttp's server side."""

from __future__ import annotations

import email.parser
import email.policy
import io
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.http.body import Body, make_body
from weft.http.errors import BodyError, InvalidHeaderError
from weft.http.multipart import JOINED, FormData, guessed_type

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def made(**arguments: Any) -> Body:
    body = make_body(**arguments)
    assert body is not None
    return body


async def collect(body: Body) -> bytes:
    pieces = [piece async for piece in body.chunks()]
    assert all(pieces)
    return b"".join(pieces)


async def pieces(*items: bytes) -> AsyncIterator[bytes]:
    for item in items:
        yield item


class Part(NamedTuple):
    name: str | None
    filename: str | None
    content_type: str | None
    content: bytes


def read_by_email(content_type: str, content: bytes) -> list[Part]:
    """What the standard library's parser of mail makes of it; it wants UTF-8 names as surrogates."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + content)
    assert message.is_multipart()
    assert not message.defects
    parts = []
    for part in message.iter_parts():
        name, payload = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        assert isinstance(name, str)
        assert isinstance(payload, bytes)
        parts.append(Part(name, part.get_filename(), part.get("Content-Type"), payload))
    return parts


async def read_by_aiohttp(content_type: str, content: bytes) -> list[Part]:
    """What aiohttp's server side makes of it."""
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    stream = aiohttp.StreamReader(_Unpaused(), 2**16)
    stream.feed_data(content)
    stream.feed_eof()
    reader = aiohttp.MultipartReader({"Content-Type": content_type}, stream)
    parts = []
    while (part := await reader.next()) is not None:
        name = part.headers["Content-Disposition"].partition('name="')[2].partition('"')[0]
        parts.append(Part(name, part.filename, part.headers.get("Content-Type"), bytes(await part.read())))
    assert await stream.read() == b"", "nothing follows the last boundary"
    return parts


class _Unpaused:
    _reading_paused = False

    def pause_reading(self, **options: Any) -> None: ...
    def resume_reading(self, **options: Any) -> None: ...


class TestURLEncoded:
    def test_fields(self) -> None:
        body = made(data={"a": "x y&z=ß", "b": 1, "c": True, "d": 1.5, "e": b"\xff", "ü": ""})
        assert body.content == b"a=x+y%26z%3D%C3%9F&b=1&c=true&d=1.5&e=%FF&%C3%BC="
        assert body.content_type == "application/x-www-form-urlencoded"

    def test_lists_repeat_and_none_is_left_out(self) -> None:
        assert made(data={"a": ["1", 2], "b": None, "c": ("x",)}).content == b"a=1&a=2&c=x"

    @pytest.mark.parametrize("argument", ["data", "form"])
    @pytest.mark.parametrize("kind", [dict, lambda d: list(d.items()), lambda d: tuple(d.items()), dict.items])
    def test_pairs_in_every_shape(self, argument: str, kind: Callable[[Any], Any]) -> None:
        assert made(**{argument: kind({"a": "1", "b": "2"})}).content == b"a=1&b=2"

    def test_pairs_that_come_one_by_one(self) -> None:
        assert made(form=iter([("a", "1"), ("a", "2")])).content == b"a=1&a=2"

    def test_form_data(self) -> None:
        form = FormData({"a": "1"})
        form.add_field("b", 2)
        form.add_fields(("c", "3"), {"d": "4"})
        assert (len(form), form.is_multipart) == (4, False)
        assert made(data=form).content == b"a=1&b=2&c=3&d=4"

    @pytest.mark.parametrize("value", [{"x": 1}, {1, 2}, [["nested"]]])
    def test_what_forms_cannot_say(self, value: Any) -> None:
        with pytest.raises(BodyError, match="'a' is a (dict|set|list)"):
            make_body(data={"a": value})

    def test_a_name_that_is_no_text(self) -> None:
        with pytest.raises(BodyError, match="name of a field"):
            make_body(data={None: "x"})

    @pytest.mark.parametrize("field", [("a",), ("a", "b", "c"), "ab", 7])
    def test_a_field_that_is_no_pair(self, field: Any) -> None:
        with pytest.raises(BodyError, match="pair of name and value"):
            make_body(form=[field])

    @given(st.lists(st.tuples(st.text(min_size=1), st.text()), min_size=1))
    def test_the_standard_library_reads_it(self, fields: list[tuple[str, str]]) -> None:
        try:
            content = made(data=fields).content
        except UnicodeEncodeError:
            return  # half of a surrogate pair
        assert content is not None
        assert parse_qsl(content.decode(), keep_blank_values=True, strict_parsing=True) == fields


class TestMultipart:
    def test_byte_for_byte(self) -> None:
        body = made(data={"a": "1"}, files={"f": ("x.txt", b"hello")}, boundary="B")
        assert body.content_type == "multipart/form-data; boundary=B"
        assert body.content == (
            b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
            b'--B\r\nContent-Disposition: form-data; name="f"; filename="x.txt"\r\n'
            b"Content-Type: text/plain\r\n\r\nhello\r\n"
            b"--B--\r\n"
        )

    @pytest.mark.parametrize(
        ("file", "filename", "content_type"),
        [
            (b"c", "f", "application/octet-stream"),
            ("c", "f", "application/octet-stream"),
            (io.BytesIO(b"c"), "f", "application/octet-stream"),
            (("a.json", b"c"), "a.json", "application/json"),
            (("a.tar.gz", b"c"), "a.tar.gz", "application/octet-stream"),
            (("a.json", b"c", "x/y"), "a.json", "x/y"),
            ((None, "c"), None, None),
            ((None, "c", "x/y"), None, "x/y"),
            (("a", "c", None, {"Content-Type": "p/q"}), "a", "p/q"),
            (("a", "c", "x/y", {"X-More": "1"}), "a", "x/y"),
            (("a", "c", "x/y", {"X-More": "1", "content-type": "p/q"}), "a", "p/q"),
        ],
    )
    def test_the_shapes_of_a_file(self, run: Run, file: Any, filename: str | None, content_type: str | None) -> None:
        body = made(files={"f": file})
        expected = [Part("f", filename, content_type, b"c")]
        assert read_by_email(body.content_type or "", run(collect(body))) == expected
        assert run(read_by_aiohttp(body.content_type or "", run(collect(body)))) == expected

    def test_a_part_has_one_type(self) -> None:
        content = made(files={"f": ("a.txt", b"c", "x/y", {"content-type": "p/q"})}).content or b""
        assert content.lower().count(b"content-type") == 1

    def test_more_headers_of_a_part(self) -> None:
        content = made(files={"f": ("a", b"c", "x/y", {"X-More": "1"})}).content or b""
        assert b"\r\nX-More: 1\r\n" in content

    def test_files_take_their_names_along(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "säge.html"
        path.write_bytes(b"<p>")
        with path.open("rb") as file:
            body = made(files=[("f", file), ("f", path)])
            parts = run(read_by_aiohttp(body.content_type or "", run(collect(body))))
        assert parts == [Part("f", "säge.html", "text/html", b"<p>")] * 2

    def test_a_file_without_a_name(self, run: Run) -> None:
        reader, writer = os.pipe()
        os.write(writer, b"c")
        os.close(writer)
        with open(reader, "rb") as file:
            body = made(files={"f": file})
            assert read_by_email(body.content_type or "", run(collect(body)))[0].filename == "f"

    def test_a_file_among_the_data_makes_it_multipart(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_bytes(b"text")
        for value in (path, path.open("rb")):
            body = made(data={"a": "1", "f": value})
            expected = [Part("a", None, None, b"1"), Part("f", "a.txt", "text/plain", b"text")]
            assert read_by_email(body.content_type or "", run(collect(body))) == expected
            if isinstance(value, io.IOBase):
                assert not value.closed, "the caller's file stays open"
                value.close()

    def test_form_data_with_everything(self, run: Run) -> None:
        form = FormData()
        form.add_field("a", "ß", content_type="text/plain; charset=utf-8")
        form.add_field("f", b"1", filename="one")
        form.add_field("g", pieces(b"x", b"y"))
        form.add_fields(io.BytesIO(b"z"))
        assert form.is_multipart
        body = made(data=form)
        assert run(read_by_aiohttp(body.content_type or "", run(collect(body)))) == [
            Part("a", None, "text/plain; charset=utf-8", "ß".encode()),
            Part("f", "one", "application/octet-stream", b"1"),
            Part("g", None, None, b"xy"),
            Part("unknown", "unknown", "application/octet-stream", b"z"),
        ]

    def test_form_data_beside_files_keeps_what_it_is(self) -> None:
        form = FormData({"a": "1"}, default_to_multipart=True, boundary="mine")
        assert made(data=form).content_type == "multipart/form-data; boundary=mine"
        body = made(form=form, files={"f": b""})
        assert body.content_type == "multipart/form-data; boundary=mine"
        assert body.content is not None
        assert b'name="a"' in body.content
        assert len(form) == 1, "the caller's form is not changed"

    def test_a_form_of_nothing_but_streams_without_names_is_multipart(self, run: Run) -> None:
        body = made(data={"s": pieces(b"x")})
        assert read_by_email(body.content_type or "", run(collect(body))) == [Part("s", None, None, b"x")]

    def test_lists_repeat_in_multipart_too(self, run: Run) -> None:
        body = made(data={"a": [1, None, "2"]}, files={"f": b""})
        names = [(part.name, part.content) for part in read_by_email(body.content_type or "", run(collect(body)))]
        assert names == [("a", b"1"), ("a", b"2"), ("f", b"")]


class TestQuoting:
    def test_as_browsers_do(self) -> None:
        body = made(files={'a"\r\nb': ('c"\r\nd\\', b"")}, boundary="B")
        assert b'name="a%22%0D%0Ab"; filename="c%22%0D%0Ad\\"\r\n' in (body.content or b"")

    @given(st.text(), st.text(), st.binary())
    def test_no_name_makes_another_field(self, name: str, filename: str, content: bytes) -> None:
        try:
            body = made(files={name: (filename, content)}, boundary="x" * 60)
        except UnicodeEncodeError:
            return
        assert body.content is not None
        head, _, rest = body.content.partition(b"\r\n\r\n")
        assert head.count(b"\r\n") == 2
        assert head.count(b"\n") == 2
        assert head.split(b"\r\n")[1].count(b'"') == 4
        assert rest == content + b"\r\n--" + b"x" * 60 + b"--\r\n"

    @pytest.mark.parametrize(
        ("content_type", "headers"),
        [
            ("a/b\r\nX: y", None),
            ("a/b\nX", None),
            (None, {"X": "1\r\nY: 2"}),
            (None, {"X\r\nY": "1"}),
            (None, {"": "1"}),
            ("a/\0", None),
        ],
    )
    def test_a_header_that_would_end_early(self, content_type: str | None, headers: Mapping[str, str] | None) -> None:
        with pytest.raises(InvalidHeaderError):
            make_body(files={"f": ("a", b"", content_type, headers)})

    @pytest.mark.parametrize("boundary", ["", "x" * 71, "a\r\nb", "ends in space ", 'quo"te', "ü"])
    def test_a_boundary_that_is_none(self, boundary: str) -> None:
        with pytest.raises(BodyError, match="boundary"):
            make_body(files={"f": b""}, boundary=boundary)

    def test_a_boundary_that_must_be_quoted(self, run: Run) -> None:
        body = made(files={"f": b"c"}, boundary="a:b c")
        assert body.content_type == 'multipart/form-data; boundary="a:b c"'
        assert read_by_email(body.content_type, run(collect(body)))[0].content == b"c"

    def test_boundaries_differ(self) -> None:
        assert made(files={"f": b""}).content_type != made(files={"f": b""}).content_type

    @pytest.mark.parametrize("given", [("a",), (), ("a", b"", None, {}, 1)])
    def test_a_tuple_of_another_length(self, given: tuple[Any, ...]) -> None:
        with pytest.raises(BodyError, match=f"tuple of {len(given)}"):
            make_body(files={"f": given})


class TestStreaming:
    def test_little_is_joined_and_in_memory(self) -> None:
        body = made(data={"a": "1"}, files={"f": b"x" * 1000, "g": "y"})
        assert body.content is not None
        assert body.length == len(body.content)

    def test_much_is_streamed_without_a_copy(self, run: Run) -> None:
        large = os.urandom(JOINED + 1)

        async def main() -> list[bytes]:
            return [piece async for piece in body.chunks()]

        body = made(files={"f": large, "g": b"small"})
        found = run(main())
        assert body.content is None
        assert any(piece is large for piece in found)
        assert len(found) == 3
        assert body.length == sum(map(len, found))
        assert body.replayable

    def test_the_length_is_what_is_sent(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_bytes(os.urandom(300_000))
        with path.open("rb") as file:
            file.seek(1000)
            body = made(data={"n": "ä" * 100}, files=[("p", path), ("q", file), ("r", b"c"), ("s", ("ü", "ß"))])
            sent = run(collect(body))
            assert body.length == len(sent)
            parts = run(read_by_aiohttp(body.content_type or "", sent))
            assert [part.content for part in parts[1:3]] == [path.read_bytes(), path.read_bytes()[1000:]]
            assert body.replayable
            assert run(collect(body)) == sent

    def test_a_part_of_unknown_length_makes_it_unknown(self, run: Run, tmp_path: Path) -> None:
        body = made(files={"a": ("a", pieces(b"x", b"", b"y")), "b": b"z"})
        assert (body.length, body.replayable) == (None, False)
        assert [part.content for part in read_by_email(body.content_type or "", run(collect(body)))] == [b"xy", b"z"]

    def test_a_second_pass_fails_before_anything_is_sent(self, run: Run) -> None:
        body = made(files={"a": ("a", pieces(b"x"))})
        run(collect(body))
        seen = []

        async def again() -> None:
            async for piece in body.chunks():
                seen.append(piece)

        with pytest.raises(BodyError, match="cannot be read again"):
            run(again())
        assert seen == []

    def test_closing_ends_every_part(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_bytes(bytes(600_000))

        async def main() -> None:
            body = made(files={"a": path})
            chunks = body.chunks()
            await anext(chunks)
            await anext(chunks)
            assert str(path) in _open_files()
            await chunks.aclose()
            assert str(path) not in _open_files()
            body.close()
            with pytest.raises(BodyError):
                await collect(body)

        run(main())

    def test_a_field_is_given_lazily(self, tmp_path: Path) -> None:
        form = FormData()
        form.add_field("f", tmp_path / "later.txt")
        with pytest.raises(FileNotFoundError):
            form.encode()
        (tmp_path / "later.txt").write_bytes(b"x")
        form.encode()


def _open_files() -> list[str]:
    return [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.lexists(f"/proc/self/fd/{fd}")
    ]


@pytest.mark.parametrize(("name", "expected"), [("a.html", "text/html"), ("a.gz", None), ("noext", None), (None, None)])
def test_guessed_types(name: str | None, expected: str | None) -> None:
    assert guessed_type(name) == (expected or "application/octet-stream")
