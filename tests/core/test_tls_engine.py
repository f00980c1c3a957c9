"""Which engine a TLS connection gets, and what is said when it cannot be the one asked for."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

import weft
from tests.loop.kit import client_context
from weft._core.tls_engine import why_not_direct
from weft._core.tls_transport import TlsTransport


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    loop = weft.new_event_loop()

    def make(mode: str, context: ssl.SSLContext) -> None:
        monkeypatch.setenv("WEFT_TLS", mode)
        TlsTransport(loop, asyncio.Protocol(), context, None, False, "localhost").close()

    yield make
    loop.close()


class TestChoice:
    @pytest.mark.parametrize("mode", ["", "bio", "direct"])
    def test_what_may_be_asked_for(self, make: Any, mode: str) -> None:
        if mode == "direct" and (reason := why_not_direct()):
            with pytest.raises(RuntimeError, match="WEFT_TLS is 'direct'"):
                make(mode, client_context())
            pytest.skip(reason)
        make(mode, client_context())

    def test_what_may_not(self, make: Any) -> None:
        with pytest.raises(ValueError, match="WEFT_TLS is 'Direct'; it may be 'direct', 'bio', or not set"):
            make("Direct", client_context())

    @pytest.mark.parametrize("where", ["class", "object"])
    def test_an_object_with_methods_of_its_own_is_not_bypassed(self, make: Any, where: str) -> None:
        class Own(ssl.SSLObject):
            if where == "class":

                def write(self, data: Any) -> int:
                    return super().write(data)

        class Context(ssl.SSLContext):
            def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
                made = super().wrap_bio(*args, **options)
                if where == "object":
                    made.read = made.read  # type: ignore[method-assign]
                return made

        context = Context(ssl.PROTOCOL_TLS_CLIENT)
        context.sslobject_class = Own
        make("", context)
        if why_not_direct() is None:
            with pytest.raises(RuntimeError, match="WEFT_TLS is 'direct', but the SSL of .* is not known"):
                make("direct", context)

    def test_an_object_that_was_made_before_is_not_taken_for_the_last_one(self, make: Any) -> None:
        class Old(ssl.SSLContext):
            def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
                first = super().wrap_bio(*args, **options)
                super().wrap_bio(*args, **options)  # which is gone at once
                return first

        make("", Old(ssl.PROTOCOL_TLS_CLIENT))
        if why_not_direct() is None:
            with pytest.raises(RuntimeError, match="is not known"):
                make("direct", Old(ssl.PROTOCOL_TLS_CLIENT))
