"""What ``make_body`` makes of each argument, and that a streamed body says the truth about itself."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import math
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from weft.http.body import Body, FormData, make_body
from weft.http.errors import BodyError
from weft.http.sources import CHUNK, PathSource, _Handle

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def made(**given: Any) -> Body:
    body = make_body(**given)
    assert body is not None
    return body


async def collect(body: Body) -> bytes:
    pieces = [piece async for piece in body.chunks()]
    assert all(isinstance(piece, bytes) for piece in pieces)
    assert all(pieces), "an empty piece would end a chunked body"
    return b"".join(pieces)


async def some(*pieces: Any) -> AsyncIterator[Any]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


class Again:
    """Can be iterated as often as one likes, both ways."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[Any]:
        return iter(self.pieces)


class AgainAsync(Again):
    __iter__ = None  # type: ignore[assignment]

    def __aiter__(self) -> AsyncIterator[Any]:
        return some(*self.pieces)


class TestInMemory:
    def test_nothing_given_is_no_body(self) -> None:
        assert make_body() is None

    @pytest.mark.parametrize(
        "given", [{"data": {}}, {"data": []}, {"files": {}}, {"form": {}}, {"data": {}, "files": []}]
    )
    def test_no_fields_are_no_body(self, given: dict[str, Any]) -> None:
        assert make_body(**given) is None

    @pytest.mark.parametrize("given", ["content", "data"])
    @pytest.mark.parametrize("value", [b"abc", bytearray(b"abc"), memoryview(b"abc"), "abc", io.BytesIO(b"abc")])
    def test_what_is_in_memory_stays_there(self, run: Run, given: str, value: Any) -> None:
        body = made(**{given: value})
        assert (body.content, body.length, body.replayable) == (b"abc", 3, True)
        assert run(collect(body)) == b"abc"
        assert run(collect(body)) == b"abc"

    def test_bytes_are_not_copied(self) -> None:
        content = b"x" * 1000
        assert made(content=content).content is content

    def test_an_empty_body_is_a_body(self, run: Run) -> None:
        body = made(content=b"")
        assert (body.content, body.length) == (b"", 0)
        assert run(collect(body)) == b""

    def test_what_can_change_is_copied(self) -> None:
        value = bytearray(b"abc")
        body = made(content=value)
        value[:] = b"xyz"
        assert body.content == b"abc"

    def test_text_is_utf_8(self) -> None:
        assert made(content="weiß").content == "weiß".encode()

    def test_a_bytesio_counts_from_where_it_stands_and_can_be_given_again(self) -> None:
        file = io.BytesIO(b"0123456789")
        file.seek(4)
        assert made(content=file).content == b"456789"
        assert made(content=file).content == b"456789"

    def test_the_content_type_is_the_argument_s_business(self) -> None:
        assert made(content=b"x").content_type is None
        assert made(content="x").content_type is None
        assert made(data=b"x").content_type == "application/octet-stream"
        assert made(data="x").content_type == "text/plain; charset=utf-8"
        assert made(data=io.StringIO("x")).content_type == "text/plain; charset=utf-8"
        assert made(data=Path(__file__)).content_type == "text/x-python"
        assert made(json=1).content_type == "application/json"
        assert made(data={"a": 1}).content_type == "application/x-www-form-urlencoded"

    def test_repr(self) -> None:
        assert repr(made(json=[1, 2])) == "<Body application/json, 5 bytes, in memory>"
        assert repr(made(content=iter([b""]))) == "<Body of no type, None bytes, streamed>"


