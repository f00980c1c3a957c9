"""The body of a request: what the caller gave, ready to be sent.

Owns ``Body`` and ``make_body``, which decides by argument and type how something is sent. Its invariant: a body is
either bytes in memory, which can be sent as often as needed, or a source of known or unknown length, which says whether
it can start again. Nothing is read, and nothing opened, before ``chunks()``. Called once per request by request.py.
"""

from __future__ import annotations

import io
import json as _json
from collections.abc import AsyncGenerator, Callable, ItemsView, Iterable, Mapping, Sized
from typing import Any

from weft.http.errors import BodyError
from weft.http.multipart import DEFAULT_TYPE, FormData, filename_of, guessed_type, is_file, pairs_of
from weft.http.sources import Source, source_of

__all__ = ["Body", "FormData", "make_body"]

JSON_TYPE = "application/json"
TEXT_TYPE = "text/plain; charset=utf-8"

# Made once: json.dumps() with arguments makes an encoder at each call, which costs more than a small object takes.
_compact = _json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_escaped = _json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode


class Body:
    """The body of one request.

    Attributes:
        content: all of it, where it is in memory; None where it is streamed.
        length: its bytes; None where they can only be counted while they are sent.
        content_type: what the header Content-Type says if the caller does not; None for nothing.
    """

    __slots__ = ("_source", "content", "content_type", "length")

    def __init__(self, content: bytes | Source, content_type: str | None = None) -> None:
        self.content_type = content_type
        if isinstance(content, bytes):
            self.content: bytes | None = content
            self.length: int | None = len(content)
            self._source: Source | None = None
        else:
            self.content = None
            self.length = content.length
            self._source = content

    def __repr__(self) -> str:
        how = "in memory" if self._source is None else "streamed"
        return f"<Body {self.content_type or 'of no type'}, {self.length} bytes, {how}>"

    @property
    def replayable(self) -> bool:
        """Whether it can be sent again: for a retry, a redirect, or after a challenge."""
        return self._source is None or self._source.replayable

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body in pieces, none of them empty; with a known length exactly so many bytes.

        Who stops before the end calls ``aclose()`` on the iterator: it is an async generator.

        Raises:
            BodyError: (while iterating) it cannot be read a second time, gave something else than bytes, or is shorter
                than its length.
        """
        return _whole(self.content or b"") if self._source is None else self._source.chunks()

    def close(self) -> None:
        """Close what was opened for this body. A streamed body cannot be read afterwards. Can be called twice."""
        if self._source is not None:
            self._source.close()


async def _whole(content: bytes) -> AsyncGenerator[bytes, None]:
    if content:
        yield content


def make_body(
    *,
    content: Any = None,
    data: Any = None,
    json: Any = None,
    files: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
    form: FormData | Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
    json_dumps: Callable[[Any], str | bytes] | None = None,
    boundary: str | None = None,
) -> Body | None:
    """Make a body of what a caller gave, or None if that is nothing.

    Args:
        content: sent as it is, without a content type: bytes, str, a file object, a path object, or an iterable or
            async iterable of bytes.
        data: a ``FormData``, a mapping or a list of pairs for a form, which becomes multipart if a value is a file; or
            what ``content`` takes, with a content type that fits.
        json: an object that JSON has, sent in UTF-8 without white space.
        files: a mapping or pairs of field names and files for ``multipart/form-data``; a file is a file object, a path
            object, bytes, str, or a tuple ``(filename, content[, content_type[, headers]])``. ``data`` or ``form``
            gives the fields beside them.
        form: the fields of a form, also where ``data`` would take them for something else.
        json_dumps: makes the text, or the bytes, of ``json``.
        boundary: of a multipart body; random if left out.

    Raises:
        BodyError: the arguments exclude each other, or one is nothing that can be sent.
        TypeError: ``json`` holds an object that JSON does not have.
        OSError: a path that cannot be looked at.
    """
    if data is None and json is None and files is None and form is None:
        if content is None:
            return None
        return Body(content if isinstance(content, bytes) else source_of(content))
    given = (content is not None) + (data is not None) + (json is not None) + (form is not None)
    if given > 1 or (files is not None and (content is not None or json is not None)):
        raise BodyError("a request has one body: give one of content, data, json and form; files go with data or form")
    if json is not None:
        return Body(_json_bytes(json, json_dumps), JSON_TYPE)
    if files is not None or form is not None or _is_form(data):
        return _form_body(data if form is None else form, files, boundary)
    return Body(source_of(data), _type_of(data))


def _is_form(data: Any) -> bool:
    """Whether ``data`` names fields: a list of bytes is a body in pieces, one of pairs is a form."""
    if isinstance(data, dict | str | bytes):
        return isinstance(data, dict)
    if isinstance(data, list | tuple):
        return not data or isinstance(data[0], list | tuple)
    return isinstance(data, FormData | Mapping | ItemsView)


def _form_body(fields: Any, files: Any, boundary: str | None) -> Body | None:
    if isinstance(fields, FormData) and not files:
        return Body(*fields.encode())
    if isinstance(fields, str | bytes) or not (fields is None or hasattr(fields, "__iter__") or _is_form(fields)):
        raise BodyError(f"the fields of a form are a mapping or pairs, not {type(fields).__name__}")
    if not files and (fields is None or (isinstance(fields, Sized) and not fields)):
        return None
    merged = FormData(boundary=boundary)
    if isinstance(fields, FormData):
        merged.extend(fields)
    elif fields is not None:
        merged.add_fields(*pairs_of(fields))
    for name, file in pairs_of(files or ()):
        merged.add_file(name, file)
    return Body(*merged.encode())


def _type_of(data: Any) -> str:
    if isinstance(data, str | io.TextIOBase):
        return TEXT_TYPE
    return guessed_type(filename_of(data)) if is_file(data) or hasattr(data, "__fspath__") else DEFAULT_TYPE


def _json_bytes(value: Any, dumps: Callable[[Any], str | bytes] | None) -> bytes:
    if dumps is not None:
        text = dumps(value)
        return text.encode() if isinstance(text, str) else bytes(text)
    try:
        return _compact(value).encode()
    except UnicodeEncodeError:
        # Half a surrogate pair is no character, but JSON can escape it.
        return _escaped(value).encode()
    except ValueError as error:
        raise BodyError(f"this is no JSON: {error}") from error
