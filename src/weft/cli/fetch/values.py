"""Reads single values of the command line of ``weft fetch``: times, sizes, rates, headers.

Invariant: each function takes the text of one option and gives its value, or raises what argparse shows with the
option's name. Called by argparse for ``options``.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import resource
from urllib.parse import urlsplit

from weft.cli.fetch.model import Refused

__all__ = [
    "check_json",
    "concurrency",
    "count",
    "header",
    "method",
    "proxy",
    "rate",
    "seconds",
    "size",
    "whole",
]

SPARE_FILES = 64  # open files that the process needs besides its connections
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
TIME_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


def whole(text: str) -> int:
    """A whole number, 0 or more."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def count(text: str) -> int:
    """A whole number, 1 or more."""
    number = whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError("0 is too few, it takes at least 1")
    return number


def concurrency(text: str) -> int:
    """A count of connections that this system lets a process have."""
    number = count(text)
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and number + SPARE_FILES > limit:
        raise argparse.ArgumentTypeError(
            f"{number} requests at once take more open files than this system allows ({limit}, see ulimit -Hn)"
        )
    return number


def rate(text: str) -> float:
    """A positive number, with an optional ``/s``."""
    try:
        number = float(text.removesuffix("/s"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of requests per second") from None
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not more than 0")
    return number


def seconds(text: str) -> float:
    """A time such as ``10``, ``10s``, ``500ms`` or ``2m``; 0 for no limit."""
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([a-z]*)\s*", text, re.ASCII)
    if match is None or match[2] not in TIME_UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 10, 10s, 500ms or 2m")
    return float(match[1]) * TIME_UNITS[match[2]]


def size(text: str) -> int:
    """A number of bytes such as ``1000``, ``64K``, ``10M`` or ``2G``, with or without a ``B`` or ``iB`` behind it."""
    match = re.fullmatch(r"(\d+\.?\d*)\s*([KMGT]?)(?:I?B)?", text.strip().upper(), re.ASCII)
    if match is None or not (number := int(float(match[1]) * SIZE_UNITS[match[2]])):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 1000, 64K, 10M or 2G")
    return number


def method(text: str) -> str:
    """A method's name, as written: methods tell capitals from small letters."""
    if not TOKEN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a method such as GET")
    return text


def header(text: str) -> tuple[str, str]:
    """A header's name and value."""
    name, colon, value = text.partition(":")
    if not colon or not TOKEN.fullmatch(name):
        raise argparse.ArgumentTypeError(f"{text!r} is not a header such as 'Accept: text/html'")
    value = value.strip(" \t")
    if any((character < " " and character != "\t") or character == "\x7f" for character in value):
        raise argparse.ArgumentTypeError(f"the value of {name} has a control character in it, such as a line's end")
    return name, value


def proxy(text: str) -> str:
    """A proxy's URL."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in PROXY_SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:  # without the text: it may hold a password
        raise argparse.ArgumentTypeError("not a URL such as http://proxy:3128 or socks5://proxy:1080")
    return text


def check_json(data: bytes) -> None:
    """Makes sure that a body is JSON.

    Raises:
        Refused: with the place where it is not.
    """
    try:
        json.loads(data)
    except ValueError as exc:
        raise Refused(f"--json: not JSON: {exc}") from None
