"""TLS contexts: built once, off the loop, and verifying unless told otherwise."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.dialkit import AUTHORITY, CERTS, check_echo, client_tls, echo, server_tls, serving
from tests.loop.kit import Recorder, Run
from weft.http import tls
from weft.http.dial import Dialer, Route
from weft.http.errors import CertificateError
from weft.http.tls import context_for, default_context, unverified_context


@pytest.fixture(autouse=True)
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each test build the contexts that the process shares."""
    monkeypatch.setattr(tls, "_shared", {})
    yield


class TestSharedContexts:
    def test_it_verifies(self, run: Run) -> None:
        context = run(default_context())
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname

    def test_it_is_built_once_however_many_ask(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        built: list[bool] = []
        original = ssl.create_default_context

        def build() -> ssl.SSLContext:
            built.append(threading.current_thread() is threading.main_thread())
            return original()

        async def main() -> None:
            first = await asyncio.gather(*(default_context() for _ in range(20)))
            assert {id(context) for context in first} == {id(await default_context())}

        monkeypatch.setattr(ssl, "create_default_context", build)
        run(main())
        assert built == [False]  # once, and not in the thread of the loop

    def test_each_offer_has_its_own(self, run: Run) -> None:
        async def main() -> None:
            assert await default_context(("h2",)) is not await default_context(("http/1.1",))
            assert await default_context() is not await unverified_context()

        run(main())

    def test_loops_share_it(self, run: Run) -> None:
        assert run(default_context()) is run(default_context())

    def test_who_is_cancelled_leaves_it_to_the_others(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        original = ssl.create_default_context
        go = threading.Event()

        def build() -> ssl.SSLContext:
            go.wait(10)
            return original()

        async def main() -> None:
            first, second = (asyncio.ensure_future(default_context()) for _ in range(2))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
            assert first.cancelled()
            go.set()
            assert isinstance(await second, ssl.SSLContext)

        monkeypatch.setattr(ssl, "create_default_context", build)
        run(main())

    def test_a_failure_is_not_remembered(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> ssl.SSLContext:
            raise OSError("too many open files")

        async def main() -> None:
            with monkeypatch.context() as patch:
                patch.setattr(ssl, "create_default_context", fail)
                with pytest.raises(OSError, match="too many open files"):
                    await default_context()
            assert isinstance(await default_context(), ssl.SSLContext)

        run(main())

    def test_the_authorities_of_the_environment(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> None:
            async with serving(echo, tls=server_tls()) as port:
                route = Route("https", "localhost", port)
                monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
                await check_echo(Dialer(), route)

        run(main())

    @pytest.mark.parametrize("verified", [True, False])
    def test_keys_are_logged(self, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verified: bool) -> None:
        async def main() -> None:
            async with serving(echo, tls=server_tls()) as port:
                await check_echo(Dialer(), Route("https", "localhost", port, tls=None if verified else False))

        monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
        run(main())
        assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET" in (tmp_path / "keys").read_text()

    def test_a_python_that_looks_elsewhere(self, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        nowhere = ssl.DefaultVerifyPaths(None, None, "SSL_CERT_FILE", "/none", "SSL_CERT_DIR", "/none")  # type: ignore[arg-type]
        monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
        monkeypatch.setattr(tls, "BUNDLES", (str(tmp_path / "none"), str(AUTHORITY)))
        monkeypatch.setenv("SSL_CERT_FILE", "/none")

        async def main() -> None:
            async with serving(echo, tls=server_tls()) as port:
                await check_echo(Dialer(), Route("https", "localhost", port))

        run(main())


class TestContextFor:
    @pytest.mark.parametrize("verify", [True, None])
    def test_the_default(self, run: Run, verify: bool | None) -> None:
        async def main() -> None:
            assert await context_for(verify) is await default_context()

        run(main())

    def test_no_verification(self, run: Run) -> None:
        async def main() -> None:
            context = await context_for(False)
            assert context is await unverified_context()
            assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)

        run(main())

    def test_a_context_of_the_programs_own(self, run: Run) -> None:
        context = client_tls()
        assert run(context_for(context)) is context
        with pytest.raises(ValueError, match="load_cert_chain"):
            run(context_for(context, cert=CERTS / "client.pem"))

    def test_a_file_of_authorities(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo, tls=server_tls(alpn=["h2"])) as port:
                for verify in (AUTHORITY, str(AUTHORITY)):
                    context = await context_for(verify)
                    protocol = await check_echo(Dialer(), Route("https", "localhost", port, tls=context))
                    assert protocol.made.done()

        run(main())

    def test_a_folder_of_authorities(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            async with serving(echo, tls=server_tls()) as port:
                with pytest.raises(CertificateError):
                    empty = await context_for(tmp_path)
                    await Dialer().dial(Route("https", "localhost", port, tls=empty), Recorder)
                # OpenSSL looks for the hash of the authority's name (openssl-rehash(1)).
                (tmp_path / "3eaa7a15.0").symlink_to(AUTHORITY)
                context = await context_for(str(tmp_path))
                await check_echo(Dialer(), Route("https", "localhost", port, tls=context))

        run(main())

    @pytest.mark.parametrize("kind", ["one file", "two files", "with a password"])
    def test_a_certificate(self, run: Run, kind: str, tmp_path: Path) -> None:
        text = (CERTS / "client.pem").read_text()
        at = text.index("-----BEGIN EC")
        (tmp_path / "chain").write_text(text[:at])
        (tmp_path / "key").write_text(text[at:])
        cert = {
            "one file": CERTS / "client.pem",
            "two files": (tmp_path / "chain", str(tmp_path / "key")),
            "with a password": (CERTS / "client.pem", None, "not needed"),
        }[kind]

        async def main() -> None:
            async with serving(echo, tls=server_tls(wants_client=True)) as port:
                context = await context_for(AUTHORITY, cert=cert)  # type: ignore[arg-type]
                await check_echo(Dialer(), Route("https", "localhost", port, tls=context))

        run(main())

    def test_files_that_are_not_there(self, run: Run, tmp_path: Path) -> None:
        missing = tmp_path / "missing"
        for arguments in ((missing, None), (True, missing), (True, (CERTS / "client.pem", missing))):
            with pytest.raises(FileNotFoundError, match=str(missing)):
                run(context_for(arguments[0], cert=arguments[1]))

    def test_a_file_that_is_something_else(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("hello")
        with pytest.raises(ssl.SSLError):
            run(context_for(tmp_path / "text"))