class TestExclusion:
    @pytest.mark.parametrize(
        "given",
        [
            {"content": b"", "data": b""},
            {"data": {}, "json": 0},
            {"json": {}, "form": {}},
            {"content": b"x", "files": {"a": b""}},
            {"json": [], "files": {"a": b""}},
            {"data": {"a": 1}, "form": {"a": 1}},
        ],
    )
    def test_a_request_has_one_body(self, given: dict[str, Any]) -> None:
        with pytest.raises(BodyError, match="one body"):
            make_body(**given)

    @pytest.mark.parametrize("value", [1, 1.5, object(), {"a": b""}])
    def test_what_cannot_be_sent(self, value: Any) -> None:
        with pytest.raises(BodyError, match=type(value).__name__):
            make_body(content=value)

    @pytest.mark.parametrize("fields", ["a=b", b"a=b", 7])
    def test_what_is_no_form(self, fields: Any) -> None:
        with pytest.raises(BodyError, match="mapping or pairs"):
            make_body(form=fields)

    @pytest.mark.parametrize("data", [b"text", iter([b"x"])])
    def test_files_beside_what_has_no_fields(self, data: Any) -> None:
        with pytest.raises(BodyError, match="pair"):
            make_body(data=data, files={"a": b"x"})


class TestJSON:
    @pytest.mark.parametrize("value", [{"a": [1, 2, {"b": None}], "ß": "日本"}, [], {}, "", 0, False, "\ud800", 1.5])
    def test_round_trip(self, value: Any) -> None:
        content = made(json=value).content
        assert content is not None
        assert json.loads(content) == value

    def test_it_is_compact_and_readable(self) -> None:
        assert made(json={"a": [1, 2], "b": "ß"}).content == '{"a":[1,2],"b":"ß"}'.encode()

    @pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf]])
    def test_what_json_has_no_word_for(self, value: Any) -> None:
        with pytest.raises(BodyError) as caught:
            make_body(json=value)
        assert isinstance(caught.value.__cause__, ValueError)

    def test_an_object_that_json_does_not_have(self) -> None:
        with pytest.raises(TypeError, match="not JSON serializable"):
            make_body(json={"a": object()})

    @pytest.mark.parametrize("dumped", ["[ß]", "[ß]".encode()])
    def test_an_encoder_of_the_caller(self, dumped: Any) -> None:
        assert made(json=object(), json_dumps=lambda value: dumped).content == "[ß]".encode()


class TestIterables:
    @pytest.mark.parametrize("make", [lambda *p: iter(p), some, Again, AgainAsync])
    def test_pieces(self, run: Run, make: Callable[..., Any]) -> None:
        body = made(content=make(b"a", b"", "ß", bytearray(b"c"), memoryview(b"d")))
        assert (body.content, body.length) == (None, None)
        assert run(collect(body)) == "aßcd".encode()

    @pytest.mark.parametrize("make", [lambda *p: iter(p), some])
    def test_what_runs_out_is_not_replayable(self, run: Run, make: Callable[..., Any]) -> None:
        body = made(content=make(b"a"))
        assert not body.replayable
        assert run(collect(body)) == b"a"
        with pytest.raises(BodyError, match="cannot be read again"):
            run(collect(body))

    @pytest.mark.parametrize("make", [Again, AgainAsync, lambda *p: list(p)])
    def test_what_can_start_over_is(self, run: Run, make: Callable[..., Any]) -> None:
        body = made(data=make(b"a", b"b"))
        assert body.replayable
        assert [run(collect(body)) for _ in range(2)] == [b"ab", b"ab"]
        body.close()
        with pytest.raises(BodyError):
            run(collect(body))

    @pytest.mark.parametrize("make", [lambda *p: iter(p), some])
    def test_a_piece_that_is_no_bytes(self, run: Run, make: Callable[..., Any]) -> None:
        with pytest.raises(BodyError, match="gave int"):
            run(collect(made(content=make(b"a", 1))))

    def test_a_generator_is_closed_when_the_request_fails(self, run: Run) -> None:
        closed = []

        def pieces() -> Iterator[bytes]:
            try:
                yield b"a"
                yield b"b"
            finally:
                closed.append("sync")

        async def async_pieces() -> AsyncIterator[bytes]:
            try:
                yield b"a"
                yield b"b"
            finally:
                await asyncio.sleep(0)
                closed.append("async")

        async def main() -> None:
            for given in (pieces(), async_pieces()):  # Held here: they do not end by being collected.
                chunks = made(content=given).chunks()
                assert await anext(chunks) == b"a"
                await chunks.aclose()

        run(main())
        assert closed == ["sync", "async"]

    def test_the_error_of_a_generator_arrives(self, run: Run) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"a"
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            run(collect(made(content=pieces())))


