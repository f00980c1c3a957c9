"""nginx as the server of the HTTPS case: TLS that nobody here wrote, and one process that can be bound to a core.

The invariant: everything it needs and writes is in a folder of its own, which goes with it, and it never outlives the
measurement. Called by ``bench.cases.http``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from bench.serve import die_with_parent

READY_SECONDS = 10.0

CONFIG = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
worker_rlimit_nofile 20000;
events {{ worker_connections 12000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 60s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl backlog=4096;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        ssl_protocols TLSv1.3;
        default_type text/plain;
        location / {{ return 200 "{page}"; }}
    }}
}}
"""

EXTENSIONS = """\
[req]
distinguished_name = name
prompt = no
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, DNS:localhost
"""


@dataclass(frozen=True)
class Nginx:
    """A server that runs: its process, its port, and the authority to trust."""

    pid: int
    port: int
    authority: Path


def missing() -> str:
    """What of it is not installed, in a few words; empty when all is there."""
    absent = [program for program in ("nginx", "openssl") if shutil.which(program) is None]
    return f"needs {' and '.join(absent)} (Debian: apt-get install {' '.join(absent)})" if absent else ""


@contextlib.contextmanager
def nginx(length: int, *, core: int | None = None) -> Iterator[Nginx]:
    """Serve a page of ``length`` bytes over TLS on a free port of 127.0.0.1.

    Args:
        length: of the page, in bytes.
        core: the processor core that it is bound to.

    Raises:
        RuntimeError: it did not start; the message says what it said.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_certificates(folder)
        port = free_port()
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, port=port, page="x" * length))
        said = folder / "said"
        with said.open("wb") as errors:
            command = ["nginx", "-p", str(folder), "-c", str(config)]
            # A worker that runs out of time is killed, and takes nginx with it: it has no threads when it forks.
            with subprocess.Popen(command, stderr=errors, preexec_fn=die_with_parent) as process:  # noqa: PLW1509
                try:
                    if core is not None:
                        os.sched_setaffinity(process.pid, {core})
                    _wait_until_ready(process, port, folder / "ca.pem", said)
                    yield Nginx(process.pid, port, folder / "ca.pem")
                finally:
                    process.kill()


def make_certificates(folder: Path) -> None:
    """Put an authority (``ca.pem``), and a certificate of it for 127.0.0.1 (``cert.pem``, ``key.pem``), into a folder.

    Two of them, as rustls takes no certificate for both, and OpenSSL in Python 3.13 asks for every extension.
    """
    (folder / "openssl.conf").write_text(EXTENSIONS)
    common = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -config openssl.conf"
    for words in (
        "-extensions authority -subj /CN=bench-authority -keyout ca-key.pem -out ca.pem",
        "-extensions server -subj /CN=localhost -CA ca.pem -CAkey ca-key.pem -keyout key.pem -out cert.pem",
    ):
        command = [*common.split(), *words.split()]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"openssl made no certificate: {done.stderr}")


def free_port() -> int:
    """A port that was free a moment ago; nginx cannot be asked to find one itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, authority: Path, said: Path) -> None:
    end = monotonic() + READY_SECONDS
    context = ssl.create_default_context(cafile=str(authority))
    while monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=READY_SECONDS) as plain:
                with context.wrap_socket(plain, server_hostname="127.0.0.1"):
                    return
        except OSError:
            sleep(0.01)  # it has no way to say that it listens
    raise RuntimeError(f"nginx does not answer on port {port}: {said.read_text()}")
