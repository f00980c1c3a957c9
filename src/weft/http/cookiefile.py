"""Cookies as a file.

Owns the format: a JSON object with its version and a list of cookies, each an object of the fields of
:class:`~weft.http.cookies.Cookie`. Its invariant: a file is complete or not there, as it is written beside the old one
and renamed; only its owner can read it. Called by the cookie jar.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Iterable
from contextlib import suppress
from os import PathLike
from typing import Any, Final

__all__ = ["read_cookies", "write_cookies"]

_FORMAT: Final = 1

_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "secure": (bool,),
    "http_only": (bool,),
    "host_only": (bool,),
    "expires": (int, float, type(None)),
    "created": (int, float),
    "same_site": (str, type(None)),
}


def write_cookies(path: str | PathLike[str], cookies: Iterable[dict[str, Any]]) -> None:
    """Writes a file, or leaves what is there.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps({"format": _FORMAT, "cookies": list(cookies)}, indent=1)
    path = os.fspath(path)
    descriptor, beside = tempfile.mkstemp(prefix=os.path.basename(path), dir=os.path.dirname(path) or ".")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # Else the new name may outlive a crash, and the content not.
            os.fsync(descriptor)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def read_cookies(path: str | PathLike[str], names: Collection[str]) -> list[dict[str, Any]]:
    """The cookies of a file, with those fields that have one of these names.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a file of this format.
    """
    with open(path, encoding="utf-8") as file:
        try:
            content = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path}: this is not a file of cookies ({error})") from None
    if (
        not isinstance(content, dict)
        or content.get("format") != _FORMAT
        or not isinstance(content.get("cookies"), list)
    ):
        raise ValueError(f"{path}: this is not a file of cookies that CookieJar.save() wrote")
    cookies = []
    for cookie in content["cookies"]:
        if not isinstance(cookie, dict):
            raise ValueError(f"{path}: a cookie in this file is not an object")
        for name, value in cookie.items():
            if name in names and not isinstance(value, _KINDS.get(name, (str,))):
                raise ValueError(f"{path}: {name!r} of a cookie in this file cannot be {value!r}")
        cookies.append({name: value for name, value in cookie.items() if name in names})
    return cookies
