"""Who the user is: the credentials that go with a request, and the answers to a server's challenge.

Owns the classes behind a client's ``auth``. Their invariant: an object gives its credentials out in ``header_for`` and
nowhere else: neither ``repr()`` nor an error shows them. To which servers they go is the client's business.
Called by the client before each request, and after a response of the status 401.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import lru_cache
from netrc import NetrcParseError, netrc
from os import PathLike
from secrets import token_hex
from typing import Final

from weft.http.digest import DigestSpace, choose_digest
from weft.http.url import URL

__all__ = ["Auth", "BasicAuth", "BearerAuth", "DigestAuth", "NetrcAuth", "netrc_auth", "netrc_path"]

_MAX_SPACES: Final = 1000  # Servers whose challenge is kept: as many as a client has URLs prepared.


class Auth:
    """Base of the ways to say who the user is; by itself it says nothing."""

    __slots__ = ()

    def header_for(self, method: str, url: URL) -> str | None:
        """The value of ``Authorization`` for a request, or None to send none."""
        return None

    def answer(self, method: str, url: URL, challenges: list[str], body: bytes | None) -> bool:
        """Learns from a response of the status 401.

        The client asks once per request, and a second time after ``stale``, lest a wrong password be sent for ever.

        Args:
            method: the method of the request that was refused.
            url: its URL.
            challenges: the values of ``WWW-Authenticate``.
            body: its body; None if there is none, or none that is known.

        Returns:
            Whether to send it again, with what :meth:`header_for` then gives.
        """
        return False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"


class BasicAuth(Auth):
    """Name and password, sent with each request.

    Args:
        login: the user's name.
        password: the password.
        encoding: how both become bytes.

    Raises:
        ValueError: a colon in the name, which HTTP cannot write, or a character that the encoding has not.

    Source: RFC 7617.
    """

    __slots__ = ("_header", "_login")

    def __init__(self, login: str, password: str = "", encoding: str = "utf-8") -> None:
        if ":" in login:
            raise ValueError("a colon cannot be in the name for basic authentication: the password begins there")
        self._login = login
        try:
            data = f"{login}:{password}".encode(encoding)
        except UnicodeEncodeError:
            # The one of the codec has the password in it.
            raise ValueError(f"name or password has a character that {encoding} cannot write; try utf-8") from None
        self._header = "Basic " + b64encode(data).decode()

    @classmethod
    def decode(cls, header: str, encoding: str = "utf-8") -> BasicAuth:
        """The credentials of a header ``Authorization``.

        Raises:
            ValueError: it has none of this scheme.
        """
        scheme, _, data = header.strip().partition(" ")
        try:
            text = b64decode(data.strip(), validate=True).decode(encoding)
        except ValueError:
            text = ""
        login, colon, password = text.partition(":")
        if scheme.lower() != "basic" or not colon:
            raise ValueError("this is not a header of basic authentication")
        return cls(login, password, encoding)

    @property
    def login(self) -> str:
        """The user's name."""
        return self._login

    def encode(self) -> str:
        """The value of ``Authorization``."""
        return self._header

    def header_for(self, method: str, url: URL) -> str | None:
        """Name and password, whatever the request."""
        return self._header

    def __eq__(self, other: object) -> bool:
        return self._header == other._header if isinstance(other, BasicAuth) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._header)

    def __repr__(self) -> str:
        return f"BasicAuth({self._login!r}, ***)"


class BearerAuth(Auth):
    """A token, sent with each request.

    Args:
        token: the token, or what gives the token of the moment; it is called for each request.

    Source: RFC 6750.
    """

    __slots__ = ("_token",)

    def __init__(self, token: str | Callable[[], str]) -> None:
        self._token = token

    def header_for(self, method: str, url: URL) -> str | None:
        """The token of the moment."""
        token = self._token
        return f"Bearer {token if isinstance(token, str) else token()}"


