"""The parts of ``weft fetch`` that need no network: source, histogram, rate, statistics, display, summary."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.cli.fetch import source as source_module
from weft.cli.fetch.display import CLEAR, Display, bytes_text, duration_text, time_text
from weft.cli.fetch.histogram import Histogram
from weft.cli.fetch.model import Item, Refused, Result
from weft.cli.fetch.rate import BURST, TokenBucket
from weft.cli.fetch.source import LINE, Source
from weft.cli.fetch.stats import SAMPLES, Stats
from weft.cli.fetch.summary import summary

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def read_all(source: Source) -> list[Item]:
    items: list[Item] = []
    try:
        while batch := await source.batch():
            items += batch
    finally:
        source.close()
    return items


@pytest.fixture
def lines(tmp_path: Path, run: Run) -> Callable[[bytes], list[Item]]:
    """What a file with this content gives."""

    def read(content: bytes) -> list[Item]:
        path = tmp_path / "urls"
        path.write_bytes(content)
        items: list[Item] = run(read_all(Source((), str(path))))
        return items

    return read


class TestSource:
    def test_arguments_come_first(self, tmp_path: Path, run: Run) -> None:
        (tmp_path / "urls").write_text("http://c/\n")
        items = run(read_all(Source([" http://a/", "http://b/"], str(tmp_path / "urls"))))
        assert items == [Item("http://a/"), Item("http://b/"), Item("http://c/", 1)]

    def test_nothing(self, run: Run) -> None:
        assert run(read_all(Source((), None))) == []

    def test_many_arguments(self, run: Run) -> None:
        urls = [f"http://a/{number}" for number in range(2500)]
        assert [item.url for item in run(read_all(Source(urls, None)))] == urls

    def test_comments_blank_lines_and_any_end_of_line(self, lines: Callable[[bytes], list[Item]]) -> None:
        items = lines(b"\xef\xbb\xbfhttp://a/\r\n\n# no\n  http://b/#f \t\n   \nhttp://c/")
        assert items == [Item("http://a/", 1), Item("http://b/#f", 4), Item("http://c/", 6)]

    def test_a_line_that_is_no_text_is_an_item_with_a_problem(self, lines: Callable[[bytes], list[Item]]) -> None:
        assert lines(b"http://a/\nhttp://\xff/\nhttp://c/\n") == [
            Item("http://a/", 1),
            Item("http://\\xff/", 2, "not UTF-8"),
            Item("http://c/", 3),
        ]

    def test_an_argument_that_is_no_text(self, run: Run) -> None:
        (item,) = run(read_all(Source([os.fsdecode(b"http://\xff/")], None)))
        assert item.problem == "not UTF-8"
        item.url.encode()

    @pytest.mark.parametrize("length", [LINE + 1, 5 * LINE, 5 * LINE + 17])
    def test_a_line_without_end_is_one_item_with_a_problem(
        self, lines: Callable[[bytes], list[Item]], length: int
    ) -> None:
        items = lines(b"http://a/\n" + b"x" * length + b"\nhttp://c/")
        assert [(item.line, item.problem) for item in items] == [(1, None), (2, f"longer than {LINE} bytes"), (3, None)]
        assert len(items[1].url) < 300

    def test_a_line_without_end_at_the_end(self, lines: Callable[[bytes], list[Item]]) -> None:
        assert [item.line for item in lines(b"http://a/\n" + b"x" * 3 * LINE)] == [1, 2]

    def test_blocks_may_end_anywhere(
        self, lines: Callable[[bytes], list[Item]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = "".join(f"http://host/{'ü' * (number % 7)}{number}\r\n" for number in range(50)).encode()
        whole = lines(content)
        assert len(whole) == 50
        for size in (1, 2, 3, 7, 64):
            monkeypatch.setattr(source_module, "BLOCK", size)
            assert lines(content) == whole

    def test_a_pipe_gives_what_is_there_while_the_writer_goes_on(self, tmp_path: Path, run: Run) -> None:
        async def main() -> None:
            reader, writer = os.pipe()
            source = Source((), f"/dev/fd/{reader}")
            os.close(reader)
            try:
                os.write(writer, b"http://a/\nhttp://b")
                assert await source.batch() == [Item("http://a/", 1)]
                waiting = asyncio.ensure_future(source.batch())
                await asyncio.sleep(0)
                assert not waiting.done()
                os.write(writer, b"/\n")
                assert await waiting == [Item("http://b/", 2)]
            finally:
                os.close(writer)
            assert await source.batch() == []

        run(main())

    def test_waiting_for_a_pipe_can_be_given_up(self, run: Run) -> None:
        async def main() -> None:
            reader, writer = os.pipe()
            source = Source((), f"/dev/fd/{reader}")
            waiting = asyncio.ensure_future(source.batch())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            source.close()
            os.close(reader)
            os.close(writer)

        run(main())

    def test_what_epoll_cannot_watch(self, run: Run) -> None:
        assert run(read_all(Source((), "/dev/null"))) == []

    def test_a_file_that_cannot_be_opened(self, tmp_path: Path) -> None:
        with pytest.raises(Refused, match="cannot read .*: No such file"):
            Source((), str(tmp_path / "no"))

    def test_fraction(self, tmp_path: Path, run: Run) -> None:
        (tmp_path / "urls").write_text("http://a/\n")
        source = Source((), str(tmp_path / "urls"))
        assert source.fraction == 0
        run(read_all(source))
        assert source.fraction == 1
        assert Source(["x"], None).fraction is None


class TestHistogram:
    def test_empty(self) -> None:
        histogram = Histogram()
        assert (histogram.count, histogram.mean, histogram.percentile(50), list(histogram.rows())) == (0, 0, 0, [])

    @given(st.lists(st.floats(0, 1e5), min_size=1, max_size=200), st.floats(0.1, 100))
    def test_percentiles_are_right_to_3_percent(self, times: list[float], percent: float) -> None:
        histogram = Histogram()
        for each in times:
            histogram.add(each)
        rank = max(int(-(-len(times) * percent // 100)), 1)
        exact = sorted(times)[rank - 1]
        assert exact - 1e-6 <= histogram.percentile(percent) <= exact * (1 + 1 / 32) + 1e-6
        assert (histogram.least, histogram.most) == (min(times), max(times))

    @given(st.lists(st.floats(0, 1e7), min_size=1, max_size=100))
    def test_rows_cover_everything_once(self, times: list[float]) -> None:
        histogram = Histogram()
        for each in times:
            histogram.add(each)
        rows = list(histogram.rows(12))
        assert len(rows) <= 12
        assert sum(count for _, _, count in rows) == len(times)
        assert all(before[1] == after[0] for before, after in pairwise(rows))
        assert rows[0][2]
        assert rows[-1][2]

    @given(st.lists(st.floats(0, 1e4)), st.lists(st.floats(0, 1e4)))
    def test_two_can_be_added(self, first: list[float], second: list[float]) -> None:
        one, other, both = Histogram(), Histogram(), Histogram()
        for each in first:
            one.add(each)
            both.add(each)
        for each in second:
            other.add(each)
            both.add(each)
        one.merge(other)
        assert list(one.rows()) == list(both.rows())
        assert (one.count, one.least, one.most) == (both.count, both.least, both.most)
        assert one.sum == pytest.approx(both.sum)

    def test_what_is_out_of_range_is_counted_at_its_end(self) -> None:
        histogram = Histogram()
        histogram.add(-1.0)
        histogram.add(1e12)
        assert sum(count for _, _, count in histogram.rows()) == 2


class TestTokenBucket:
    @given(st.floats(0.1, 10000), st.lists(st.floats(0, 3), min_size=2, max_size=60))
    def test_no_span_of_time_has_more_than_rate_and_burst(self, rate: float, pauses: list[float]) -> None:
        clock = Clock()
        bucket = TokenBucket(rate, clock)
        places = []
        for pause in pauses:
            clock.now += pause
            places.append(clock.now + bucket.reserve())
        assert places == sorted(places)
        for start in range(len(places)):
            for end in range(start, len(places)):
                most = rate * (places[end] - places[start] + BURST) + 1
                assert end - start + 1 <= most + 1e-6

    def test_places_are_not_wasted(self) -> None:
        bucket = TokenBucket(10, Clock())
        assert [bucket.reserve() for _ in range(4)] == pytest.approx([0.0, 0.1, 0.2, 0.3])

    def test_what_was_missed_long_ago_is_gone(self) -> None:
        clock = Clock()
        bucket = TokenBucket(100, clock)
        clock.now += 60
        assert sum(bucket.reserve() == 0 for _ in range(100)) <= 100 * BURST + 1


def answered(seconds: float = 0.01, status: int = 200, size: int = 5) -> Result:
    return Result(Item("http://a/"), 0.0, seconds, status=status, size=size, body=b"x" * size)


def failed(error: str = "ConnectError", line: int | None = 7) -> Result:
    return Result(Item("http://b/", line), 0.0, 1.0, error=error, message="cannot connect")


class TestStats:
    def test_counts(self) -> None:
        stats = Stats(Clock())
        for result in (answered(), answered(status=404), failed()):
            stats.add(result)
        assert (stats.done, stats.failed, stats.finished, stats.size) == (1, 2, 3, 10)
        assert stats.latency.count == 2
        assert stats.reasons == {"status 404": 1, "ConnectError": 1}

    def test_its_size_is_limited(self) -> None:
        stats = Stats(Clock())
        for _ in range(100):
            stats.add(answered(status=500))
        assert len(stats.samples) == SAMPLES
        assert all(sample.body is None for sample in stats.samples)


class TestDisplay:
    def test_line(self) -> None:
        clock = Clock()
        stats = Stats(clock)
        display = Display(stats, io.StringIO(), lambda: 0.5)
        assert display.line() == "0:00  50% read  0 done  0 in flight  0/s  0 B/s"
        clock.now += 2
        stats.in_flight = 3
        for result in (answered(), answered(size=1500), failed()):
            stats.add(result)
        assert display.line(200) == (
            "0:02  50% read  2 done  1 failed  3 in flight  2/s  752 B/s  p50 10 ms  p99 10 ms"
        )

    def test_never_wraps(self) -> None:
        assert len(Display(Stats(Clock()), io.StringIO()).line(20)) == 19

    def test_rates_are_those_of_the_last_seconds(self) -> None:
        clock = Clock()
        stats = Stats(clock)
        display = Display(stats, io.StringIO())
        stats.done = 1000
        for _ in range(100):
            clock.now += 0.1
            line = display.line()
        assert "  0/s  " in line

    def test_it_is_gone_at_the_end(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("weft.cli.fetch.display.REFRESH", 0)
        stream = io.StringIO()

        async def main() -> None:
            task = asyncio.ensure_future(Display(Stats(), stream).run())
            while "in flight" not in stream.getvalue():
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        run(main())
        assert stream.getvalue().endswith(CLEAR)

    @pytest.mark.parametrize(
        ("count", "text"), [(0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (999_600, "1 MB"), (5e12, "5 TB")]
    )
    def test_bytes(self, count: float, text: str) -> None:
        assert bytes_text(count) == text

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0.00012, "120 µs"), (0.01234, "12.3 ms"), (0.9999, "1 s"), (61.5, "61.5 s")]
    )
    def test_times(self, seconds: float, text: str) -> None:
        assert time_text(seconds) == text

    def test_durations(self) -> None:
        assert [duration_text(seconds) for seconds in (0, 62, 3602)] == ["0:00", "1:02", "1:00:02"]


class TestSummary:
    def test_everything(self) -> None:
        clock = Clock()
        stats = Stats(clock)
        for seconds in (0.010, 0.011, 0.020, 0.5):
            stats.add(answered(seconds))
        stats.add(failed())
        stats.skipped = 3
        clock.now += 2
        lines = summary(stats, "stopped by SIGINT").splitlines()
        assert lines[0] == "4 done, 1 failed, 3 skipped, done before; 20 B in 2 s, 2 requests/s, 10 B/s"
        assert lines[1] == "stopped by SIGINT"
        assert lines[2] == "  1 × ConnectError"
        assert lines[3] == "  line 7: http://b/: cannot connect"
        assert lines[4].startswith("latency: least 10 ms, p50 11 ms,")
        assert lines[4].endswith("most 500 ms")
        rows = [line.split() for line in lines[5:]]
        assert sum(int(row[5]) for row in rows) == 4
        assert rows[0][-1] == "█" * 40

    def test_nothing_was_done(self) -> None:
        assert summary(Stats(Clock())) == "0 done, 0 failed; 0 B in 0 µs"

    def test_many_failures_are_cut_short(self) -> None:
        stats = Stats(Clock())
        for number in range(50):
            stats.add(failed(f"Error{number}"))
        lines = summary(stats).splitlines()
        assert "  and 40 other reasons" in lines
        assert f"  and {50 - SAMPLES} more" in lines
        assert len(lines) < 25

    def test_one_reason_more_than_are_shown(self) -> None:
        stats = Stats(Clock())
        for number in range(11):
            stats.add(failed(f"Error{number}"))
        assert "  and 1 other reason" in summary(stats).splitlines()
