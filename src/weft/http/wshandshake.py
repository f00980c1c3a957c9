"""The opening handshake of a WebSocket (RFC 6455, section 4.1), without I/O.

Owns what the request says and what its answer may be. The invariant: what the server chooses was offered, or the
handshake fails. Called by client.py, which sends the request; websocket.py takes over when it was answered.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from weft.http.errors import WebSocketError
from weft.http.wsframes import Deflate, wsproto

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
FLAGS = ("client_no_context_takeover", "server_no_context_takeover")  # RFC 7692, 7.1
BITS = ("client_max_window_bits", "server_max_window_bits")


class Handshake(NamedTuple):
    """What the server has chosen.

    Attributes:
        subprotocol: one of those that were offered, or None.
        deflate: the parameters of permessage-deflate, None without it.
    """

    subprotocol: str | None = None
    deflate: Deflate | None = None


def handshake_headers(subprotocols: Iterable[str] = (), *, compress: bool = True) -> tuple[dict[str, str], str]:
    """What the request of a handshake says, and the key that its answer is checked with.

    Args:
        subprotocols: the names to offer, the best first.
        compress: offer permessage-deflate.

    Raises:
        ImportError: the package ``wsproto`` is not installed.
    """
    wsproto("connection")  # Missed now, before anything is sent.
    key = base64.b64encode(os.urandom(16)).decode()
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
    }
    if offered := ", ".join(subprotocols):
        headers["Sec-WebSocket-Protocol"] = offered
    if compress:
        headers["Sec-WebSocket-Extensions"] = "permessage-deflate; client_max_window_bits"
    return headers, key


def check_handshake(
    headers: Mapping[str, str],
    key: str | None,
    *,
    subprotocols: Iterable[str] = (),
    compress: bool = True,
    url: Any = None,
) -> Handshake:
    """Check the headers of the server's answer, whose status was 101.

    Args:
        headers: of the response; ``items()`` may give a name several times.
        key: what ``handshake_headers`` gave; None after the CONNECT of HTTP/2 (RFC 8441), which needs no proof.
        subprotocols: those that were offered.
        compress: whether permessage-deflate was offered.
        url: of the request, for messages.

    Raises:
        WebSocketError: the server does not speak the protocol, or chose what was not offered.
    """
    found: dict[str, list[str]] = {}
    for name, value in headers.items():
        found.setdefault(name.lower(), []).append(value.strip())
    if key is not None:
        _check_upgrade(found, key, url)
    chosen = found.get("sec-websocket-protocol", [])
    if len(chosen) > 1 or not set(chosen) <= set(subprotocols):
        raise WebSocketError(f"the server chose the subprotocol {', '.join(chosen)!r}, which was not offered", url=url)
    extensions = _listed(found, "sec-websocket-extensions")
    deflate = _deflate(extensions[0]) if extensions and compress else None
    if len(extensions) > (deflate is not None):
        used = ", ".join(extensions)
        raise WebSocketError(f"the server uses the extension {used!r}, which was not offered", url=url)
    return Handshake(chosen[0] if chosen else None, deflate)


def _listed(found: Mapping[str, list[str]], name: str) -> list[str]:
    return [item for value in found.get(name, []) for part in value.split(",") if (item := part.strip())]


def _check_upgrade(found: Mapping[str, list[str]], key: str, url: Any) -> None:
    accept = base64.b64encode(hashlib.sha1((key + GUID).encode(), usedforsecurity=False).digest()).decode()
    # Several can stand in Connection; of the others one, and the accepted key is no list.
    for name, got, wanted in (
        ("Upgrade", [item.lower() for item in _listed(found, "upgrade")], "websocket"),
        ("Connection", sorted({item.lower() for item in _listed(found, "connection")} & {"upgrade"}), "upgrade"),
        ("Sec-WebSocket-Accept", found.get("sec-websocket-accept", []), accept),
    ):
        if got != [wanted]:
            values = ", ".join(found.get(name.lower(), []))
            raise WebSocketError(f"the server's header {name} is {values!r} and not {wanted!r}", url=url)


def _deflate(extension: str) -> Deflate | None:
    """The parameters of permessage-deflate (RFC 7692, 7.1); None if it is another extension, or they are wrong."""
    name, *parameters = (part.strip() for part in extension.split(";"))
    if name.lower() != "permessage-deflate":
        return None
    agreed: dict[str, Any] = {}
    for parameter in parameters:
        key, has_value, value = (part.strip() for part in parameter.partition("="))
        if key in FLAGS and not has_value:
            meant: bool | int = True
        elif key in BITS and value.strip('"') in map(str, range(8, 16)):
            meant = int(value.strip('"'))
        else:
            return None
        if key in agreed:
            return None
        agreed[key] = meant
    return Deflate(**agreed)
