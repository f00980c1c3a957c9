"""Forms: the fields of a form as ``application/x-www-form-urlencoded`` or as ``multipart/form-data``.

Owns ``FormData`` and the encoding of both kinds. Its invariant: what comes from the caller (names, file names, types)
cannot end a line or a quoted string of a part's head, so no field makes another. Fields and small files are joined in
memory, everything else is streamed. Used by body.py.
"""

from __future__ import annotations

import mimetypes
import os
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from weft.http.errors import BodyError, InvalidHeaderError
from weft.http.sources import Source, source_of
from weft.http.url import form_quoted

URLENCODED = "application/x-www-form-urlencoded"
DEFAULT_TYPE = "application/octet-stream"
JOINED = 64 * 1024  # Bytes. Pieces up to this are joined into one write; copying more costs more than a second write.

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, 5.1.1
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # What may stand in no header; a tab may.
# WHATWG HTML, 4.10.21.8, "multipart/form-data encoding algorithm": what browsers do, and servers therefore read.
_QUOTED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class Field(NamedTuple):
    """One field of a form."""

    name: str
    value: Any
    content_type: str | None = None
    filename: str | None = None
    headers: Mapping[str, str] | None = None

    @property
    def needs_multipart(self) -> bool:
        """Whether only multipart can say this."""
        return self.filename is not None or self.content_type is not None or self.headers is not None


class FormData:
    """A form that is filled field by field, and may hold files. The name and its methods are aiohttp's.

    It is sent as ``multipart/form-data`` if one of its fields is a file or has a content type or a file name, else as
    ``application/x-www-form-urlencoded``.

    Args:
        fields: the first fields: a mapping, or pairs of name and value. A value that is a list gives the name once for
            each of its items; None is left out.
        default_to_multipart: send it as multipart in any case.
        boundary: what parts the parts, where it must be known beforehand; random otherwise (RFC 2046, section 5.1.1).

    Raises:
        BodyError: a field that no form can hold, or a boundary that RFC 2046 does not allow.
    """

    def __init__(
        self,
        fields: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
        *,
        default_to_multipart: bool = False,
        boundary: str | None = None,
    ) -> None:
        if boundary is not None and not _BOUNDARY.fullmatch(boundary):
            raise BodyError(f"{boundary!r} cannot be a boundary: RFC 2046 allows 1 to 70 of 0-9 A-Z a-z '()+_,-./:=?")
        self._boundary = boundary
        self._multipart = default_to_multipart
        self._fields: list[Field] = []
        self.add_fields(*pairs_of(fields))

    def __len__(self) -> int:
        return len(self._fields)

    @property
    def is_multipart(self) -> bool:
        """Whether it will be sent as ``multipart/form-data``."""
        return self._multipart or any(field.needs_multipart for field in self._fields)

    def add_field(self, name: str, value: Any, *, content_type: str | None = None, filename: str | None = None) -> None:
        """Add one field.

        Args:
            name: the field's name.
            value: str, bytes, a number, a bool, a file object, a path object, or an (async) iterable of bytes.
            content_type: of a file it is guessed by its name, if left out.
            filename: the name that the server is told; of files and paths it is theirs, if left out.
        """
        if filename is None and not isinstance(value, str) and (is_file(value) or isinstance(value, os.PathLike)):
            filename = filename_of(value) or name
        self._fields.append(Field(name, value, content_type, filename))

    def add_fields(self, *fields: Any) -> None:
        """Add several: pairs of name and value, mappings of them, or file objects under their own names."""
        for field in fields:
            if type(field) is tuple and len(field) == 2:
                self.add_field(*field)  # what most are, and looking for the others takes longer than adding it
            elif is_file(field):
                self.add_field(filename_of(field) or "unknown", field)
            elif isinstance(field, Mapping):
                self.add_fields(*field.items())
            elif isinstance(field, list | tuple) and len(field) == 2:
                self.add_field(*field)
            else:
                raise BodyError(f"a field is a pair of name and value, not {field!r}")

    def extend(self, other: FormData) -> None:
        """Add the fields of another form, and be multipart if that is."""
        self._fields += other._fields
        self._multipart = self._multipart or other._multipart
        self._boundary = self._boundary or other._boundary

    def add_file(self, name: str, given: Any) -> None:
        """Add a file as the argument ``files`` of a request names it.

        Args:
            name: the field's name.
            given: a file object, path, bytes or str; or a tuple of a file name (None: a field, not a file), one of
                those, and optionally its content type and a mapping of more headers for the part.

        Raises:
            BodyError: a tuple of another length.
        """
        if not isinstance(given, tuple):
            self._fields.append(Field(name, given, None, filename_of(given) or name))
            return
        if not 2 <= len(given) <= 4:
            raise BodyError(
                f"the file {name!r} is a tuple of {len(given)}: give (filename, content[, content_type[, headers]])"
            )
        filename, value, content_type, headers = (*given, None, None)[:4]
        self._multipart = True
        self._fields.append(Field(name, value, content_type, filename, headers))

    def encode(self) -> tuple[bytes | Source, str]:
        """The form as it is sent, and its content type. Files are read as it is sent."""
        fields = list(_spread(self._fields))
        if not self.is_multipart and not any(_is_stream(field.value) for field in fields):
            pairs = [f"{form_quoted(field.name)}={form_quoted(field.value)}" for field in fields]
            return "&".join(pairs).encode(), URLENCODED
        boundary = self._boundary or os.urandom(16).hex()
        quoted = boundary if _TOKEN.fullmatch(boundary) else f'"{boundary}"'
        return _joined(_parts(fields, boundary.encode())), f"multipart/form-data; boundary={quoted}"


