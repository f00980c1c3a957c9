"""TLS: the contexts that connections share, and the handshake on a connection that stands.

Invariant: a context is built off the loop (reading the authorities takes 10 to 100 ms), once per process and kind, and
only when the first connection needs it; certificates are verified unless the program says otherwise.
Called by ``dial``; ``context_for`` by the client.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeAlias

from weft.http.errors import CertificateError, TLSError

__all__ = ["ALPN", "Certificate", "Verify", "context_for", "default_context", "handshake", "unverified_context"]

ALPN = ("h2", "http/1.1")
"""What a connection offers to speak, best first (RFC 7301)."""

Verify: TypeAlias = "ssl.SSLContext | bool | str | os.PathLike[str] | None"
"""How to verify: a context; True or None for the system's authorities; False for not at all; a file or folder of them.
"""

Certificate: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str] | None]"
"""Who we are (mTLS): a PEM file with certificate and key, or (certificate, key) or (certificate, key, password)."""

HANDSHAKE_LIMIT = 86400.0
"""Seconds. asyncio insists on a limit of its own, and takes 60 without; the caller's is the one that counts."""

CLOSE_LIMIT = 1.0
"""Seconds to wait for the peer's close_notify after ours. HTTP says itself where a message ends (RFC 9112, 9.8), so
that nothing is lost; asyncio would keep the socket for 30."""

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine without its package
)
"""Where distributions keep the authorities, for a Python whose OpenSSL was built to look elsewhere."""

_lock = threading.Lock()
_shared: dict[tuple[bool, tuple[str, ...]], Future[ssl.SSLContext]] = {}


def _after_fork() -> None:
    """In a child: what another thread was building will never be ready, and the lock may be held."""
    global _lock
    _lock = threading.Lock()
    _shared.clear()


os.register_at_fork(after_in_child=_after_fork)


# -- contexts


async def default_context(alpn: Sequence[str] = ALPN) -> ssl.SSLContext:
    """The context that verifies by the system's authorities; one per process and *alpn*.

    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name other authorities, ``SSLKEYLOGFILE`` where to log keys for Wireshark.
    """
    return await _shared_context(True, tuple(alpn))


async def unverified_context(alpn: Sequence[str] = ALPN) -> ssl.SSLContext:
    """The context that takes any certificate; one per process and *alpn*."""
    return await _shared_context(False, tuple(alpn))


async def context_for(
    verify: Verify = True, *, cert: Certificate | None = None, alpn: Sequence[str] = ALPN
) -> ssl.SSLContext:
    """The context for what a program says about TLS.

    Args:
        verify: see ``Verify``. A context is returned as it is; its ALPN is set when it is used.
        cert: the certificate to show to servers that ask for one.
        alpn: the protocols to offer, best first.

    Raises:
        ValueError: a context together with *cert*, which belongs into it.
        OSError: a file cannot be read, with its name; ``ssl.SSLError`` where it holds something else.
    """
    if isinstance(verify, ssl.SSLContext):
        if cert is not None:
            raise ValueError("a certificate for a context of your own: call its load_cert_chain() instead")
        return verify
    if cert is None and (verify is None or isinstance(verify, bool)):
        return await _shared_context(verify is not False, tuple(alpn))
    return await asyncio.to_thread(_build, verify, cert, tuple(alpn))


async def _shared_context(verified: bool, alpn: tuple[str, ...]) -> ssl.SSLContext:
    key = verified, alpn
    with _lock:
        future = _shared.get(key)
        if future is None or (future.done() and future.exception() is not None):
            future = _shared[key] = Future()
            future.set_running_or_notify_cancel()  # from here on no waiter that is cancelled can cancel it
            # A thread of its own: the executor's belong to a loop, and may be busy with look-ups.
            threading.Thread(target=_build_shared, args=(future, *key), name="weft-tls-context", daemon=True).start()
    if future.done():
        return future.result()
    return await asyncio.wrap_future(future)


