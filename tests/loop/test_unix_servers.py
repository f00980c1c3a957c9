"""Unix domain servers: which paths they take, and what stands there before and after."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.loop.kit import Peers, Recorder, Run, finish, open_sockets
from weft.versions import UNIX_SERVER_UNLINKS


class TestUnixServer:
    def test_listens(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_unix_server(peers := Peers(), tmp_path / "s")
            transport, _ = await loop.create_unix_connection(Recorder, str(tmp_path / "s"))
            transport.write(b"hello")
            assert await (await peers.next()).receive(5) == b"hello"
            transport.close()
            await peers[0].lost
            await finish(server)

        run(main())

    @pytest.mark.parametrize("name", ["\0weft-test-abstract", b"\0weft-test-abstract"])
    def test_abstract_names(self, run: Run, name: Any) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_unix_server(peers := Peers(), name)
            transport, _ = await loop.create_unix_connection(Recorder, name)
            peer = await peers.next()
            transport.close()
            await peer.lost
            await finish(server)

        run(main())

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({}, ValueError, "path was not specified, and no sock specified"),
            ({"path": "x", "ssl": False}, TypeError, "ssl argument must be an SSLContext or None"),
            ({"path": "x", "ssl_handshake_timeout": 1}, ValueError, "only meaningful with ssl"),
        ],
    )
    def test_refuses_wrong_arguments(
        self, run: Run, arguments: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        async def main() -> None:
            with pytest.raises(error, match=message):
                await asyncio.get_running_loop().create_unix_server(Peers(), **arguments)

        run(main())

    def test_refuses_sockets_of_another_kind(self, run: Run) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            with socket.socket() as sock:
                with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"):
                    await loop.create_unix_server(Peers(), sock=sock)
                with pytest.raises(ValueError, match="path and sock can not be specified at the same time"):
                    await loop.create_unix_server(Peers(), "x", sock=sock)

        run(main())

    def test_replaces_a_stale_socket(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))

        async def main() -> None:
            server = await asyncio.get_running_loop().create_unix_server(Peers(), str(path))
            await finish(server)

        run(main())

    def test_leaves_other_files_alone(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("precious")

        async def main() -> None:
            before = open_sockets()
            with pytest.raises(OSError, match="is already in use") as caught:
                await asyncio.get_running_loop().create_unix_server(Peers(), str(path))
            assert caught.value.errno == errno.EADDRINUSE
            assert open_sockets() == before

        run(main())
        assert path.read_text() == "precious"

    def test_a_missing_directory_leaves_no_socket(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            before = open_sockets()
            with pytest.raises(FileNotFoundError):
                await asyncio.get_running_loop().create_unix_server(Peers(), str(tmp_path / "none" / "s"))
            assert open_sockets() == before

        run(main())


class TestUnixCleanup:
    """Whether ``close()`` removes the path (asyncio: from 3.13 on)."""

    def test_by_default_as_asyncio(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            await finish(await asyncio.get_running_loop().create_unix_server(Peers(), tmp_path / "s"))

        run(main())
        assert os.path.exists(tmp_path / "s") is not UNIX_SERVER_UNLINKS

    @pytest.mark.weft_only
    @pytest.mark.parametrize("cleanup", [True, False])
    def test_as_told(self, run: Run, tmp_path: Path, cleanup: bool) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            await finish(await loop.create_unix_server(Peers(), tmp_path / "s", cleanup_socket=cleanup))

        run(main())
        assert os.path.exists(tmp_path / "s") is not cleanup

    @pytest.mark.weft_only
    def test_of_a_socket_that_was_passed_in(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(str(tmp_path / "s"))
            await finish(await loop.create_unix_server(Peers(), sock=sock, cleanup_socket=True))

        run(main())
        assert not os.path.exists(tmp_path / "s")

    @pytest.mark.weft_only
    def test_leaves_a_successors_socket_alone(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            server = await loop.create_unix_server(Peers(), tmp_path / "s", cleanup_socket=True)
            successor = await loop.create_unix_server(Peers(), tmp_path / "s", cleanup_socket=False)
            await finish(server)
            assert stat.S_ISSOCK(os.stat(tmp_path / "s").st_mode)
            await finish(successor)

        run(main())

    @pytest.mark.weft_only
    def test_does_not_mind_a_path_that_is_gone(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            server = await loop.create_unix_server(Peers(), tmp_path / "s", cleanup_socket=True)
            os.unlink(tmp_path / "s")
            await finish(server)

        run(main())
