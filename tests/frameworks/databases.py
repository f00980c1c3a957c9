"""Real database servers for the tests, Redis and PostgreSQL, in a directory of their own that goes when they end.

Owns the processes and their files. Its one invariant: a server listens on loopback and in its directory only, writes
nothing that outlives it, and is waited for. Used by ``tests/frameworks/conftest.py``.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.frameworks.kit import LIMIT, free_port, started
from tests.loop.kit import CERTIFICATE

ATTEMPTS = 3
"""How often a server is started: its port was free a moment before, and may be taken by then."""


class NotStartedError(Exception):
    """A server ended, or did not listen in time; its log is the message."""


@dataclass
class Server:
    """Where a server listens."""

    port: int
    directory: Path

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def socket(self) -> str:
        """Redis's Unix socket; PostgreSQL's clients want the directory."""
        return str(self.directory / "redis.sock")


def redis_binary() -> str | None:
    """The program, where this machine has it."""
    return shutil.which("redis-server")


def postgres_binaries() -> Path | None:
    """The folder of PostgreSQL's programs: Debian keeps them out of PATH, one folder per version."""
    folders = [Path(name).parent for name in map(shutil.which, ("initdb", "postgres")) if name]
    folders += [Path(name) for name in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    both = [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]
    # A link to a program is resolved: PostgreSQL looks for its files beside itself.
    return (both[0] / "postgres").resolve().parent if both else None


def _account() -> dict[str, Any]:
    """Options of Popen for a user that PostgreSQL accepts: it refuses to run as root."""
    if os.geteuid():
        return {}
    users = [user for user in pwd.getpwall() if user.pw_name in {"postgres", "nobody"} and user.pw_uid]
    user = max(users, key=lambda user: user.pw_name)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def _directory(account: dict[str, Any]) -> Iterator[Path]:
    """A directory with a short path, as that of a Unix socket must be, that belongs to the server's user."""
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as name:
        if account:
            os.chown(name, account["user"], account["group"])
        yield Path(name)


def _wait_until_listening(process: subprocess.Popen[Any], listens: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + LIMIT
    while not listens():
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotStartedError(log.read_text())
        time.sleep(0.02)


def _accepts(address: Any, family: socket.AddressFamily) -> bool:
    with socket.socket(family) as sock:
        return sock.connect_ex(address) == 0


@contextmanager
def _running(command: Callable[[int], list[str]], directory: Path, **options: Any) -> Iterator[tuple[Any, Path, int]]:
    log = directory / "log"
    port = free_port()
    with log.open("wb") as output:
        with started(command(port), cwd=directory, stdout=output, stderr=subprocess.STDOUT, **options) as process:
            yield process, log, port


@contextmanager
def _serving(
    command: Callable[[int], list[str]], ready: Callable[[int], bool], directory: Path, **options: Any
) -> Iterator[Server]:
    for attempt in range(ATTEMPTS):
        with _running(command, directory, **options) as (process, log, port):
            try:
                _wait_until_listening(process, lambda port=port: ready(port), log)  # type: ignore[misc]
            except NotStartedError:
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            yield Server(port, directory)
            process.send_signal(signal.SIGINT)  # PostgreSQL ends its sessions at once; Redis just ends
            process.wait(LIMIT)
            return


@contextmanager
def redis_server(binary: str) -> Iterator[Server]:
    """A Redis that keeps everything in memory."""
    with _directory({}) as directory:
        path = directory / "redis.sock"

        def command(port: int) -> list[str]:
            where = ["--bind", "127.0.0.1", "--port", str(port), "--unixsocket", str(path), "--dir", str(directory)]
            return [binary, *where, "--save", "", "--appendonly", "no", "--databases", "2", "--maxmemory", "64mb"]

        def ready(port: int) -> bool:
            return _accepts(str(path), socket.AF_UNIX) and _accepts(("127.0.0.1", port), socket.AF_INET)

        with _serving(command, ready, directory) as server:
            yield server


SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "40",
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",  # a container's /dev/shm may be missing or small
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "ssl": "on",
    "ssl_cert_file": "localhost.pem",
    "ssl_key_file": "localhost.pem",
}


@contextmanager
def postgres_server(binaries: Path) -> Iterator[Server]:
    """A PostgreSQL whose user ``weft`` needs no password, with TLS for those who ask for it."""
    account = _account()
    with _directory(account) as directory:
        data = directory / "data"
        initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "weft", "-A", "trust", "-E", "UTF8", "--no-locale"]
        done = subprocess.run(
            [*initdb, "--no-sync"],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=4 * LIMIT,
            check=False,
            **account,
        )
        if done.returncode:
            raise NotStartedError(done.stdout.decode(errors="replace"))
        certificate = data / "localhost.pem"
        shutil.copyfile(CERTIFICATE, certificate)
        certificate.chmod(0o600)
        if account:
            os.chown(certificate, account["user"], account["group"])
        settings = {**SETTINGS, "unix_socket_directories": str(directory)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

        def command(port: int) -> list[str]:
            return [str(binaries / "postgres"), "-D", str(data), "-p", str(port), *options]

        def ready(port: int) -> bool:
            # It listens before it serves; the status says when it does.
            status = data / "postmaster.pid"
            return status.exists() and status.read_text().rstrip().endswith("ready")

        with _serving(command, ready, directory, **account) as server:
            yield server