class AsyncFile:
    """As aiofiles has them."""

    def __init__(self, content: bytes) -> None:
        self.inner = io.BytesIO(content)
        self.sizes: list[int] = []

    async def read(self, size: int) -> bytes:
        self.sizes.append(size)
        return self.inner.read(size)


class LinesOrAny(AsyncFile):
    """As aiohttp's StreamReader: iteration goes by line, ``iter_any`` does not."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raise AssertionError("by line")
        yield b""

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self.inner.read()


class TestFiles:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "data.bin"
        path.write_bytes(os.urandom(CHUNK * 2 + 17))
        return path

    def test_a_path(self, run: Run, path: Path) -> None:
        body = made(content=path)
        assert (body.content, body.length, body.replayable) == (None, CHUNK * 2 + 17, True)
        assert [run(collect(body)) for _ in range(2)] == [path.read_bytes()] * 2

    def test_an_open_file_is_read_from_where_it_stands_and_stays_open(self, run: Run, path: Path) -> None:
        with path.open("rb") as file:
            file.seek(5)
            body = made(content=file)
            assert (body.length, body.replayable) == (CHUNK * 2 + 12, True)
            assert [run(collect(body)) for _ in range(2)] == [path.read_bytes()[5:]] * 2
            body.close()
            assert not file.closed

    def test_it_is_read_off_the_loop_in_large_pieces(self, run: Run, path: Path) -> None:
        threads, sizes = set(), []

        class Watched(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                threads.add(threading.get_ident())
                sizes.append(size)
                return super().read(size)

        class File:
            def __init__(self) -> None:
                self.read = Watched(path.read_bytes()).read

        assert run(collect(made(content=File()))) == path.read_bytes()
        assert threading.get_ident() not in threads
        assert sizes[0] == CHUNK == 256 * 1024

    def test_nothing_is_opened_before_it_is_read(self, path: Path) -> None:
        before = os.listdir("/proc/self/fd")
        made(content=path)
        assert os.listdir("/proc/self/fd") == before

    def test_kinds_of_files(self, run: Run) -> None:
        with tempfile.NamedTemporaryFile() as named, tempfile.SpooledTemporaryFile() as spooled:
            for file in (named, spooled):
                file.write(b"0123456789")
                file.flush()
                file.seek(3)
                body = made(content=file)
                assert (body.length, run(collect(body))) == (7, b"3456789")
        with tempfile.TemporaryFile(buffering=0) as raw:
            raw.write(b"abc")
            raw.seek(1)
            body = made(content=raw)
            assert (body.length, run(collect(body))) == (2, b"bc")

    def test_a_file_that_unpacks_is_not_as_long_as_it_is_on_disk(self, run: Run, tmp_path: Path) -> None:
        with gzip.open(tmp_path / "a.gz", "wb") as file:
            file.write(b"x" * 100_000)
        with gzip.open(tmp_path / "a.gz", "rb") as file:
            body = made(content=file)
            assert body.length is None
            assert run(collect(body)) == b"x" * 100_000

    def test_a_file_in_text_mode(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "t").write_text("weiß\n", "latin-1")
        with (tmp_path / "t").open(encoding="latin-1") as file:
            body = made(content=file)
            assert body.length is None
            assert run(collect(body)) == "weiß\n".encode()

    def test_a_pipe_runs_out(self, run: Run) -> None:
        reader, writer = os.pipe()
        os.write(writer, b"piped")
        os.close(writer)
        with open(reader, "rb") as file:
            body = made(content=file)
            assert (body.length, body.replayable) == (None, False)
            assert run(collect(body)) == b"piped"
            with pytest.raises(BodyError, match="cannot be read again"):
                run(collect(body))

    @pytest.mark.parametrize("kind", [AsyncFile, LinesOrAny])
    def test_an_async_file(self, run: Run, kind: type[AsyncFile]) -> None:
        content = os.urandom(CHUNK + 1)
        body = made(content=kind(content))
        assert (body.length, body.replayable) == (None, False)
        assert run(collect(body)) == content

    def test_asyncio_s_stream_reader(self, run: Run) -> None:
        async def main() -> bytes:
            reader = asyncio.StreamReader()
            reader.feed_data(b"a\nb\n")
            reader.feed_eof()
            return await collect(made(content=reader))

        assert run(main()) == b"a\nb\n"

    def test_a_file_that_grew_is_sent_as_long_as_was_announced(self, run: Run, path: Path) -> None:
        body, before = made(content=path), path.read_bytes()
        with path.open("ab") as file:
            file.write(b"more")
        assert run(collect(body)) == before

    def test_a_read_that_gives_too_much_is_cut(self, run: Run) -> None:
        class Generous:
            def __init__(self) -> None:
                self.at = 0

            def seek(self, offset: int, whence: int = 0) -> int:
                self.at = 5 if whence else offset
                return self.at

            def tell(self) -> int:
                return self.at

            def read(self, size: int) -> bytes:
                return b"0123456789"

        body = made(content=Generous())
        assert (body.length, run(collect(body))) == (5, b"01234")

    def test_a_file_that_shrank_is_an_error(self, run: Run, path: Path) -> None:
        body = made(content=path)
        path.write_bytes(b"abc")
        with pytest.raises(BodyError, match=f"data.bin.* ended {CHUNK * 2 + 14} bytes short"):
            run(collect(body))

    def test_a_missing_file_is_missed_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            make_body(content=tmp_path / "no")
        with pytest.raises(IsADirectoryError):
            make_body(content=tmp_path)

    @pytest.mark.parametrize("buffering", [-1, 0])
    def test_a_closed_file(self, path: Path, buffering: int) -> None:
        path.open("rb", buffering=buffering).close()
        file = path.open("rb", buffering=buffering)
        file.close()
        with pytest.raises(BodyError, match="is closed"):
            make_body(content=file)

    def test_a_closed_bytesio(self) -> None:
        file = io.BytesIO()
        file.close()
        with pytest.raises(BodyError, match="is closed"):
            make_body(content=file)


class TestClosing:
    def test_a_path_is_closed_when_the_pass_ends_early(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(bytes(CHUNK * 2))

        async def main() -> None:
            chunks = made(content=tmp_path / "a").chunks()
            await anext(chunks)
            assert str(tmp_path / "a") in _open_files()
            await chunks.aclose()
            assert str(tmp_path / "a") not in _open_files()

        run(main())

    def test_closing_the_body_closes_what_is_open(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(bytes(CHUNK * 2))

        async def main() -> None:
            body = made(content=tmp_path / "a")
            chunks = body.chunks()
            await anext(chunks)
            body.close()
            body.close()
            assert str(tmp_path / "a") not in _open_files()
            assert not body.replayable
            with pytest.raises(BodyError, match="closed while"):
                await anext(chunks)
            with pytest.raises(BodyError):
                await collect(body)

        run(main())

    def test_a_read_under_way_closes_behind_itself(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A cancelled task leaves its thread in the read: the file is closed by whoever comes last."""
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        handle = _Handle(str(fifo))
        result: list[bytes] = []
        thread = threading.Thread(target=lambda: result.append(handle.read(10)))
        thread.start()
        with open(fifo, "wb", buffering=0) as writer:  # opens when the reader has opened too: it reads now
            handle.close()
            assert str(fifo) in _open_files()
            writer.write(b"late")
            thread.join()
        assert result == [b"late"]
        assert str(fifo) not in _open_files()

    def test_cancelled_in_the_middle(self, run: Run, tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)

        async def main() -> None:
            task = asyncio.create_task(collect(made(content=fifo)))
            writer = await asyncio.to_thread(open, fifo, "wb", buffering=0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            writer.close()

        run(main())
        assert str(fifo) not in _open_files()

    def test_a_source_keeps_nothing_of_passes_that_ended(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x")
        source = PathSource(tmp_path / "a")

        async def main() -> None:
            assert [piece async for piece in source.chunks()] == [b"x"]

        run(main())
        assert not source._opened


def _open_files() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found


def test_a_form_is_exported_here_too() -> None:
    assert made(data=FormData({"a": "1"})).content == b"a=1"
