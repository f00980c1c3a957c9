"""Link headers (RFC 8288)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from weft.http.errors import InvalidURLError
from weft.http.url import URL

__all__ = ["parse_links"]

_LINK = re.compile(r"\s*<([^>]*)>((?:\s*;\s*[^\s=;,]+\s*(?:=\s*(?:\"(?:\\.|[^\"\\])*\"|[^\s;,]*))?)*)\s*(?:,|$)")
_PARAMETER = re.compile(r";\s*([^\s=;,]+)\s*(?:=\s*(?:\"((?:\\.|[^\"\\])*)\"|([^\s;,]*)))?")


def parse_links(lines: Iterable[str], base: URL) -> dict[str, dict[str, str]]:
    """The links by relation (or by URL where they have none): each with its ``url``, resolved, and its parameters."""
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        for match in _LINK.finditer(line):
            try:
                link = {"url": str(base.join(match[1]))}
            except InvalidURLError:
                continue
            for name, quoted, plain in _PARAMETER.findall(match[2]):
                link.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) if quoted else plain)
            for relation in link.get("rel", link["url"]).split():
                found.setdefault(relation, link)
    return found
