"""Server-sent events: the examples of the standard, every way to cut a stream, and going on after it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.http.errors import IncompleteBodyError, PeerProtocolError, ResponseError, StatusError
from weft.http.sse import Event, EventParser, ServerSentEvents, events

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def parsed(*pieces: bytes) -> list[Event]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)]


class TestExamplesOfTheStandard:
    """WHATWG HTML, 9.2.6."""

    def test_lines_are_joined(self) -> None:
        assert parsed(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [Event("YHOO\n+2\n10")]

    def test_the_second_has_an_id_and_the_third_takes_it_away(self) -> None:
        stream = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
        assert parsed(stream) == [Event("first event", id="1"), Event("second event"), Event(" third event")]

    def test_empty_data_is_data_and_the_last_block_is_not_complete(self) -> None:
        assert parsed(b"data\n\ndata\ndata\n\ndata:") == [Event(""), Event("\n")]

    def test_one_space_is_dropped(self) -> None:
        assert parsed(b"data:test\n\ndata: test\n\n") == [Event("test")] * 2


class TestFields:
    @pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
    def test_every_kind_of_line_end(self, end: bytes) -> None:
        stream = b"event: a\ndata: 1\ndata: 2\n\ndata: 3\n\n".replace(b"\n", end)
        assert parsed(stream) == [Event("1\n2", "a"), Event("3")]

    def test_an_event_does_not_wait_for_the_line_feed(self) -> None:
        parser = EventParser()
        assert parser.feed(b"data: 1\r\n\r") == [Event("1")]
        assert parser.feed(b"\ndata: 2\r\n\r\n") == [Event("2")]

    def test_an_empty_piece_changes_nothing(self) -> None:
        assert parsed(b"data: 1\r", b"", b"\ndata: 2\n\n") == [Event("1\n2")]

    def test_a_byte_order_mark_is_dropped_once(self) -> None:
        bom = "\ufeff".encode()
        assert parsed(bom + b"data: 1\n\n" + bom + b"data: 2\n\n") == [Event("1")]

    def test_the_type_is_of_one_event_and_the_id_of_all_that_follow(self) -> None:
        stream = b"id: 7\nevent: a\n\ndata: 1\n\nevent: b\ndata: 2\n\ndata: 3\n\n"
        assert parsed(stream) == [Event("1", id="7"), Event("2", "b", "7"), Event("3", id="7")]

    def test_an_id_with_a_nul_is_ignored(self) -> None:
        assert parsed(b"id: a\nid: b\0\ndata: 1\n\n") == [Event("1", id="a")]

    @pytest.mark.parametrize(
        ("value", "retry"),
        [(b"1500", 1500), (b"0", 0), (b"1.5", None), (b"-1", None), (b"", None), ("١".encode(), None)],
    )
    def test_retry(self, value: bytes, retry: int | None) -> None:
        parser = EventParser()
        assert parser.feed(b"retry:" + value + b"\ndata: 1\n\ndata: 2\n\n") == [Event("1", retry=retry), Event("2")]
        assert parser.retry == retry

    def test_a_number_of_thousands_of_digits(self) -> None:
        parser = EventParser()
        parser.feed(b"retry: " + b"9" * 10_000 + b"\n")
        assert parser.retry == 999_999_999_999

    def test_unknown_fields_and_comments_are_ignored(self) -> None:
        assert parsed(b":c\n:\nDATA: no\nx: y\n data: no\ndata: 1\n\n") == [Event("1")]

    def test_what_is_no_utf_8_is_replaced(self) -> None:
        assert parsed(b"data: a\xffb\xe2\x82\n\n") == [Event("a\ufffdb\ufffd")]

    def test_the_id_goes_on_with_the_next_stream(self) -> None:
        parser = EventParser("5")
        assert parser.feed(b"data: 1\n\n") == [Event("1", id="5")]
        assert parser.last_event_id == "5"

    def test_the_id_counts_when_its_block_has_ended(self) -> None:
        parser = EventParser()
        parser.feed(b"id: 1\n")
        assert parser.last_event_id == ""
        parser.feed(b"\n")
        assert parser.last_event_id == "1"

    @pytest.mark.parametrize("stream", [b"data: " + b"x" * 2000, b"data: x\n" * 250, b"x" * 2000, b"x:\n" * 700])
    def test_an_event_without_end(self, stream: bytes) -> None:
        for pieces in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
            parser = EventParser(max_size=1000)
            with pytest.raises(PeerProtocolError, match="larger than 1000 bytes"):
                for piece in pieces:
                    parser.feed(piece)

    def test_the_size_is_that_of_one_event(self) -> None:
        parser = EventParser(max_size=1000)
        assert len(parser.feed((b"data: " + b"x" * 900 + b"\n\n") * 5)) == 5
        assert parser.feed(b": kept open for long\n" * 400 + b"data: 1\n\n") == [Event("1")]


pieces_of_streams = st.lists(
    st.sampled_from([b"data", b"event", b"id", b"retry", b":", b" ", b"\n", b"\r", b"\r\n", b"1", "ß".encode(), b"\0"])
    | st.binary(max_size=3),
    max_size=40,
)


@given(pieces_of_streams, st.lists(st.integers(0, 80), max_size=6))
def test_however_it_is_cut(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    edges = [0, *sorted(cuts), len(stream)]
    whole = parsed(stream)
    assert parsed(*(stream[at : at + 1] for at in range(len(stream)))) == whole
    assert parsed(*(stream[a:b] for a, b in zip(edges, [*edges[1:], len(stream)], strict=True) if a <= b)) == whole


field_text = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=10)


@given(st.lists(st.tuples(field_text, field_text, st.lists(field_text, min_size=1, max_size=3)), max_size=5))
def test_what_was_written_is_read(written: list[tuple[str, str, list[str]]]) -> None:
    stream = "".join(
        f"event: {kind}\nid: {identifier}\n" + "".join(f"data: {line}\n" for line in lines) + "\n"
        for kind, identifier, lines in written
    )
    expected = [Event("\n".join(lines), kind or "message", identifier) for kind, identifier, lines in written]
    assert parsed(stream.encode()) == expected


# -- responses


class Response:
    """What is read of a response; it ends with an error if one is given."""

    url = "http://x/"
    reason = ""

    def __init__(
        self, *pieces: bytes, status: int = 200, kind: str = "text/event-stream", error: Exception | None = None
    ) -> None:
        self.pieces, self.status, self.error = pieces, status, error
        self.headers = {"Content-Type": kind}
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await asyncio.sleep(0)
            yield piece
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed += 1


class Client:
    """Gives one prepared response, or error, after the other."""

    def __init__(self, *answers: Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, str]] = []
        self.waits: list[float] = []

    async def request(self, method: str, url: str, *, headers: dict[str, str], **options: Any) -> Response:
        assert (method, url, options) == ("GET", "http://x/", {"auth": "a"})
        self.asked.append(headers)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    async def taken(self, **options: Any) -> list[str]:
        return [event.data async for event in events(self, "http://x/", auth="a", sleep=self.sleep, **options)]


class TestServerSentEvents:
    def test_it_is_iterated_and_closed(self, run: Run) -> None:
        async def main() -> list[Event]:
            async with ServerSentEvents(response) as stream:
                return [event async for event in stream]

        response = Response(b"id: 1\ndata: 1\n\ndata: 2\n\nda", b"ta: 3\n\ndata: not complete")
        assert run(main()) == [Event(str(number), id="1") for number in (1, 2, 3)]
        assert response.closed == 1

    def test_the_id_is_that_of_the_event_taken_last(self, run: Run) -> None:
        async def main() -> None:
            async with ServerSentEvents(response, last_event_id="0") as stream:
                assert (stream.last_event_id, stream.retry) == ("0", None)
                await anext(stream)
                assert (stream.last_event_id, stream.retry) == ("1", 0.25)
                await anext(stream)
                assert stream.last_event_id == "3"
            assert response.closed == 1

        response = Response(b"id: 1\ndata: 1\nretry: 250\n\nid: 2\ndata: 2\n\nid: 3\n\n")
        run(main())

    def test_a_response_whose_close_is_a_coroutine(self, run: Run) -> None:
        closed = []

        class Other(Response):
            async def close(self) -> None:  # type: ignore[override]
                closed.append(True)

        async def main() -> None:
            await ServerSentEvents(Other()).aclose()

        run(main())
        assert closed == [True]


class TestGoingOn:
    def test_it_asks_again_and_says_where_it_was(self, run: Run) -> None:
        client = Client(
            Response(b"data: 1\nid: a\n\n"),
            Response(b"data: 2\n\nid: b\n\ndata: lost"),
            Response(b"data: 3\n\n", error=IncompleteBodyError()),
            Response(status=204),
        )
        assert run(client.taken()) == ["1", "2", "3"]
        assert [headers.get("Last-Event-ID") for headers in client.asked] == [None, "a", "b", "b"]
        assert {headers["Accept"] for headers in client.asked} == {"text/event-stream"}
        assert client.waits == [3.0] * 3

    def test_the_server_says_how_long_to_wait(self, run: Run) -> None:
        client = Client(
            Response(b"data: 1\n\nretry: 500\n\n"),
            Response(b"data: 2\n\n", b"retry: 0\n\n", error=TimeoutError()),
            Response(status=204),
        )
        assert run(client.taken(last_event_id="z")) == ["1", "2"]
        assert client.waits == [0.5, 0.1]
        assert client.asked[0]["Last-Event-ID"] == "z"

    def test_the_pause_grows_while_nothing_comes(self, run: Run) -> None:
        quiet: list[Response | Exception] = [
            ConnectionError(),
            Response(status=503),
            TimeoutError(),
            Response(),
            Response(),
        ]
        client = Client(Response(b"data: 1\n\n"), *quiet, Response(b"data: 2\n\n"), Response(status=204))
        assert run(client.taken(reconnect_delay=1)) == ["1", "2"]
        assert client.waits == [1, 1, 2, 4, 8, 16, 1]

    def test_the_pause_has_a_limit(self, run: Run) -> None:
        client = Client(Response(b"data: 1\n\n"), *[Response() for _ in range(40)], Response(status=204))
        run(client.taken())
        assert max(client.waits) == 300

    def test_so_many_failures_and_no_more(self, run: Run) -> None:
        client = Client(Response(b"data: 1\n\n"), *[ConnectionRefusedError(number) for number in range(3)])
        with pytest.raises(ConnectionRefusedError, match="2"):
            run(client.taken(max_failures=2))

    @pytest.mark.parametrize("first", [ConnectionError(), TimeoutError(), 503, 404])
    def test_the_first_request_has_to_succeed(self, run: Run, first: Any) -> None:
        first = Response(status=first) if isinstance(first, int) else first
        with pytest.raises((ConnectionError, TimeoutError, StatusError)):
            run(Client(first).taken())
        assert not isinstance(first, Response) or first.closed == 1

    def test_another_status_ends_it(self, run: Run) -> None:
        gone = Response(status=410)
        with pytest.raises(StatusError, match="http://x/: .*410") as caught:
            run(Client(Response(b"data: 1\n\n"), gone).taken())
        assert caught.value.response is gone
        assert gone.closed == 1

    @pytest.mark.parametrize("kind", ["text/html", "", "text/event-streams"])
    def test_what_is_no_stream_of_events(self, run: Run, kind: str) -> None:
        page = Response(b"data: 1\n\n", kind=kind)
        with pytest.raises(ResponseError, match="not text/event-stream"):
            run(Client(page).taken())
        assert page.closed == 1

    def test_the_type_may_have_parameters(self, run: Run) -> None:
        stream = Response(b"data: 1\n\n", kind="Text/Event-Stream; charset=utf-8")
        assert run(Client(stream, Response(status=204)).taken()) == ["1"]

    def test_headers_of_the_caller_replace_ours(self, run: Run) -> None:
        client = Client(Response(status=204))
        assert run(client.taken(headers={"accept": "x/y", "X": "1"})) == []
        assert client.asked == [{"Cache-Control": "no-store", "accept": "x/y", "X": "1"}]

    def test_leaving_early_closes_the_response(self, run: Run) -> None:
        async def main() -> None:
            stream = events(client, "http://x/", auth="a")
            async for event in stream:
                assert event.data == "1"
                break
            await stream.aclose()

        response = Response(b"data: 1\n\ndata: 2\n\n")
        client = Client(response)
        run(main())
        assert response.closed == 1
