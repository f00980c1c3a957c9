"""Retries: what is repeated, how long after, and what never is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.http import errors
from weft.http.retries import IDEMPOTENT, RETRY_STATUSES, Retry, parse_retry_after

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT

ANYONE = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]
UNSAFE = ["POST", "PATCH", "CONNECT", "LOCK"]


def delay(retry: Retry, attempt: int = 1, **options: Any) -> float | None:
    """What it says without chance, for a GET that can be repeated, unless told otherwise."""
    default = {"method": "GET", "replayable": True, "random": lambda: 0.0, "clock": lambda: NOW}
    return retry.delay(attempt, **{**default, **options})


class TestWait:
    def test_it_grows_up_to_a_limit(self) -> None:
        retry = Retry(attempts=9, backoff=0.5, factor=3.0, max_delay=10.0)
        assert [delay(retry, attempt, status=503) for attempt in range(1, 6)] == [0.5, 1.5, 4.5, 10.0, 10.0]

    def test_numbers_without_end(self) -> None:
        assert delay(Retry(attempts=10**6, factor=1e300), 10**5, status=503) == 30.0

    @pytest.mark.parametrize(("chance", "expected"), [(0.0, 0.8), (0.5, 0.6), (1.0, 0.4)])
    def test_a_random_part_is_left_out(self, chance: float, expected: float) -> None:
        retry = Retry(backoff=0.8, jitter=0.5)
        assert delay(retry, status=503, random=lambda: chance) == pytest.approx(expected)

    def test_no_jitter_and_all_of_it(self) -> None:
        assert delay(Retry(jitter=0.0), status=503, random=lambda: 0.9) == 0.2
        assert delay(Retry(jitter=1.0), status=503, random=lambda: 1.0) == 0.0

    @given(attempt=st.integers(1, 50), jitter=st.floats(0, 1), chance=st.floats(0, 1, exclude_max=True))
    def test_never_below_0_nor_over_the_limit(self, attempt: int, jitter: float, chance: float) -> None:
        retry = Retry(attempts=50, max_delay=3.0, jitter=jitter)
        wait = delay(retry, attempt, error=errors.ConnectError(), random=lambda: chance)
        assert wait is not None
        assert 0 <= wait <= 3.0

    def test_chance_is_there_by_default(self) -> None:
        waits = {Retry().delay(1, method="GET", replayable=True, status=503) for _ in range(50)}
        assert len(waits) > 1
        assert all(wait is not None and 0.1 <= wait <= 0.2 for wait in waits)


class TestHowOften:
    @pytest.mark.parametrize(
        ("retry", "times"), [(Retry(), 2), (Retry.none(), 0), (Retry.of(3), 3), (Retry.of(0), 0), (Retry.of(None), 0)]
    )
    def test_attempts(self, retry: Retry, times: int) -> None:
        answers = [delay(retry, attempt, status=503) for attempt in range(6)]
        assert [answer is not None for answer in answers] == [1 <= attempt <= times for attempt in range(6)]

    def test_of_itself(self) -> None:
        retry = Retry(attempts=7)
        assert Retry.of(retry) is retry


class TestStatus:
    def test_which(self) -> None:
        assert {408, 425, 429, 500, 502, 503, 504} == RETRY_STATUSES
        assert set(ANYONE) == IDEMPOTENT

    @pytest.mark.parametrize("status", [*range(200, 210), *range(300, 309), *range(400, 432), *range(500, 512)])
    def test_the_statuses(self, status: int) -> None:
        assert (delay(Retry(), status=status) is not None) is (status in RETRY_STATUSES)
        assert (delay(Retry(statuses=frozenset({418})), status=status) is not None) is (status == 418)

    @pytest.mark.parametrize("method", [*ANYONE, "get"])
    def test_what_may_be_done_twice(self, method: str) -> None:
        assert delay(Retry(), method=method, status=500) == 0.2

    @pytest.mark.parametrize("method", UNSAFE)
    def test_what_may_not_be_done_twice(self, method: str) -> None:
        for status in RETRY_STATUSES:
            assert delay(Retry(), method=method, status=status) is None
            told = delay(Retry(), method=method, status=status, retry_after="1")
            assert told == (1.0 if status in {429, 503} else None)
            assert delay(Retry(), method=method, status=status, retry_after="soon") is None
            ignoring = Retry(respect_retry_after=False)
            assert delay(ignoring, method=method, status=status, retry_after="1") is None

    def test_methods_of_the_users(self) -> None:
        retry = Retry(methods=frozenset({"post"}))
        assert delay(retry, method="POST", status=500) == 0.2
        assert delay(retry, method="GET", status=500) is None

    def test_a_body_that_is_gone(self) -> None:
        assert delay(Retry(), status=503, replayable=False) is None
        assert delay(Retry(), error=errors.ConnectError(), replayable=False) is None

    def test_nothing_happened(self) -> None:
        assert delay(Retry()) is None


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("0", 0.2),
            ("7", 7.0),
            (" 7\t", 7.0),
            ("1.5", 1.5),
            ("120", 120.0),
            ("121", None),
            ("999999999999", None),
            ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
            ("Sunday, 06-Nov-94 08:49:47 GMT", 10.0),
            ("Sun Nov  6 08:49:47 1994", 10.0),
            ("Sun, 06 Nov 1994 08:00:00 GMT", 0.2),
            ("Sun, 06 Nov 1994 08:51:38 GMT", None),
            ("", 0.2),
            ("soon", 0.2),
            ("-5", 0.2),
            ("1e9", 0.2),
            ("inf", 0.2),
            ("nan", 0.2),
            ("٣", 0.2),
        ],
    )
    def test_the_server_is_not_asked_before(self, text: str, expected: float | None) -> None:
        assert delay(Retry(), status=503, retry_after=text) == expected

    def test_not_before_the_own_wait_either(self) -> None:
        assert delay(Retry(backoff=5.0), status=429, retry_after="1") == 5.0

    def test_it_is_over_the_limit_of_waits(self) -> None:
        assert delay(Retry(max_delay=1.0), status=429, retry_after="60") == 60.0
        assert delay(Retry(max_retry_after=60.0), status=429, retry_after="60") == 60.0
        assert delay(Retry(max_retry_after=59.0), status=429, retry_after="60") is None

    def test_it_can_be_ignored(self) -> None:
        assert delay(Retry(respect_retry_after=False), status=503, retry_after="999") == 0.2

    def test_not_after_an_error(self) -> None:
        assert delay(Retry(), error=errors.PeerClosedError(), retry_after="999") == 0.2

    @given(st.text())
    def test_anything(self, text: str) -> None:
        seconds = parse_retry_after(text, NOW)
        assert seconds is None or seconds >= 0


NOT_SENT = [
    errors.ConnectError(),
    errors.ResolveError(),
    errors.TLSError(),
    errors.ProxyError(),
    errors.ConnectTimeoutError(),
    errors.PoolTimeoutError(),
]
BROKEN: list[BaseException] = [
    errors.SendError(),
    errors.PeerClosedError(),
    errors.FirstByteTimeoutError(),
    errors.IdleTimeoutError(),
    errors.IncompleteBodyError(),
    ConnectionResetError(),
    TimeoutError(),
]
FINAL: list[BaseException] = [
    errors.CertificateError(),
    errors.TotalTimeoutError(),
    errors.PeerProtocolError(),
    errors.DecodingError(),
    errors.DecompressionBombError(),
    errors.InvalidURLError(),
    errors.InvalidHeaderError(),
    errors.BodyError(),
    errors.ClientClosedError(),
    errors.TooManyRedirectsError(),
    FileNotFoundError(),
    ValueError(),
    asyncio.CancelledError(),
]


def name_of(error: BaseException) -> str:
    return type(error).__name__


class TestErrors:
    @pytest.mark.parametrize("error", NOT_SENT, ids=name_of)
    @pytest.mark.parametrize("method", [*ANYONE, *UNSAFE])
    def test_what_no_server_has_seen(self, error: BaseException, method: str) -> None:
        assert delay(Retry(), method=method, error=error) == 0.2

    @pytest.mark.parametrize("error", BROKEN, ids=name_of)
    def test_what_a_server_may_have_seen(self, error: BaseException) -> None:
        assert all(delay(Retry(), method=method, error=error) == 0.2 for method in ANYONE)
        assert all(delay(Retry(), method=method, error=error) is None for method in UNSAFE)

    @pytest.mark.parametrize("error", FINAL, ids=name_of)
    def test_what_would_be_no_better(self, error: BaseException) -> None:
        assert all(delay(Retry(), method=method, error=error) is None for method in [*ANYONE, *UNSAFE])

    def test_every_error_is_in_one_of_these_lists(self) -> None:
        known = {type(error) for error in [*NOT_SENT, *BROKEN, *FINAL]}
        bases: set[type[BaseException]] = {errors.HTTPError, errors.HTTPTimeoutError, errors.NetworkError}
        # What comes with a response, or long after it, is not asked about.
        others = {"ResponseError", "StatusError", "RedirectError", "StreamConsumedError", "WebSocketError"}
        left = {name for name in errors.__all__ if getattr(errors, name) not in known | bases}
        assert left == others


class TestAsAnObject:
    @pytest.mark.parametrize(
        "options",
        [
            {"attempts": -1},
            {"backoff": -0.1},
            {"factor": -1.0},
            {"max_delay": float("nan")},
            {"jitter": 1.1},
            {"jitter": -0.1},
            {"max_retry_after": -1.0},
        ],
    )
    def test_numbers_out_of_range(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=f"Retry.{next(iter(options))}"):
            Retry(**options)

    def test_it_cannot_be_changed_and_can_be_compared(self) -> None:
        retry: Any = Retry(statuses={500})  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            retry.attempts = 5
        assert retry == Retry(statuses=frozenset({500}))
        assert hash(retry) == hash(Retry(statuses=frozenset({500})))