class DigestAuth(Auth):
    """Name and password, of which a server gets a hash only, of each request.

    The first request to a server is refused with a challenge; from then on the answer goes along. A challenge counts
    for all of its server.

    Args:
        login: the user's name.
        password: the password.
        cnonce: gives a random text; for tests.

    Source: RFC 7616, with MD5, SHA-256, SHA-512-256 and their ``-sess``, ``auth`` and ``auth-int``, ``userhash``.
    """

    __slots__ = ("_cnonce", "_login", "_password", "_spaces")

    def __init__(self, login: str, password: str, *, cnonce: Callable[[], str] = token_hex) -> None:
        self._login = login
        self._password = password
        self._cnonce = cnonce
        self._spaces: dict[tuple[str, str, int], DigestSpace] = {}

    def header_for(self, method: str, url: URL) -> str | None:
        """The answer to the last challenge of that server; None before the first."""
        space = self._spaces.get(url.origin)
        return None if space is None else space.answer(method, url.target)

    def answer(self, method: str, url: URL, challenges: list[str], body: bytes | None) -> bool:
        """Keeps the challenge, if it is one of this kind that can be answered."""
        parameters = choose_digest(challenges)
        if parameters is None:
            return False
        space = self._spaces.pop(url.origin, None)
        if space is None or not space.continues(parameters):
            space = DigestSpace(parameters, self._login, self._password, self._cnonce())
        self._spaces[url.origin] = space
        if len(self._spaces) > _MAX_SPACES:
            del self._spaces[next(iter(self._spaces))]
        space.expect(method, url.target, body or b"")
        return True

    def __repr__(self) -> str:
        return f"DigestAuth({self._login!r}, ***)"


class NetrcAuth(Auth):
    """Name and password of each host from a file, as curl and ftp have it; read when the first request is made.

    Args:
        path: the file; left out, the one that ``$NETRC`` names or ``~/.netrc``, which need not be there.

    Raises:
        OSError: at the first request: the file cannot be read.
        ValueError: at the first request: it is not such a file.

    Source: netrc(5).
    """

    __slots__ = ("_file", "_path")

    def __init__(self, path: str | PathLike[str] | None = None) -> None:
        self._path = path
        self._file: netrc | None = None

    def header_for(self, method: str, url: URL) -> str | None:
        """Name and password for the URL's host, if the file has them."""
        if self._file is None:
            path = netrc_path() if self._path is None else os.fspath(self._path)
            try:
                self._file = netrc(path)
            except FileNotFoundError:
                if self._path is not None:
                    raise
                self._file = netrc(os.devnull)
            except NetrcParseError as error:
                # The text of the error may quote a password.
                raise ValueError(f"{path}, line {error.lineno}: this is not a netrc file") from None
        auth = _of_host(self._file, url.host)
        return None if auth is None else auth.encode()

    def __repr__(self) -> str:
        return f"NetrcAuth({self._path!r})" if self._path is not None else "NetrcAuth()"


def netrc_auth(host: str) -> BasicAuth | None:
    """Name and password for a host from the user's netrc file; None if there is no file, no entry or no sense in it."""
    path = netrc_path()
    try:
        status = os.stat(path)
        return _of_host(_read_netrc(path, status.st_mtime_ns, status.st_size), host)
    except (OSError, ValueError, NetrcParseError):
        # Nobody asked for this file, so it is no reason to fail.
        return None


@lru_cache(maxsize=4)
def _read_netrc(path: str, changed: int, size: int) -> netrc:
    """A netrc file, read again only after it was changed."""
    return netrc(path)


def netrc_path() -> str:
    """The user's netrc file."""
    return os.environ.get("NETRC") or os.path.expanduser("~/.netrc")


def _of_host(file: netrc, host: str) -> BasicAuth | None:
    """What a file has for a host, or by default."""
    found = file.authenticators(host)
    return None if found is None else BasicAuth(found[0] or "", found[2] or "")
