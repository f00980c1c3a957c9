"""The course of a run: opens the sinks, runs the engine on a weft loop, shows how it goes, and closes everything.

Invariant: however a run ends, what was finished is written before this returns, except when a second signal ends the
process. Called by the command's ``main``.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any

from weft.cli.fetch.display import Display
from weft.cli.fetch.engine import Engine, Feed
from weft.cli.fetch.http import Fetcher, make_client
from weft.cli.fetch.model import Refused, SinkError
from weft.cli.fetch.options import STANDARD, Options
from weft.cli.fetch.shared import SharedEngine
from weft.cli.fetch.sinks import Sink
from weft.cli.fetch.sinks.database import Database
from weft.cli.fetch.sinks.files import Files
from weft.cli.fetch.sinks.lines import Lines
from weft.cli.fetch.sinks.writer import Writer
from weft.cli.fetch.source import Source
from weft.cli.fetch.stats import Stats
from weft.cli.fetch.values import SPARE_FILES

__all__ = ["Outcome", "run"]

STANDARD_OUTPUT = 1


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        stats: what was done.
        stopped: the signal that stopped it.
        error: why results could not be written, or URLs not be read, any more.
    """

    stats: Stats
    stopped: signal.Signals | None = None
    error: SinkError | Refused | None = None


def run(options: Options, signals: Sequence[int], client: Callable[[Options], Any] = make_client) -> Outcome:
    """Fetches what the options name.

    Args:
        options: the command line.
        signals: those that stop the run; a second one ends the process.
        client: makes the client.

    Raises:
        Refused: when the source or a sink cannot be opened.
    """
    from weft.runner import Runner

    _allow_files(options.concurrency)
    with ExitStack() as stack:
        source = Source(options.urls, options.file)
        stack.callback(source.close)
        files = Files(options.out_dir) if options.out_dir is not None else None
        sinks = _open(options, files)
        with Runner() as runner:
            return runner.run(_run(options, source, sinks, files, signals, client))


async def _run(
    options: Options,
    source: Source,
    sinks: Sequence[Sink],
    files: Files | None,
    signals: Sequence[int],
    make: Callable[[Options], Any],
) -> Outcome:
    outcome = Outcome(Stats())
    try:
        async with AsyncExitStack() as stack:
            # First in, last out: a signal while the last results are being written must not lose them.
            stopper = stack.enter_context(_Stopper(signals))
            writers = [Writer(sink) for sink in sinks]
            for writer in writers:
                stack.push_async_callback(writer.close)
            feed = Feed(source, outcome.stats, rate=options.rate, known_by=writers if options.resume else ())
            engine: Engine | SharedEngine
            if options.workers is not None or options.cluster is not None:
                engine = SharedEngine(feed, options, make, writers, outcome.stats)
            else:
                client = await stack.enter_async_context(make(options))
                engine = Engine(feed, Fetcher(client, options, files), writers, outcome.stats, options.concurrency)
            if _shown(options):
                display = Display(outcome.stats, sys.stderr, lambda: source.fraction)
                stack.push_async_callback(_end, asyncio.create_task(display.run(), name="weft-fetch-display"))
            stopper.attach(engine)
            await engine.run()
    except (SinkError, Refused) as exc:
        outcome.error = exc
    outcome.stopped = stopper.stopped
    return outcome


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _open(options: Options, files: Files | None) -> list[Sink]:
    sinks: list[Sink] = [files] if files is not None else []
    try:
        if options.output is not None:
            sinks.append(
                Lines(options.output, body=options.body, show_headers=options.show_headers, resume=options.resume)
            )
        if options.db is not None:
            sinks.append(Database(options.db, keep_body=options.body != "none"))
    except BaseException:
        for sink in sinks:
            sink.close()
        raise
    return sinks


class _Stopper:
    """Stops the engine at a signal, inside its ``with``."""

    def __init__(self, signals: Sequence[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._before = {number: signal.getsignal(number) for number in signals}
        self._engine: Engine | SharedEngine | None = None
        self.stopped: signal.Signals | None = None

    def __enter__(self) -> _Stopper:
        for number in self._before:
            self._loop.add_signal_handler(number, self._stop, number)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.stopped is None:
            for number, handler in self._before.items():
                self._loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def attach(self, engine: Engine | SharedEngine) -> None:
        """Names what to stop; at once, if a signal has come before."""
        self._engine = engine
        if self.stopped is not None:
            engine.stop()

    def _stop(self, number: int) -> None:
        for each in self._before:
            self._loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)  # whoever asks again means it: a disk that hangs must not stop them
        self.stopped = signal.Signals(number)
        if self._engine is not None:
            self._engine.stop()


def _shown(options: Options) -> bool:
    """Whether there is a terminal for the live line, and the results do not go to a terminal too, in between."""
    if options.quiet or sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return False
    return options.output != STANDARD or not os.isatty(STANDARD_OUTPUT)


def _allow_files(concurrency: int) -> None:
    """Lets the process have as many open files as it may need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = concurrency * 2 + SPARE_FILES  # a connection and a body's file each
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
