"""Content codings of a response (RFC 9110, 8.4): gzip, deflate, brotli and zstd are undone here, step by step.

Owns what the header Accept-Encoding offers, and ``Decoder``. Its invariant: a step asks for ``STEP`` bytes at most and
gives no more than twice that (brotli rounds up, zstd ends with a block), and what is held never exceeds the limit by
more than a step, whatever comes from the peer. Used by response.py.

A coder undoes one coding: ``unpack(data, size)`` gives ``size`` bytes at most, ``more`` says that there is more without
more input (and then the next input has to wait), ``end()`` complains if the coding was not complete.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NoReturn, Protocol

from weft.http.errors import DecodingError, DecompressionBombError

__all__ = ["ACCEPT_ENCODING", "STEP", "Decoder", "decoder_for"]

STEP = 1024 * 1024  # Bytes that are unpacked at once.
WINDOW = 64 * 1024  # Bytes that a coder is given at once: what it leaves of them is copied for each step and member.
MAX_CODINGS = 5  # As curl and urllib3. Each multiplies what a byte on the wire can cost.
MAX_ZSTD_WINDOW_LOG = 23  # 8 MiB: RFC 9659, 3.


class _Coder(Protocol):
    errors: tuple[type[Exception], ...]
    more: bool

    def unpack(self, data: bytes, size: int) -> bytes: ...

    def end(self) -> None: ...


def _starts(data: bytes, magic: bytes) -> bool | None:
    """Whether ``data`` starts with ``magic``; None if it is too short to tell."""
    head = data[: len(magic)]
    return magic.startswith(head) and (True if len(head) == len(magic) else None)


def _zstd_frame(data: bytes) -> bool | None:
    """Whether a frame of zstd begins with ``data``, also one to be skipped (RFC 8878, 3.1.1 and 3.1.2)."""
    if data[0] & 0xF0 == 0x50:
        return _starts(data[1:4], b"\x2a\x4d\x18")
    return _starts(data, b"\x28\xb5\x2f\xfd")


class _IncompleteError(Exception):
    """The coding is not at its end."""


class _Members:
    """A coding of members one after another, by an object with the methods of ``zlib.decompressobj``.

    What follows the last member and begins no other is ignored, as browsers do: some servers pad.
    """

    errors: tuple[type[Exception], ...] = (zlib.error,)

    def __init__(self) -> None:
        self.more = False
        self._stream: Any = None
        self._rest = b""
        self._begun = False
        self._over = False

    def start(self, first: int) -> Any:
        """An object that unpacks a member whose first byte is ``first``."""
        raise NotImplementedError

    def begins(self, data: bytes) -> bool | None:
        """Whether a further member begins with ``data``; None if that is too little to tell."""
        return False

    def tail(self, stream: Any) -> bytes:
        """The input that ``stream`` has not looked at, as it has given all that it was asked for."""
        tail: bytes = stream.unconsumed_tail
        return tail

    def unpack(self, data: bytes, size: int) -> bytes:
        rest = self._rest + data if self._rest else data
        pieces = []
        while size > 0:
            if self._stream is None:
                if not self._next_begins(rest):
                    break
                self._stream = self.start(rest[0])
                self._begun = True
            out = self._stream.decompress(rest, size)
            if out:
                pieces.append(out)
                size -= len(out)
            if not self._stream.eof:
                rest = self.tail(self._stream)
                break
            rest = self._stream.unused_data
            self._stream = None
        self.more = size <= 0
        self._rest = b"" if self._over else rest
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _next_begins(self, data: bytes) -> bool:
        if not data or self._over:
            return False
        found = self.begins(data) if self._begun else True
        self._over = found is False
        return bool(found)

    def end(self) -> None:
        if self._stream is not None:
            raise _IncompleteError


class _Gzip(_Members):
    def start(self, first: int) -> Any:
        return zlib.decompressobj(16 + zlib.MAX_WBITS)

    def begins(self, data: bytes) -> bool | None:
        return _starts(data, b"\x1f\x8b")


class _Deflate(_Members):
    def start(self, first: int) -> Any:
        # "deflate" means zlib's format, but some servers send the bare one. A zlib stream begins with method 8 and a
        # window of 7 at most (RFC 1950, 2.2); a bare one (RFC 1951, 3.2.4) could do so only with a stored block whose
        # padding is not zero, which nobody writes.
        wrapped = first & 0x0F == zlib.DEFLATED and first >> 4 <= 7
        return zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


class _StandardZstd(_Members):
    """zstd by the standard library (Python 3.14, PEP 784)."""

    def __init__(self, zstd: Any) -> None:
        super().__init__()
        self.errors = (zstd.ZstdError,)
        options = {zstd.DecompressionParameter.window_log_max: MAX_ZSTD_WINDOW_LOG}
        self._new: Callable[[], Any] = lambda: zstd.ZstdDecompressor(options=options)

    def start(self, first: int) -> Any:
        return self._new()

    def begins(self, data: bytes) -> bool | None:
        return _zstd_frame(data)

    def tail(self, stream: Any) -> bytes:
        return b""  # It keeps that itself.


class _Brotli:
    def __init__(self, brotli: Any) -> None:
        self.errors: tuple[type[Exception], ...] = (brotli.error,)
        self.more = False
        self._stream = brotli.Decompressor()
        self._begun = False

    def unpack(self, data: bytes, size: int) -> bytes:
        stream = self._stream
        # What follows the end is an error here: in one piece with the end it cannot be told from the rest.
        self._begun = self._begun or bool(data)
        out: bytes = stream.process(data, output_buffer_limit=size)
        # Not can_accept_more_data(): that is true while output is left, if the input is used up.
        self.more = len(out) >= size and not stream.is_finished()
        return out

    def end(self) -> None:
        if self._begun and not self._stream.is_finished():
            raise _IncompleteError


class _Zstd:
    """zstd by the package ``zstandard``, which unpacks all that it is given: so it is given one block at a time.

    A block unpacks to 128 KiB at most (RFC 8878, 3.1.1.2.4), but takes only four bytes: 64 KiB can mean 2 GiB.
    """

    MAX_BLOCK = 128 * 1024

    def __init__(self, zstandard: Any) -> None:
        self.errors: tuple[type[Exception], ...] = (zstandard.ZstdError,)
        self.more = False
        self._new: Callable[[], Any] = zstandard.ZstdDecompressor(
            max_window_size=1 << MAX_ZSTD_WINDOW_LOG
        ).decompressobj
        self._fail: Callable[[str], Exception] = zstandard.ZstdError
        self._input = bytearray()
        self._stream: Any = None
        self._unit: Callable[[], int] = self._frame_head
        self._skip = 0
        self._begun = self._over = self._checksum = False

    def unpack(self, data: bytes, size: int) -> bytes:
        self._input += data
        pieces = []
        while size > 0 and (length := self._next_unit()):
            unit = bytes(self._input[:length])
            del self._input[:length]
            # No stream: a frame that is to be skipped.
            if self._stream is not None and (out := self._stream.decompress(unit)):
                pieces.append(out)
                size -= len(out)
            if self._unit == self._frame_head:
                self._stream = None
        if self._over:
            self._input.clear()
        self.more = size <= 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> None:
        if self._unit != self._frame_head or (self._input and not self._begun):
            raise _IncompleteError

    def _next_unit(self) -> int:
        """Bytes of the next part of a frame, 0 if it is not complete yet. Knows afterwards what follows it."""
        return 0 if self._over or not self._input else self._unit()

    def _frame_head(self) -> int:
        data = bytes(self._input[:18])  # The longest head there is.
        found = _zstd_frame(data)
        if found is False and not self._begun:
            raise self._fail("no frame begins here")
        self._over = found is False
        if not found or len(data) < 5:
            return 0
        if data[0] & 0xF0 == 0x50:
            if len(data) < 8:
                return 0
            self._begun = True
            self._skip = int.from_bytes(data[4:8], "little")
            self._unit = self._skipped if self._skip else self._frame_head
            return 8
        descriptor = data[4]  # RFC 8878, 3.1.1.1.1
        single = descriptor >> 5 & 1
        content_size = (single, 2, 4, 8)[descriptor >> 6]
        length = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3] + content_size
        if len(data) < length:
            return 0
        self._begun = True
        self._checksum = bool(descriptor & 4)
        self._stream = self._new()
        self._unit = self._block
        return length

    def _block(self) -> int:
        if len(self._input) < 3:
            return 0
        head = int.from_bytes(self._input[:3], "little")  # RFC 8878, 3.1.1.2
        last, kind, size = head & 1, head >> 1 & 3, head >> 3
        if size > self.MAX_BLOCK:
            raise self._fail("a block is larger than 128 KiB")
        length = 3 + (1 if kind == 1 else size)  # Kind 1 is one byte, repeated.
        if len(self._input) < length:
            return 0
        if last:
            self._unit = self._frame_end if self._checksum else self._frame_head
        return length

    def _frame_end(self) -> int:
        if len(self._input) < 4:
            return 0
        self._unit = self._frame_head
        return 4

    def _skipped(self) -> int:
        length = min(self._skip, len(self._input))
        self._skip -= length
        if not self._skip:
            self._unit = self._frame_head
        return length


# -- which there are


def _brotli() -> Any:
    """The package ``brotli`` if it can limit what it gives at once (1.2 and newer)."""
    try:
        brotli = import_module("brotli")
        brotli.Decompressor().process(b"", output_buffer_limit=1)
    except (ImportError, AttributeError, TypeError):
        return None
    return brotli


def _new_brotli() -> _Coder | None:
    brotli = _brotli()
    return brotli and _Brotli(brotli)


def _new_zstd() -> _Coder | None:
    try:
        if sys.version_info >= (3, 14):
            return _StandardZstd(import_module("compression.zstd"))
    except ImportError:  # Python was built without it.
        pass
    try:
        return _Zstd(import_module("zstandard"))
    except ImportError:
        return None


_CODERS: dict[str, Callable[[], _Coder | None]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,  # RFC 9110, 8.4.1.3
    "deflate": _Deflate,
    "br": _new_brotli,
    "zstd": _new_zstd,
}


def _offered() -> str:
    codings = ["gzip", "deflate"]
    if _brotli() is not None:
        codings.append("br")
    # Only looked for: to import `zstandard` takes longer than everything else here.
    if find_spec("zstandard") or (sys.version_info >= (3, 14) and find_spec("_zstd")):
        codings.append("zstd")
    return ", ".join(codings)


ACCEPT_ENCODING: str = _offered()


# -- what response.py uses


class Decoder:
    """Undoes the content codings of one body.

    Args:
        coders: one per coding, the last applied first.
        codings: the header's text, for messages.
        limit: bytes that the body may unpack to; None: no limit.
        url: of the request, for messages.
    """

    __slots__ = ("_coders", "_codings", "_limit", "_total", "_url")

    def __init__(self, coders: list[_Coder], codings: str, limit: int | None, url: Any) -> None:
        self._coders = coders
        self._codings = codings
        self._limit = limit
        self._url = url
        self._total = 0

    def decode(self, data: bytes) -> bytes:
        """What ``data``, the next bytes of the body, unpack to.

        Raises:
            DecompressionBombError: all of the body is more than the limit; it was not unpacked further.
            DecodingError: the body is not in that coding.
        """
        if len(data) <= WINDOW and len(self._coders) == 1:
            out = self._unpack(self._coders[0], data, self._room())
            if not self._coders[0].more:
                return self._counted(out)
            return b"".join([self._counted(out), *self.steps(b"")])
        return b"".join(self.steps(data))

    def steps(self, data: bytes) -> Iterator[bytes]:
        """The same as ``decode`` in steps of some ``STEP`` bytes, each made when it is asked for; take all of them."""
        for out in self._through(0, data):
            yield self._counted(out)

    def finish(self) -> bytes:
        """The body has ended: what there is left of it, which with these codings is nothing. An empty body is fine.

        Raises:
            DecodingError: the body is cut off.
        """
        for coder in self._coders:
            try:
                coder.end()
            except _IncompleteError:
                raise DecodingError(
                    f"the body ends in the middle of its {self._codings} coding", url=self._url
                ) from None
        return b""

    def _through(self, index: int, data: bytes) -> Iterator[bytes]:
        if index == len(self._coders):
            yield data
            return
        coder, last = self._coders[index], index + 1 == len(self._coders)
        for start in range(0, len(data) or 1, WINDOW):
            window = data[start : start + WINDOW]
            while window or coder.more:
                if out := self._unpack(coder, window, self._room() if last else STEP):
                    yield from self._through(index + 1, out)
                window = b""

    def _room(self) -> int:
        """Bytes to ask for: one more than the limit allows is enough to see that there are more."""
        return STEP if self._limit is None else min(STEP, self._limit - self._total + 1)

    def _counted(self, out: bytes) -> bytes:
        self._total += len(out)
        if self._limit is not None and self._total > self._limit:
            raise DecompressionBombError(f"the body unpacks to more than {self._limit} bytes", url=self._url)
        return out

    def _unpack(self, coder: _Coder, data: bytes, size: int) -> bytes:
        try:
            return coder.unpack(data, size)
        except coder.errors as error:
            raise DecodingError(f"the body is not valid {self._codings}: {error}", url=self._url) from error


def decoder_for(content_encoding: str, *, limit: int | None = None, url: Any = None) -> Decoder | None:
    """Make what undoes the codings of a body.

    Args:
        content_encoding: the value of the header Content-Encoding; several values joined with commas.
        limit: bytes that the body may unpack to; None: no limit.
        url: of the request, for messages.

    Returns:
        A decoder; None if there is nothing to undo (``identity``).

    Raises:
        DecodingError: a coding that is unknown, or whose package is not installed, or too many of them.
    """
    if content_encoding in _CODERS:  # The common case, which costs one look.
        return Decoder([_coder(content_encoding, url)], content_encoding, limit, url)
    names = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if not names:
        return None
    if len(names) > MAX_CODINGS:
        raise DecodingError(f"the body is in {len(names)} codings, more than {MAX_CODINGS}", url=url)
    return Decoder([_coder(name, url) for name in reversed(names)], ", ".join(names), limit, url)


def _coder(name: str, url: Any) -> _Coder:
    new = _CODERS.get(name)
    coder = new() if new is not None else None
    return coder if coder is not None else _refuse(name, known=new is not None, url=url)


def _refuse(name: str, known: bool, url: Any) -> NoReturn:
    error = DecodingError(f"the body is in the coding {name!r}, which this client cannot undo", url=url)
    package = {"br": "brotli>=1.2", "zstd": "zstandard"}.get(name)
    error.add_note(
        f"Install {package} (or weft[http]), or do not ask for {name!r} in the header Accept-Encoding."
        if known
        else "Stream it as it came with `decode=False`."
    )
    raise error
