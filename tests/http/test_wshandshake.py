"""The opening handshake: what is offered, and every answer that must not be taken."""

from __future__ import annotations

import base64
import sys
from typing import Any

import pytest

from weft.http.errors import WebSocketError
from weft.http.wsframes import Deflate
from weft.http.wshandshake import Handshake, check_handshake, handshake_headers

pytest.importorskip("wsproto", reason="wsproto is not installed")

# RFC 6455, 1.3
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
RIGHT = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": ACCEPT}
PROTOCOL, EXTENSIONS = "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"


class TestRequest:
    def test_headers(self) -> None:
        headers, key = handshake_headers()
        assert headers == {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
        }
        assert len(base64.b64decode(key, validate=True)) == 16

    def test_the_key_is_another_each_time(self) -> None:
        assert handshake_headers()[1] != handshake_headers()[1]

    def test_offers(self) -> None:
        headers, _ = handshake_headers(["chat", "superchat"], compress=False)
        assert headers[PROTOCOL] == "chat, superchat"
        assert EXTENSIONS not in headers

    def test_wsproto_is_missed_before_anything_is_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "wsproto.connection", None)
        with pytest.raises(ModuleNotFoundError, match=r"install weft\[http\]"):
            handshake_headers()


class TestAnswer:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"upgrade": "WebSocket", "Upgrade": None},
            {"Connection": "keep-alive, upgrade"},
            {"Sec-WebSocket-Accept": f" {ACCEPT} "},
            {"X": "y"},
        ],
    )
    def test_right_ones(self, changes: dict[str, str | None]) -> None:
        headers = {name: value for name, value in (RIGHT | changes).items() if value is not None}
        assert check_handshake(headers, KEY) == Handshake(None, None)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("Upgrade", None),
            ("Upgrade", "h2c"),
            ("Upgrade", "websocket, h2c"),
            ("Connection", None),
            ("Connection", "close"),
            ("Sec-WebSocket-Accept", None),
            ("Sec-WebSocket-Accept", KEY),
            ("Sec-WebSocket-Accept", ACCEPT.lower()),
        ],
    )
    def test_wrong_ones(self, name: str, value: str | None) -> None:
        headers = {key: val for key, val in (RIGHT | {name: value}).items() if val is not None}
        with pytest.raises(WebSocketError) as caught:
            check_handshake(headers, KEY, url="wss://x/")
        assert str(caught.value).startswith(f"wss://x/: the server's header {name} is {value or ''!r} and not ")

    def test_a_proof_given_twice(self) -> None:
        class Repeated(dict[str, str]):
            def items(self) -> Any:
                return [*super().items(), ("sec-websocket-accept", ACCEPT)]

        with pytest.raises(WebSocketError):
            check_handshake(Repeated(RIGHT), KEY)

    def test_http_2_needs_no_proof(self) -> None:
        assert check_handshake({PROTOCOL: "a"}, None, subprotocols=["a"]).subprotocol == "a"

    def test_the_subprotocol(self) -> None:
        assert check_handshake(RIGHT | {PROTOCOL: "b"}, KEY, subprotocols=iter(["a", "b"])).subprotocol == "b"
        for chosen, offered in (("c", ["a"]), ("a", []), ("a, b", ["a", "b"]), ("", ["a"])):
            with pytest.raises(WebSocketError, match="not offered"):
                check_handshake(RIGHT | {PROTOCOL: chosen}, KEY, subprotocols=offered)

    @pytest.mark.parametrize(
        ("value", "deflate"),
        [
            ("", None),
            ("permessage-deflate", Deflate()),
            ("permessage-deflate; client_max_window_bits=10", Deflate(client_max_window_bits=10)),
            ('permessage-deflate;server_max_window_bits="8"', Deflate(server_max_window_bits=8)),
            (
                "Permessage-Deflate; server_no_context_takeover ; client_no_context_takeover",
                Deflate(client_no_context_takeover=True, server_no_context_takeover=True),
            ),
        ],
    )
    def test_packing(self, value: str, deflate: Deflate | None) -> None:
        assert check_handshake(RIGHT | {EXTENSIONS: value}, KEY).deflate == deflate

    @pytest.mark.parametrize(
        "value",
        [
            "x-webkit-deflate-frame",
            "permessage-deflate, permessage-deflate",
            "permessage-deflate, other",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=010",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; mystery",
        ],
    )
    def test_what_was_not_offered(self, value: str) -> None:
        with pytest.raises(WebSocketError, match="not offered"):
            check_handshake(RIGHT | {EXTENSIONS: value}, KEY)

    def test_packing_that_was_not_offered(self) -> None:
        with pytest.raises(WebSocketError, match="not offered"):
            check_handshake(RIGHT | {EXTENSIONS: "permessage-deflate"}, KEY, compress=False)