def _build_shared(future: Future[ssl.SSLContext], verified: bool, alpn: tuple[str, ...]) -> None:
    try:
        future.set_result(_build(verified, None, alpn))
    except BaseException as error:  # whoever waits must hear of it, whatever it is
        future.set_exception(error)


def _build(verify: Verify, cert: Certificate | None, alpn: tuple[str, ...]) -> ssl.SSLContext:
    if verify is False:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if keylog := os.environ.get("SSLKEYLOGFILE"):
            context.keylog_filename = keylog
    elif verify is True or verify is None:
        context = ssl.create_default_context()
        paths = ssl.get_default_verify_paths()
        if paths.cafile is None and paths.capath is None:
            for bundle in filter(os.path.exists, BUNDLES):
                context.load_verify_locations(bundle)
                break
    else:
        where = Path(_existing(verify))  # type: ignore[arg-type]  # contexts never come here
        folder = where.is_dir()
        context = ssl.create_default_context(cafile=None if folder else where, capath=where if folder else None)
    if cert is not None:
        chain, key, password = (*([cert] if isinstance(cert, str | os.PathLike) else cert), None, None)[:3]
        context.load_cert_chain(
            _existing(chain),
            None if key is None else _existing(key),
            None if password is None else os.fspath(password),
        )
    context.set_alpn_protocols(list(alpn))
    return context


def _existing(name: str | os.PathLike[str] | None) -> str:
    """The name of a file that is there: OpenSSL does not say which one is not."""
    if name is None:
        raise ValueError("the certificate's file is missing: give its name, or (certificate, key, password)")
    os.stat(name)
    return os.fspath(name)


# -- the handshake


async def handshake(
    transport: asyncio.Transport,
    protocol: asyncio.BaseProtocol,
    context: ssl.SSLContext,
    *,
    host: str,
    peer: str,
    alpn: Sequence[str],
) -> asyncio.Transport:
    """Speak TLS on a connection from now on; whoever calls this closes *transport* when it raises.

    Args:
        transport: the connection; nothing may have been received on it.
        protocol: gets what comes from now on, maybe before this returns; its ``connection_made`` is not called.
        context: a context of the program's own may come with any ALPN, or none: it is set to *alpn*.
        host: the name that is asked for and verified.
        peer: who that is, for messages.
        alpn: what to offer; must be the context's own where that is a shared one.

    Raises:
        CertificateError: the certificate is not one to trust, or is another host's.
        TLSError: there was no handshake for any other reason.
    """
    loop = asyncio.get_running_loop()
    # ALPN belongs to the context. asyncio and weft copy it in start_tls before that waits, uvloop in a callback that
    # start_tls schedules at once: so no other connection that uses the context can come in between.
    if not _is_shared(context):
        context.set_alpn_protocols(list(alpn))
        loop.call_soon(context.set_alpn_protocols, list(alpn))
    try:
        secure = await loop.start_tls(
            transport,
            protocol,
            context,
            server_hostname=host.rstrip(".") or host,
            ssl_handshake_timeout=HANDSHAKE_LIMIT,
            ssl_shutdown_timeout=CLOSE_LIMIT,
        )
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(f"the certificate of {peer} is not valid: {_reason(error)}") from error
    except (OSError, ValueError) as error:
        raise TLSError(f"the TLS handshake with {peer} failed: {_reason(error)}") from error
    # asyncio counts a connection that ended without an error as a handshake that is over.
    if secure is None or secure.get_extra_info("ssl_object") is None:
        raise TLSError(f"the TLS handshake with {peer} failed: the connection was closed")
    return secure


def _is_shared(context: ssl.SSLContext) -> bool:
    return any(future.done() and not future.exception() and future.result() is context for future in _shared.values())


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".") or str(error)
    if isinstance(error, ssl.SSLError):
        if error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"}:
            return f"it does not speak TLS on this port ({error.reason})"
        return error.reason or str(error)
    if isinstance(error, ConnectionError):
        return "it closed the connection" + (" (reset)" if error.errno == errno.ECONNRESET else "")
    return str(error) or type(error).__name__