def pairs_of(fields: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Iterable[tuple[str, Any]]:
    """The pairs of a mapping (of a multi-dict each one), or the pairs that it already is."""
    return fields.items() if isinstance(fields, Mapping) else fields


def is_file(value: Any) -> bool:
    """Whether it is read to get its content."""
    return hasattr(value, "read")


def filename_of(value: Any) -> str | None:
    """The last part of the name of a path or of an open file, if it has one that is text."""
    name = os.fspath(value) if isinstance(value, os.PathLike) else getattr(value, "name", None)
    # A file that has no name in the file system is called "<fdopen>", or by the number of its descriptor.
    return os.path.basename(name) if isinstance(name, str) and not name.startswith("<") else None


def guessed_type(filename: str | None) -> str:
    """The content type that goes with a file's name, ``application/octet-stream`` if that is not known."""
    found, packed = mimetypes.guess_type(filename) if filename else (None, None)
    # "a.tar.gz" is a gzip file to whoever gets it: its coding is not undone on the way.
    return found if found and not packed else DEFAULT_TYPE


def _is_stream(value: Any) -> bool:
    return not isinstance(value, str | bytes)


def _spread(fields: Iterable[Field]) -> Iterator[Field]:
    """The fields with lists spread out, None left out, and everything that is not read written as text."""
    for field in fields:
        if type(field.value) is str and type(field.name) is str:
            yield field  # what most are
            continue
        several = isinstance(field.value, Sequence) and not isinstance(
            field.value, str | bytes | bytearray | memoryview
        )
        for value in field.value if several else (field.value,):
            if value is not None:
                yield field._replace(name=_name(field.name), value=_field_value(field.name, value))


def _name(name: Any) -> str:
    if not isinstance(name, str | int):
        raise BodyError(f"the name of a field is text, not {type(name).__name__}")
    return str(name)


def _field_value(name: str, value: Any) -> Any:
    """A value that needs no more than being written: str, bytes, or what is streamed."""
    if isinstance(value, str | bytes) or is_file(value) or isinstance(value, os.PathLike):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Mapping | Sequence | set | frozenset):
        raise BodyError(f"the field {name!r} is a {type(value).__name__}, which forms cannot say: send it as json=")
    if hasattr(value, "__aiter__") or hasattr(value, "__next__"):
        return value
    return str(value)


# -- multipart/form-data (RFC 7578)


def _parts(fields: Iterable[Field], boundary: bytes) -> Iterator[bytes | Source]:
    for field in fields:
        yield b"--" + boundary + b"\r\n" + _part_head(field)
        yield source_of(field.value)
        yield b"\r\n"
    yield b"--" + boundary + b"--\r\n"


def _part_head(field: Field) -> bytes:
    lines = [f'Content-Disposition: form-data; name="{field.name.translate(_QUOTED)}"']
    content_type = field.content_type
    if field.filename is not None:
        lines[0] += f'; filename="{field.filename.translate(_QUOTED)}"'
        content_type = content_type or guessed_type(field.filename)
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    for name, value in (field.headers or {}).items():
        if not _TOKEN.fullmatch(name):
            raise InvalidHeaderError(f"{name!r} cannot be the name of a header of the part {field.name!r}")
        # A part has one type, and whoever writes the header means it.
        if name.lower() == "content-type":
            lines = [line for line in lines if not line.startswith("Content-Type:")]
        lines.append(f"{name}: {value}")
    for line in lines[1:]:
        if _CONTROL.search(line):
            raise InvalidHeaderError(f"the header {line!r} of the part {field.name!r} has a control character in it")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def _joined(pieces: Iterable[bytes | Source]) -> bytes | Source:
    """The same with neighbours in memory joined; only bytes, if that is all there is and it is little."""
    segments: list[bytes | Source] = []
    small: list[bytes] = []
    size = 0
    for piece in pieces:
        if isinstance(piece, bytes) and size + len(piece) <= JOINED:
            small.append(piece)
            size += len(piece)
            continue
        segments += [b"".join(small), piece]
        small, size = [], 0
    segments.append(b"".join(small))
    if len(segments) == 1 and isinstance(segments[0], bytes):
        return segments[0]
    return MultipartSource([segment for segment in segments if segment])


class MultipartSource(Source):
    """Bytes and other sources one after another."""

    __slots__ = ("_segments", "_spent")

    def __init__(self, segments: list[bytes | Source]) -> None:
        lengths = [len(segment) if isinstance(segment, bytes) else segment.length for segment in segments]
        known = [length for length in lengths if length is not None]
        replayable = all(isinstance(segment, bytes) or segment.replayable for segment in segments)
        super().__init__(sum(known) if len(known) == len(lengths) else None, replayable)
        self._segments = segments
        self._spent = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        # Said before the first part goes out: a request that is cut off in its middle costs the connection.
        if self._spent:
            raise BodyError(
                "a part of this form was read already and cannot be read again: pass bytes or a path for it"
            )
        self._spent = not self.replayable
        for segment in self._segments:
            if isinstance(segment, bytes):
                yield segment
                continue
            inner = segment.chunks()
            try:
                async for chunk in inner:
                    yield chunk
            finally:
                await inner.aclose()

    def close(self) -> None:
        self._spent = True
        for segment in self._segments:
            if isinstance(segment, Source):
                segment.close()
