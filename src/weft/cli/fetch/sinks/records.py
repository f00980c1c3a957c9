"""A result as a JSON record, and a body as text where it is text.

Invariant: a record is one line of valid UTF-8, whatever the peer sent; ``url`` and ``ok`` come first.
Used by the sink of JSON lines, and by the database for the headers.
"""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Sequence
from typing import Any

from weft.cli.fetch.model import Result

__all__ = ["body_fields", "headers_json", "line"]

# Codecs a peer may choose by name: not Python's other ones (punycode takes quadratic time, unicode_escape warns).
TEXT_CODECS = ("utf-8", "utf-16", "utf-32", "iso8859", "latin", "ascii", "cp", "koi8", "big5", "gb", "euc", "shift",
               "iso2022", "mac", "hz", "johab", "tis")  # fmt: skip


def line(result: Result, body: str, show_headers: bool) -> bytes:
    """A record as a line.

    Args:
        result: what became of an item.
        body: ``auto``, ``text``, ``base64`` or ``none``.
        show_headers: whether the response's headers belong into it.
    """
    fields: dict[str, Any] = {"url": result.item.url, "ok": result.ok}
    if result.item.line is not None:
        fields["line"] = result.item.line
    fields |= {"status": result.status, "final_url": result.final_url, "started": round(result.started, 6),
               "seconds": round(result.seconds, 6)}  # fmt: skip
    if result.first_byte is not None:
        fields["first_byte"] = round(result.first_byte, 6)
    fields["size"] = result.size
    if result.error is not None:
        fields |= {"error": result.error, "message": result.message}
    if show_headers and result.headers is not None:
        fields["headers"] = result.headers
    if result.file is not None:
        fields["file"] = result.file
    if result.body is not None:
        fields |= body_fields(result.body, result.charset, body)
    # A lone surrogate (UTF-16 can be wrong in that way) becomes \udc80, which is how JSON writes it.
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace") + b"\n"


def body_fields(body: bytes, charset: str | None, form: str) -> dict[str, str]:
    """The body under ``body`` if it is shown as text, under ``body_base64`` if it is not."""
    if form == "none":
        return {}
    if form == "base64":
        return {"body_base64": base64.b64encode(body).decode()}
    errors = "strict" if form == "auto" else "replace"
    try:
        text = body.decode(_codec(charset), errors)
    except (UnicodeError, LookupError):
        text = None
    if text is None or (form == "auto" and "\0" in text):
        return {"body_base64": base64.b64encode(body).decode()}
    return {"body": text}


def headers_json(headers: Sequence[tuple[str, str]] | None) -> str | None:
    """Headers as a JSON list of pairs: their order and repetitions mean something."""
    return None if headers is None else json.dumps(headers, ensure_ascii=False, separators=(",", ":"))


def _codec(charset: str | None) -> str:
    try:
        name = codecs.lookup(charset or "utf-8").name
    except (LookupError, ValueError):  # ValueError: a NUL in it
        return "utf-8"
    return name if name.startswith(TEXT_CODECS) else "utf-8"
