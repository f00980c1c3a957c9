"""Downloads into files: complete, or not there."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.kit import BODY, digest
from tests.http.dialkit import CancelledAt
from tests.http.echoing import echoing
from tests.http.rawkit import Peer, Run, counts, once, playing, settled, within
from weft import http

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


async def sends(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD % len(BODY), BODY[:1_500_000], BODY[1_500_000:])


def test_a_complete_download(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        target = tmp_path / ("long name " * 20 + ".bin")
        target.write_bytes(b"what was there before")
        async with playing(sends) as server, http.Client() as client:
            assert await within(client.download(server.url(), target)) == len(BODY)
            assert digest(target.read_bytes()) == digest(BODY)
            assert list(tmp_path.iterdir()) == [target]
            await settled(client, 1, 1)
        async with echoing() as server, http.Client() as client:
            size = await within(client.download(server.url("/packed?coding=gzip"), target))
            assert size == target.stat().st_size > 10_000
            empty = await within(client.download(server.url("/status?code=204"), tmp_path / "empty"))
            assert (empty, (tmp_path / "empty").read_bytes()) == (0, b"")

    run(main())


FAILURES: list[tuple[Any, type[BaseException]]] = [
    (once(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"), http.StatusError),
    (once(HEAD % 10 + b"x" * 10 + b"y", b""), BaseException),
    (once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n"), http.PeerProtocolError),
    (once(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"), http.DecodingError),
]


async def breaks(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD % len(BODY), BODY[:1_200_000])
    await peer.close()


@pytest.mark.parametrize("script, error", [*FAILURES[:1], *FAILURES[2:], (breaks, http.IncompleteBodyError)])
def test_a_download_that_fails_leaves_no_file(run: Run, tmp_path: Path, script: Any, error: Any) -> None:
    async def main() -> None:
        async with playing(script) as server, http.Client() as client:
            with pytest.raises(error):
                await within(client.download(server.url(), tmp_path / "file"))
            assert list(tmp_path.iterdir()) == []
            assert counts(client)[0] - counts(client)[1] == 0

    run(main())


def test_a_folder_that_is_not_there(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with playing(sends, sends) as server, http.Client() as client:
            with pytest.raises(FileNotFoundError) as caught:
                await within(client.download(server.url(), tmp_path / "none" / "file"))
            assert caught.value.filename == str(tmp_path / "none" / "file")  # and not that of the unfinished file
            (tmp_path / "folder").mkdir()
            with pytest.raises(IsADirectoryError):
                await within(client.download(server.url(), tmp_path / "folder"))
            assert [path.name for path in tmp_path.iterdir()] == ["folder"]

    run(main())


@pytest.mark.parametrize("how", CancelledAt.HOW)
def test_a_download_that_is_cancelled_leaves_no_file(run: Run, tmp_path: Path, how: str) -> None:
    """Nor a thread that still writes when the file is closed. Once it has its name it is complete."""

    async def at(number: int) -> bool:
        target = tmp_path / "file"
        async with playing(sends) as server, http.Client() as client:
            step = CancelledAt(client.download(server.url(), target), number, how)
            cancelled = False
            try:
                await within(step)
            except asyncio.CancelledError:
                cancelled = True
            left = list(tmp_path.iterdir())
            assert left in ([], [target])
            assert cancelled or left
            if left:
                assert digest(target.read_bytes()) == digest(BODY)
                target.unlink()
        return step.reached

    async def main() -> None:
        number = 0
        while await at(number):
            number += 1
        assert number > 4

    run(main())


def test_a_download_that_is_cancelled_twice(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with playing(sends) as server, http.Client() as client:
            task = asyncio.create_task(client.download(server.url(), tmp_path / "file"))
            while not list(tmp_path.iterdir()) and not task.done():
                await asyncio.sleep(0)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
            with contextlib.suppress(asyncio.CancelledError):
                await within(task)
            assert [path.name for path in tmp_path.iterdir()] in ([], ["file"])

    run(main())
