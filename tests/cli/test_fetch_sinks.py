"""Where ``weft fetch`` writes: records, JSON lines, the database, the directory of bodies; what each finds again."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.cli.fetch.model import Item, Refused, Result, SinkError
from weft.cli.fetch.sinks import files as files_module
from weft.cli.fetch.sinks import writer as writer_module
from weft.cli.fetch.sinks.database import Database
from weft.cli.fetch.sinks.files import Files, file_name
from weft.cli.fetch.sinks.known import Known
from weft.cli.fetch.sinks.lines import Lines
from weft.cli.fetch.sinks.records import body_fields, line
from weft.cli.fetch.sinks.writer import Writer

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def good(url: str = "http://a/", body: bytes | None = b"text", **fields: Any) -> Result:
    return Result(Item(url, fields.pop("line", None)), 1e9, 0.5, 0.25, url, 200, [("A", "1")], len(body or b""), body,
                  **fields)  # fmt: skip


def bad(url: str = "http://a/") -> Result:
    return Result(Item(url), 1e9, 0.5, error="ConnectError", message="cannot connect")


class TestRecords:
    def test_success(self) -> None:
        assert json.loads(line(good(line=3), "auto", show_headers=True)) == {
            "url": "http://a/", "ok": True, "line": 3, "status": 200, "final_url": "http://a/", "started": 1e9,
            "seconds": 0.5, "first_byte": 0.25, "size": 4, "headers": [["A", "1"]], "body": "text",
        }  # fmt: skip

    def test_failure(self) -> None:
        assert json.loads(line(bad(), "auto", show_headers=True)) == {
            "url": "http://a/", "ok": False, "status": None, "final_url": None, "started": 1e9, "seconds": 0.5,
            "size": 0, "error": "ConnectError", "message": "cannot connect",
        }  # fmt: skip

    def test_file_instead_of_body(self) -> None:
        record = json.loads(line(good(body=None, file="x.html"), "auto", show_headers=False))
        assert record["file"] == "x.html"
        assert "body" not in record

    @pytest.mark.parametrize(
        ("body", "charset", "form", "fields"),
        [
            ("ü".encode(), None, "auto", {"body": "ü"}),
            ("ü".encode("latin-1"), "ISO-8859-1", "auto", {"body": "ü"}),
            (b"\xff", None, "auto", {"body_base64": "/w=="}),
            (b"a\0b", None, "auto", {"body_base64": "YQBi"}),
            (b"a\0b", None, "text", {"body": "a\0b"}),
            (b"\xff", "utf-8", "text", {"body": "\ufffd"}),
            (b"text", None, "base64", {"body_base64": "dGV4dA=="}),
            (b"text", None, "none", {}),
            (b"", None, "auto", {"body": ""}),
            (b"text", "no-such", "auto", {"body": "text"}),
            (b"text", "a\0b", "auto", {"body": "text"}),
            (b"text", "hex", "auto", {"body": "text"}),
            (b"\\x41", "unicode_escape", "auto", {"body": "\\x41"}),
        ],
    )
    def test_body(self, body: bytes, charset: str | None, form: str, fields: dict[str, str]) -> None:
        assert body_fields(body, charset, form) == fields

    @given(st.text(), st.binary(), st.sampled_from([None, "utf-7", "utf-16", "shift_jis", "cp037", "idna"]))
    def test_is_one_line_of_json_whatever_comes(self, url: str, body: bytes, charset: str | None) -> None:
        result = good(url, body, charset=charset, message="\udc80\u2028\n")
        result.error = "E"
        text = line(result, "auto", show_headers=True)
        assert text.count(b"\n") == 1
        record = json.loads(text)
        assert record["url"] == url
        assert record["message"] == "\udc80\u2028\n"
        if "body_base64" in record:
            assert base64.b64decode(record["body_base64"]) == body

    def test_a_lone_surrogate_stays_json(self) -> None:
        assert json.loads(line(good("http://\ud800/"), "auto", show_headers=False))["url"] == "http://\ud800/"


class TestLines:
    def test_a_file_is_begun_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        path.write_text("old\n")
        sink = Lines(str(path))
        sink.write([good(), bad("http://b/")])
        sink.write([good("http://c/")])
        sink.close()
        assert [json.loads(each)["url"] for each in path.read_text().splitlines()] == [
            "http://a/", "http://b/", "http://c/"
        ]  # fmt: skip

    def test_resume_knows_what_succeeded_and_appends(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        sink = Lines(str(path))
        sink.write([good("http://a/"), bad("http://b/"), good("http://ü/")])
        sink.close()
        sink = Lines(str(path), resume=True)
        assert sink.done(["http://a/", "http://b/", "http://ü/", "http://d/"]) == {"http://a/", "http://ü/"}
        sink.write([good("http://b/")])
        sink.close()
        assert len(path.read_text().splitlines()) == 4

    @pytest.mark.parametrize("cut", [1, 5, 20, 80])
    def test_a_line_cut_short_by_a_crash_is_cut_off(self, tmp_path: Path, cut: int) -> None:
        path = tmp_path / "out"
        whole, rest = (line(good(url), "auto", show_headers=False) for url in ("http://a/", "http://b/"))
        path.write_bytes(whole + rest[:cut])
        sink = Lines(str(path), resume=True)
        assert sink.done(["http://a/", "http://b/"]) == {"http://a/"}
        sink.write([good("http://b/")])
        sink.close()
        assert path.read_bytes() == whole + rest

    def test_resume_of_nothing(self, tmp_path: Path) -> None:
        sink = Lines(str(tmp_path / "out"), resume=True)
        assert sink.done(["http://a/"]) == set()
        sink.close()

    @pytest.mark.parametrize("content", ["hello\n", "hello", '{"url": 1}\n', "[]\n", '{"url":"x","ok":true}\n\n'])
    def test_somebodys_file_is_not_touched(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "out"
        path.write_text(content)
        with pytest.raises(Refused, match="cannot resume .*: its line . was not written by weft fetch"):
            Lines(str(path), resume=True)
        assert path.read_text() == content

    def test_two_do_not_write_to_one_file(self, tmp_path: Path) -> None:
        path = str(tmp_path / "out")
        sink = Lines(path)
        sink.write([good()])
        with pytest.raises(Refused, match="in use by another weft fetch"):
            Lines(path)
        sink.close()
        assert Path(path).read_text()

    def test_a_full_disk(self) -> None:
        sink = Lines("/dev/full")
        with pytest.raises(SinkError, match="cannot write /dev/full: No space left on device"):
            sink.write([good()])
        sink.close()

    def test_resume_needs_a_file(self) -> None:
        with pytest.raises(Refused, match="it is no regular file"):
            Lines("/dev/null", resume=True)

    def test_a_pipe_that_does_not_block(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        monkeypatch.setattr("weft.cli.fetch.sinks.lines.STANDARD_OUTPUT", writer)
        sink = Lines("-")
        body = b"x" * 300_000
        thread = threading.Thread(target=sink.write, args=([good(body=body)],))
        thread.start()
        with open(reader, "rb") as stream:
            record = json.loads(stream.readline())
        thread.join()
        os.close(writer)
        assert record["body"] == body.decode()


class TestKnown:
    @given(st.sets(st.text(st.characters(codec="utf-8"))), st.sets(st.text(st.characters(codec="utf-8"))))
    def test_is_a_set(self, added: set[str], asked: set[str]) -> None:
        known = Known()
        for url in added:
            known.add(url)
        assert known.among(list(asked | added)) == added
        assert known.among(list(asked)) == added & asked
        known.close()

    def test_many(self) -> None:
        known = Known()
        for number in range(5000):
            known.add(f"http://a/{number}")
        assert len(known.among([f"http://a/{number}" for number in range(4000, 6000)])) == 1000
        known.close()


class TestDatabase:
    def test_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "db"
        sink = Database(str(path))
        sink.write([good("http://a/", b"\0\xff", line=4, charset="utf-8"), bad("http://b/")])
        sink.close()
        with sqlite3.connect(path) as database:
            database.row_factory = sqlite3.Row
            first, second = map(dict, database.execute("SELECT * FROM results ORDER BY url"))
        database.close()
        assert first == {
            "url": "http://a/", "ok": 1, "line": 4, "status": 200, "final_url": "http://a/", "started": 1e9,
            "seconds": 0.5, "first_byte": 0.25, "size": 2, "error": None, "message": None, "headers": '[["A","1"]]',
            "charset": "utf-8", "file": None, "body": b"\0\xff",
        }  # fmt: skip
        assert (second["ok"], second["error"], second["body"]) == (0, "ConnectError", None)

    def test_the_newest_result_of_a_url_counts(self, tmp_path: Path) -> None:
        sink = Database(str(tmp_path / "db"))
        sink.write([bad("http://a/")])
        assert sink.done(["http://a/"]) == set()
        sink.close()
        sink = Database(str(tmp_path / "db"))
        sink.write([good("http://a/")])
        assert sink.done(["http://a/", "http://b/"]) == {"http://a/"}
        sink.close()

    def test_others_can_read_meanwhile(self, tmp_path: Path) -> None:
        sink = Database(str(tmp_path / "db"), keep_body=False)
        sink.write([good()])
        reader = sqlite3.connect(tmp_path / "db")
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert reader.execute("SELECT count(*), body FROM results").fetchone() == (1, None)
        sink.write([good("http://b/")])
        reader.close()
        sink.close()

    def test_somebodys_database_is_not_touched(self, tmp_path: Path) -> None:
        database = sqlite3.connect(tmp_path / "db")
        database.execute("CREATE TABLE mine (x)")
        database.close()
        with pytest.raises(Refused, match="is a database of something else"):
            Database(str(tmp_path / "db"))

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "db").write_text("hello, this is a text of some length" * 10)
        with pytest.raises(Refused, match="cannot use .*: file is not a database"):
            Database(str(tmp_path / "db"))

    def test_a_batch_is_written_whole_or_not_at_all(self, tmp_path: Path) -> None:
        sink = Database(str(tmp_path / "db"))
        broken = good("http://b/")
        broken.size = None  # type: ignore[assignment]
        with pytest.raises(SinkError, match="cannot write"):
            sink.write([good("http://a/"), broken])
        assert sink.done(["http://a/"]) == set()
        sink.close()


class TestFileNames:
    @pytest.mark.parametrize(
        ("url", "pattern"),
        [
            ("http://example.com/a/b.html?x=1", r"example\.com_a_b-[0-9a-f]{32}\.html"),
            ("http://example.com/", r"example\.com-[0-9a-f]{32}"),
            ("http://h/x.tar.gz", r"h_x\.tar-[0-9a-f]{32}\.gz"),
            ("http://[::1]:8000/a", r"1_a-[0-9a-f]{32}"),
            ("http://[bad", r"body-[0-9a-f]{32}"),
            ("http://h/../../etc/passwd", r"h_\.\._\.\._etc_passwd-[0-9a-f]{32}"),
        ],
    )
    def test_are_readable(self, url: str, pattern: str) -> None:
        import re

        assert re.fullmatch(pattern, file_name(url))

    @given(st.text(), st.text())
    def test_are_safe(self, host: str, path: str) -> None:
        name = file_name(f"http://{host}/{path}")
        assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
        assert not name.startswith((".", "-"))
        assert len(name) < 150

    def test_no_two_urls_share_one(self) -> None:
        urls = [f"http://h/{'x' * 500}{number}" for number in range(1000)] + ["http://h/A", "http://h/a", "http://H/a"]
        assert len({file_name(url).lower() for url in urls}) == len(urls)


class TestFiles:
    def test_a_body_is_there_as_a_whole_or_not_at_all(self, tmp_path: Path, run: Run) -> None:
        async def main() -> None:
            sink = Files(str(tmp_path / "deep" / "dir"))
            async with sink.body("http://a/") as body:
                await body.write(b"one")
                await body.write(b"x" * files_module.PIECE)
                assert sink.done(["http://a/"]) == set()
                await body.finish()
            assert sink.done(["http://a/", "http://b/"]) == {"http://a/"}
            assert os.listdir(tmp_path / "deep" / "dir") == [body.name]
            assert (tmp_path / "deep" / "dir" / body.name).stat().st_size == 3 + files_module.PIECE
            sink.close()

        run(main())

    def test_what_was_given_up_leaves_nothing(self, tmp_path: Path, run: Run) -> None:
        async def main() -> None:
            sink = Files(str(tmp_path))
            with pytest.raises(ZeroDivisionError):
                async with sink.body("http://a/") as body:
                    await body.write(b"x" * files_module.PIECE)
                    assert len(os.listdir(tmp_path)) == 1
                    raise ZeroDivisionError
            assert os.listdir(tmp_path) == []
            sink.close()

        run(main())

    def test_cancelled_in_the_middle_of_a_write(self, tmp_path: Path, run: Run) -> None:
        async def give_up(sink: Files, started: asyncio.Event) -> None:
            async with sink.body("http://a/") as body:
                started.set()
                while True:
                    await body.write(b"x" * files_module.PIECE)

        async def main() -> None:
            sink = Files(str(tmp_path))
            for _ in range(5):
                started = asyncio.Event()
                task = asyncio.ensure_future(give_up(sink, started))
                await started.wait()
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
                assert os.listdir(tmp_path) == []
            sink.close()

        run(main())

    def test_one_url_twice_at_once(self, tmp_path: Path, run: Run) -> None:
        async def main() -> None:
            sink = Files(str(tmp_path))
            async with sink.body("http://a/") as first, sink.body("http://a/") as second:
                await first.write(b"1" * files_module.PIECE)
                await second.write(b"2" * files_module.PIECE)
                await first.finish()
                await second.finish()
            assert (tmp_path / file_name("http://a/")).read_bytes() == b"2" * files_module.PIECE
            assert len(os.listdir(tmp_path)) == 1
            sink.close()

        run(main())

    def test_a_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(Refused, match="cannot write to"):
            Files(str(tmp_path / "file" / "dir"))

    def test_a_directory_that_goes_away(self, tmp_path: Path, run: Run) -> None:
        async def main() -> None:
            sink = Files(str(tmp_path / "dir"))
            (tmp_path / "dir").rmdir()
            with pytest.raises(SinkError, match="No such file"):
                async with sink.body("http://a/") as body:
                    await body.finish()
            sink.close()

        run(main())


class Slow:
    """A sink that writes when it is allowed to."""

    def __init__(self) -> None:
        self.allowed = threading.Semaphore(0)
        self.batches: list[list[str]] = []
        self.error: Exception | None = None
        self.closed = False

    def done(self, urls: Sequence[str]) -> set[str]:
        return set(urls[:1])

    def write(self, results: Sequence[Result]) -> None:
        self.allowed.acquire()
        if self.error is not None:
            raise self.error
        self.batches.append([result.item.url for result in results])

    def close(self) -> None:
        self.closed = True


class TestWriter:
    def test_what_gathers_is_one_batch(self, run: Run) -> None:
        async def main() -> None:
            sink = Slow()
            writer = Writer(sink)
            writer.put(good("0"))
            await asyncio.sleep(0)  # the first is on its way
            for number in range(1, 2500):
                writer.put(good(str(number)))
            for _ in range(4):
                sink.allowed.release()
            await writer.close()
            assert [len(batch) for batch in sink.batches] == [1, 1000, 1000, 499]
            assert [url for batch in sink.batches for url in batch] == [str(number) for number in range(2500)]
            assert sink.closed

        run(main())

    def test_a_slow_sink_holds_up_those_who_give(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writer_module, "HELD", 5000)

        async def main() -> None:
            sink = Slow()
            writer = Writer(sink)
            writer.put(good(body=b"x" * 3000))
            await writer.room()
            writer.put(good(body=b"x" * 3000))
            waiting = asyncio.ensure_future(writer.room())
            for _ in range(5):
                await asyncio.sleep(0)
            assert not waiting.done()
            sink.allowed.release()
            sink.allowed.release()
            await waiting
            await writer.close()

        run(main())

    def test_an_error_reaches_the_next_who_gives_and_the_end(self, run: Run) -> None:
        async def main() -> None:
            sink = Slow()
            sink.error = SinkError("full")
            writer = Writer(sink)
            writer.put(good())
            sink.allowed.release()
            while writer._task is not None:
                await asyncio.sleep(0)
            with pytest.raises(SinkError, match="full"):
                writer.put(good())
            with pytest.raises(SinkError, match="full"):
                await writer.close()
            assert sink.closed

        run(main())

    def test_done(self, run: Run) -> None:
        async def main() -> None:
            writer = Writer(Slow())
            assert await writer.done(["a", "b"]) == {"a"}
            await writer.close()

        run(main())
