"""Digest authentication without a client: challenges read, answers computed.

Owns the reading of ``WWW-Authenticate`` and :class:`DigestSpace`, which answers one challenge for any number of
requests. Its invariant: the nonce count grows with each answer to the same nonce, and no answer holds the password.
Called by :mod:`weft.http.auth` only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

__all__ = ["Challenge", "DigestSpace", "choose_digest", "parse_challenges"]

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PARAMETER: Final = re.compile(rf'({_TOKEN.pattern})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))', re.DOTALL)
_SPACES: Final = re.compile(r"[ \t]*")
_TOKEN68: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_BETWEEN: Final = re.compile(r"[ \t,]*")

_HASHES: Final = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}


@dataclass(frozen=True)
class Challenge:
    """One challenge: its scheme in lower case, and its parameters by name in lower case (RFC 9110, section 11.3)."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """The challenges of ``WWW-Authenticate`` headers, of which each may hold several; what is none ends its header."""
    found: list[Challenge] = []
    for value in values:
        position = _end(_BETWEEN, value, 0)
        current: Challenge | None = None
        while position < len(value):
            parameter = _PARAMETER.match(value, position)
            if parameter and current:
                name, quoted, token = parameter.groups()
                text = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
                # Of two with one name the first counts, as no proxy can put its own before it.
                current.parameters.setdefault(name.lower(), text)
                position = parameter.end()
            elif scheme := _TOKEN.match(value, position):
                current = Challenge(scheme[0].lower())
                found.append(current)
                start = _end(_SPACES, value, scheme.end())
                position = _end(_TOKEN68, value, start) if start > scheme.end() else start
            else:
                break
            position = _end(_BETWEEN, value, position)
    return found


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Where what matches there ends."""
    match = pattern.match(text, position)
    return match.end() if match else position


def choose_digest(values: Iterable[str]) -> dict[str, str] | None:
    """The parameters of the first digest challenge that can be answered (RFC 7616, section 3.7), or None."""
    for challenge in parse_challenges(values):
        parameters = challenge.parameters
        if challenge.scheme != "digest" or not {"realm", "nonce"} <= set(parameters):
            continue
        name = parameters.get("algorithm", "MD5").upper().removesuffix("-SESS")
        if _HASHES.get(name) not in hashlib.algorithms_available:
            continue
        if "qop" not in parameters or {"auth", "auth-int"} & set(_qualities(parameters)):
            return parameters
    return None


def _qualities(parameters: dict[str, str]) -> list[str]:
    """The qualities of protection that a server offers."""
    return [quality.strip().lower() for quality in parameters.get("qop", "").split(",")]


class DigestSpace:
    """The answers to one challenge.

    Args:
        parameters: those of the challenge, as :func:`choose_digest` gives them.
        login: the user's name.
        password: the password.
        cnonce: this client's nonce, the same for all answers.
    """

    __slots__ = ("_body", "_cnonce", "_count", "_hash", "_login", "_parameters", "_quality", "_secret")

    def __init__(self, parameters: dict[str, str], login: str, password: str, cnonce: str) -> None:
        self._parameters = parameters
        self._login = login
        self._cnonce = cnonce
        self._count = 0
        self._body: tuple[str, str, str] | None = None  # method, target and hash of the body of the request to repeat
        algorithm = parameters.get("algorithm", "MD5").upper()
        self._hash = _hash_of(algorithm.removesuffix("-SESS"))
        offered = _qualities(parameters)
        self._quality = next((one for one in ("auth", "auth-int") if one in offered), "")
        secret = self._hash(b"%b:%b:%b" % (login.encode(), _as_sent(parameters["realm"]), password.encode()))
        if algorithm.endswith("-SESS"):
            secret = self._hash(_as_sent(f"{secret}:{parameters['nonce']}:{cnonce}"))
        self._secret = secret

    def continues(self, parameters: dict[str, str]) -> bool:
        """Whether a challenge is this one again, so that its count must go on."""
        return {**parameters, "stale": ""} == {**self._parameters, "stale": ""}

    def expect(self, method: str, target: str, body: bytes) -> None:
        """Keeps the hash of a body that is sent next, for where the answer covers it."""
        if self._quality == "auth-int":
            self._body = (method, target, self._hash(body))

    def answer(self, method: str, target: str) -> str | None:
        """The value of ``Authorization`` for a request, or None if it must cover a body that is not known.

        Source: RFC 7616, section 3.4.
        """
        what = f"{method}:{target}"
        if self._quality == "auth-int":
            digest = self._body_hash(method, target)
            if digest is None:
                return None
            what += f":{digest}"
        hashed = self._hash(what.encode())
        self._count += 1
        count = f"{self._count:08x}"
        middle = f":{count}:{self._cnonce}:{self._quality}" if self._quality else ""
        response = self._hash(_as_sent(f"{self._secret}:{self._parameters['nonce']}{middle}:{hashed}"))
        return "Digest " + ", ".join(self._fields(target, count, response))

    def _body_hash(self, method: str, target: str) -> str | None:
        """The hash of the body of a request: the one expected, or that of no body where there usually is none."""
        if self._body is not None and self._body[:2] == (method, target):
            return self._body[2]
        return self._hash(b"") if method in {"GET", "HEAD", "OPTIONS"} else None

    def _fields(self, target: str, count: str, response: str) -> Iterable[str]:
        """What stands in the header; which values are in quotes is fixed, as old servers look no closer."""
        parameters = self._parameters
        realm = parameters["realm"]
        hides_user = parameters.get("userhash", "").lower() == "true"
        if hides_user:
            yield f'username="{self._hash(b"%b:%b" % (self._login.encode(), _as_sent(realm)))}"'
        elif self._login.isascii():
            yield f"username={_quoted(self._login)}"
        else:
            yield f"username*=UTF-8''{quote(self._login, safe='')}"
        yield f"realm={_quoted(realm)}"
        yield f"nonce={_quoted(parameters['nonce'])}"
        yield f'uri="{target}"'
        yield f'response="{response}"'
        if "algorithm" in parameters:
            yield f"algorithm={parameters['algorithm']}"
        if "opaque" in parameters:
            yield f"opaque={_quoted(parameters['opaque'])}"
        if self._quality:
            yield f"qop={self._quality}"
            yield f"nc={count}"
        if self._quality or parameters.get("algorithm", "").upper().endswith("-SESS"):
            yield f'cnonce="{self._cnonce}"'
        if hides_user:
            yield "userhash=true"


def _hash_of(algorithm: str) -> Callable[[bytes], str]:
    """The hash function of that name, giving hexadecimal text."""
    name = _HASHES[algorithm]

    def digest(data: bytes) -> str:
        # Builds of OpenSSL that do not allow MD5 for security allow it so; which one it is the server decides.
        return hashlib.new(name, data, usedforsecurity=False).hexdigest()

    return digest


def _as_sent(text: str) -> bytes:
    """The bytes of what a server sent, which headers give as latin-1 whatever it is."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _quoted(text: str) -> str:
    """A quoted string (RFC 9110, section 5.6.4)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
