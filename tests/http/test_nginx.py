"""The client against nginx over TCP: plain, TLS with and without HTTP/2, certificates both ways, long files.

Owns the fixture ``nginx``: one server for the module, with the certificates of ``certs``, in a folder of its own.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.kit import digest, started
from tests.http.dialkit import AUTHORITY, CERTS, client_tls
from tests.http.proxykit import free_port, program
from tests.http.rawkit import Run, counts, settled, within
from weft import http

NGINX = program("nginx")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian's package nginx)")

FILE = bytes(range(251)) * 80_000  # 20 MB
TEXT = b"line of text\n" * 10_000

CONFIG = """
daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{
    access_log off; types {{ text/plain txt; }} default_type application/octet-stream; client_max_body_size 0;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    ssl_certificate {certs}/server.pem; ssl_certificate_key {certs}/server.pem;
    root {folder};
    gzip on; gzip_types text/plain; gzip_min_length 100;
    server {{ listen 127.0.0.1:{plain}; keepalive_requests 5; {locations} }}
    server {{ listen 127.0.0.1:{tls} ssl; {locations} }}
    server {{ listen 127.0.0.1:{h2} ssl http2; {locations} }}
    server {{ listen 127.0.0.1:{few} ssl http2; keepalive_requests 5; http2_max_concurrent_streams 3; {locations} }}
    server {{
        listen 127.0.0.1:{mutual} ssl; ssl_client_certificate {authority}; ssl_verify_client on; {locations}
    }}
    server {{ listen 127.0.0.1:{expired} ssl; ssl_certificate {certs}/expired.pem;
        ssl_certificate_key {certs}/expired.pem; {locations} }}
}}
"""

LOCATIONS = """
location = /hello { return 200 "$request_method $http_host $connection_requests $ssl_client_s_dn"; }
location = /empty { return 204; }
location = /moved { return 301 /hello; }
location = /gone { return 410; }
"""


@dataclass
class Nginx:
    """Its ports."""

    plain: int
    tls: int
    h2: int
    few: int
    mutual: int
    expired: int

    def url(self, which: str, path: str = "/hello", host: str = "localhost") -> str:
        return f"{'http' if which == 'plain' else 'https'}://{host}:{getattr(self, which)}{path}"


def wait_for(port: int, server: subprocess.Popen[Any]) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < end, "nginx does not start"
            time.sleep(0.01)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "file").write_bytes(FILE)
    (folder / "text.txt").write_bytes(TEXT)
    ports = Nginx(*[free_port() for _ in range(6)])
    config = folder / "nginx.conf"
    config.write_text(
        CONFIG.format(folder=folder, certs=CERTS, authority=AUTHORITY, locations=LOCATIONS, **vars(ports))
    )
    with started([str(NGINX), "-p", str(folder), "-c", str(config), "-e", "stderr"]) as server:
        wait_for(ports.expired, server)
        yield ports


VERSIONS = [("plain", "HTTP/1.1"), ("tls", "HTTP/1.1"), ("h2", "HTTP/2.0")]
WAYS = pytest.mark.parametrize("way, version", VERSIONS)


def needs_h2(way: str) -> None:
    if way in ("h2", "few"):
        pytest.importorskip("h2")


@WAYS
def test_requests(run: Run, nginx: Nginx, way: str, version: str) -> None:
    needs_h2(way)

    async def main() -> None:
        async with http.Client(tls=client_tls()) as client:
            response = await within(client.get(nginx.url(way)))
            assert response.http_version == version
            assert (await response.text()).startswith(f"GET localhost:{getattr(nginx, way)} 1")
            response = await within(client.get(nginx.url(way, "/moved")))
            assert [one.status for one in response.history] == [301]
            assert (await response.text()).startswith("GET")
            response = await within(client.head(nginx.url(way, "/file")))
            assert (response.content_length, await response.read()) == (len(FILE), b"")
            assert (await within(client.get(nginx.url(way, "/empty")))).status == 204
            with pytest.raises(http.StatusError):
                await within(client.get(nginx.url(way, "/gone"), raise_for_status=True))
            await settled(client, 1, 1)

    run(main())


@WAYS
def test_packed_text_and_a_long_file(run: Run, nginx: Nginx, way: str, version: str, tmp_path: Path) -> None:
    needs_h2(way)

    async def main() -> None:
        async with http.Client(tls=client_tls()) as client:
            response = await within(client.get(nginx.url(way, "/text.txt")))
            assert response.headers["Content-Encoding"] == "gzip"
            assert await response.read() == TEXT
            assert await within(client.download(nginx.url(way, "/file"), tmp_path / "file")) == len(FILE)
            assert digest((tmp_path / "file").read_bytes()) == digest(FILE)
            # A part of what is packed would be of no use: it is asked for as it is (Fetch standard, 4.6).
            for path, whole in (("/file", FILE), ("/text.txt", TEXT)):
                response = await within(client.get(nginx.url(way, path), headers={"Range": "bytes=10-19"}))
                assert (response.status, await response.read()) == (206, whole[10:20])
            async with client.get(nginx.url(way, "/file")) as response:
                async for _ in response:
                    break
            assert (await within(client.get(nginx.url(way)))).status == 200
            await settled(client, 1, 1)

    run(main())


@pytest.mark.parametrize("way", ["plain", "few", "h2", "tls"])
def test_a_crowd(run: Run, nginx: Nginx, way: str) -> None:
    """Servers that end a connection after a few requests, or allow few at a time, are no trouble to the callers."""
    needs_h2(way)

    async def main() -> None:
        async with http.Client(tls=client_tls(), limits=http.Limits(total=4)) as client:

            async def get() -> int:
                async with client.get(nginx.url(way)) as response:
                    await response.read()
                    return response.status

            assert await within(asyncio.gather(*[get() for _ in range(60)])) == [200] * 60
            assert counts(client)[0] <= 4
            assert counts(client)[2] == 0

    run(main())


def test_certificates_are_verified(run: Run, nginx: Nginx) -> None:
    async def main() -> None:
        async with http.Client() as client:
            with pytest.raises(http.CertificateError) as caught:
                await within(client.get(nginx.url("tls")))
            assert caught.value.url == nginx.url("tls")
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
            await settled(client, 0, 0)
            assert (await within(client.get(nginx.url("tls"), tls=False))).status == 200
            assert (await within(client.get(nginx.url("tls"), ssl=client_tls()))).status == 200
            with pytest.raises(http.CertificateError):
                await within(client.get(nginx.url("tls")))  # not by the connection that was not verified
        async with http.Client(tls=client_tls()) as client:
            with pytest.raises(http.CertificateError):
                await within(client.get(nginx.url("expired")))

    run(main())


def test_a_name_that_the_certificate_does_not_have(run: Run, nginx: Nginx) -> None:
    async def resolver(host: str) -> Any:
        return ["127.0.0.1"], 60.0

    async def main() -> None:
        async with http.Client(tls=client_tls(), resolver=resolver) as client:
            assert (await within(client.get(nginx.url("tls", host="origin.test")))).status == 200
            with pytest.raises(http.CertificateError, match=r"other\.test"):
                await within(client.get(nginx.url("tls", host="other.test")))

    run(main())


def test_both_sides_show_certificates(run: Run, nginx: Nginx) -> None:
    async def main() -> None:
        context = client_tls()
        async with http.Client(tls=context) as client:
            response = await within(client.get(nginx.url("mutual")))
            assert response.status == 400
        context = client_tls()
        context.load_cert_chain(CERTS / "client.pem")
        async with http.Client(tls=context) as client:
            response = await within(client.get(nginx.url("mutual")))
            assert (response.status, "CN=client" in await response.text()) == (200, True)

    run(main())


def test_what_is_not_tls(run: Run, nginx: Nginx) -> None:
    async def main() -> None:
        async with http.Client(tls=client_tls()) as client:
            with pytest.raises(http.TLSError) as caught:
                await within(client.get(nginx.url("plain").replace("http:", "https:")))
            assert not isinstance(caught.value, http.CertificateError)
            response = await within(client.get(nginx.url("tls").replace("https:", "http:")))
            assert response.status == 400

    run(main())


def test_a_large_upload(run: Run, nginx: Nginx) -> None:
    """nginx refuses a POST to a static file, before or after it has read it; either way the client goes on."""

    async def main() -> None:
        async with http.Client(tls=client_tls()) as client:
            for way in ("plain", "tls", "h2"):
                async with client.post(nginx.url(way, "/file"), content=b"x" * 5_000_000) as response:
                    assert response.status == 405
                assert (await within(client.get(nginx.url(way)))).status == 200

    run(main())
