"""The headers of a message: a mapping that ignores case and keeps order, repetition and spelling.

Owns :class:`Headers`, and how pairs become the bytes of a head. Its invariants: what was added is there in the order
and the spelling in which it was added; and :func:`encode_headers` writes exactly one line per pair, whatever is in it.
Names and values are checked there and not when they are set, as nobody is harmed by what is not sent.
Responses use it when somebody looks at their headers, requests when they are prepared.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from functools import lru_cache
from typing import Any, Final, TypeAlias, TypeVar, overload

from weft.http.errors import InvalidHeaderError

__all__ = ["Headers", "HeadersLike", "encode_headers"]

HeadersLike: TypeAlias = "Mapping[str, str] | Iterable[tuple[str, str]]"
T = TypeVar("T")

# RFC 9110, section 5.6.2.
_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# RFC 9110, section 5.5: a value has no control characters but the tab.
_CONTROLS: Final = bytes(code for code in (*range(0x20), 0x7F) if code != 0x09)

# How a body is framed follows from the body (RFC 9112, section 6).
_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
_SECRETS: Final = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie"})


class _Items(ItemsView[str, str]):
    """Every pair, those of a repeated name as well."""

    __slots__ = ()
    _mapping: Headers

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._mapping._pairs)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2 or not isinstance(item[0], str):
            return False
        return item[1] in self._mapping.get_list(item[0])


class _Values(ValuesView[str]):
    """Every value, those of a repeated name as well."""

    __slots__ = ()
    _mapping: Headers

    def __iter__(self) -> Iterator[str]:
        return (value for _, value in self._mapping._pairs)

    def __contains__(self, value: object) -> bool:
        return any(value == one for _, one in self._mapping._pairs)


class Headers(MutableMapping[str, str]):
    """The headers of a message: ``headers["content-type"]``, in any case.

    A name may be there several times. ``h[name]`` is its first value and :meth:`get_list` has all; ``h[name] = value``
    replaces them, :meth:`add` adds one. Iteration and ``len()`` count every pair, in the order of the message.

    Args:
        other: what to begin with: another one, a mapping, or pairs of name and value.

    Source: RFC 9110, section 5.
    """

    __slots__ = ("_block", "_first", "_lines", "_pairs")

    _pairs: list[tuple[str, str]]
    # The first value of each name in lower case; None until somebody asks, and again after most changes.
    _first: dict[str, str] | None
    # What block() gave; None until somebody asks, and again after a change.
    _block: tuple[bytes, bool] | None
    # What each pair is in it, as far as that was asked for: one that is set does not make the others anew.
    _lines: list[bytes | None]

    def __init__(self, other: HeadersLike | None = None) -> None:
        self._changed()
        self._pairs = [] if other is None else _pairs_of(other)

    @classmethod
    def from_head(cls, head: bytes) -> Headers:
        r"""The headers of a head as it came: first line, header lines and an empty line, each ended by ``\r\n``.

        The head must have been checked already (a colon in each line, no bare line ends). Values are latin-1, without
        the white space around them.
        """
        headers = cls.__new__(cls)
        headers._changed()
        pairs = headers._pairs = []
        for line in head.decode("latin-1").split("\r\n")[1:-2]:
            name, _, value = line.partition(":")
            pairs.append((name, value.strip(" \t")))
        return headers

    # -- reading

    def _index(self) -> dict[str, str]:
        """The first value of each name in lower case."""
        # Turned round, so that of several the first is the one that is written last.
        first = self._first = {name.lower(): value for name, value in reversed(self._pairs)}
        return first

    def __getitem__(self, name: str) -> str:
        first = self._first
        if first is None:
            first = self._index()
        try:
            return first[name.lower()]
        except KeyError:
            raise KeyError(name) from None

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str | T) -> str | T: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        """The first value of that name."""
        first = self._first
        if first is None:
            first = self._index()
        return first.get(name.lower(), default)

    def get_list(self, name: str) -> list[str]:
        """Every value of that name in order; none gives an empty list."""
        name = name.lower()
        return [value for one, value in self._pairs if one.lower() == name]

    def getall(self, name: str) -> list[str]:
        """The same as :meth:`get_list`, under the name that aiohttp's users know."""
        return self.get_list(name)

    def __contains__(self, name: object) -> bool:
        first = self._first
        if first is None:
            first = self._index()
        return isinstance(name, str) and name.lower() in first

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def items(self) -> ItemsView[str, str]:
        """Every pair in order, those of a repeated name as well."""
        return _Items(self)

    def values(self) -> ValuesView[str]:
        """Every value in order."""
        return _Values(self)

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """Every pair as bytes: latin-1, or UTF-8 where that cannot write it."""
        return [(_as_bytes(name), _as_bytes(value)) for name, value in self._pairs]

    def copy(self) -> Headers:
        """Another one with the same pairs."""
        headers = Headers.__new__(Headers)
        headers._pairs = self._pairs.copy()
        headers._first = None if self._first is None else self._first.copy()
        headers._lines = self._lines.copy()
        headers._block = self._block
        return headers

    __copy__ = copy

    def block(self) -> tuple[bytes, bool]:
        """The lines as HTTP/1 sends them, without those on how the body is framed, and whether Host is among them.

        Raises:
            InvalidHeaderError: as :func:`encode_headers`.
        """
        if self._block is None:
            lines, pairs = self._lines, self._pairs
            if None in lines:
                for index, line in enumerate(lines):
                    if line is None:
                        lines[index] = _line_of(*pairs[index])
            for name, value in pairs[len(lines) :]:
                lines.append(_line_of(name, value))
            self._block = b"".join(lines), "Host" in self  # type: ignore[arg-type]
        return self._block

    # -- writing

    def _changed(self) -> None:
        """What was made of the pairs counts no more."""
        self._first = self._block = None
        self._lines = []

    def add(self, name: str, value: str) -> None:
        """Adds a header, beside those of the same name.

        Raises:
            TypeError: one of them is not a string.
        """
        self._pairs.append(_checked(name, value))
        self._block = None
        if self._first is not None:
            self._first.setdefault(name.lower(), value)

    def __setitem__(self, name: str, value: str) -> None:
        pair = _checked(name, value)
        lowered = name.lower()
        pairs = self._pairs
        first = self._first
        if first is None:
            first = self._index()
        self._block = None
        if lowered not in first:
            pairs.append(pair)
            first[lowered] = value
            return
        # The new one stands where the first stood.
        names = [one.lower() for one, _ in pairs]
        where = names.index(lowered)
        pairs[where] = pair
        first[lowered] = value
        if names.count(lowered) > 1:
            pairs[where + 1 :] = [one for one in pairs[where + 1 :] if one[0].lower() != lowered]
            self._lines = []
        elif where < len(self._lines):
            self._lines[where] = None

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        lowered = name.lower()
        self._pairs = [pair for pair in self._pairs if pair[0].lower() != lowered]
        self._changed()

    def update(self, other: HeadersLike = (), /, **more: str) -> None:  # type: ignore[override]
        """Replaces every name that occurs in ``other``, by all the values that it has there."""
        pairs = _pairs_of(other) + _pairs_of(more)
        replaced = {name.lower() for name, _ in pairs}
        self._pairs = [pair for pair in self._pairs if pair[0].lower() not in replaced] + pairs
        self._changed()

    def extend(self, other: HeadersLike) -> None:
        """Adds every pair of ``other``, beside what is there."""
        self._pairs += _pairs_of(other)
        self._changed()

    def clear(self) -> None:
        """Removes all."""
        self._pairs = []
        self._changed()

    # -- as an object

    def __eq__(self, other: object) -> bool:
        """Whether both have the same names, in any case, and for each the same values in the same order."""
        if not isinstance(other, Mapping):
            return NotImplemented
        theirs: Iterable[tuple[Any, Any]] = other.items()
        return _by_name(self._pairs) == _by_name(theirs)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = [(name, "***" if name.lower() in _SECRETS else value) for name, value in self._pairs]
        return f"Headers({shown!r})"


def _by_name(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """The values of each name in lower case."""
    found: dict[Any, list[Any]] = {}
    for name, value in pairs:
        found.setdefault(name.lower() if isinstance(name, str) else name, []).append(value)
    return found


def _pairs_of(other: HeadersLike) -> list[tuple[str, str]]:
    """The pairs of anything that :class:`Headers` can begin with, as a new list."""
    if isinstance(other, Headers):
        return other._pairs.copy()
    return [_checked(name, value) for name, value in (other.items() if isinstance(other, Mapping) else other)]


def _checked(name: str, value: str) -> tuple[str, str]:
    """The pair, if both are strings."""
    if isinstance(name, str) and isinstance(value, str):
        return name, value
    wrong, what = (value, "value") if isinstance(name, str) else (name, "name")
    raise TypeError(f"the {what} of the header {name!r} must be a str, not {type(wrong).__name__}; use str() on it")


# -- to bytes


def _line_of(name: str, value: str) -> bytes:
    """A pair as requests send it; b"" for what says how a body is framed, as the body says that itself."""
    return b"" if name.lower() in _FRAMING else _line(name, value)


def encode_headers(pairs: Iterable[tuple[str, str]]) -> bytes:
    r"""The header lines of a head: ``Name: value\r\n`` for each pair; the empty line is not among them.

    Args:
        pairs: names and values. A value is written in latin-1, or in UTF-8 if it has a character beyond that.

    Raises:
        InvalidHeaderError: a name that is no token, or a value with a line end, a NUL or another control character:
            sent as they are, they would be read as something else (RFC 9110, section 5.5).
    """
    return b"".join([_line(name, value) for name, value in pairs])


def _line(name: str, value: str) -> bytes:
    start = _name_and_colon(name)
    # The usual value: visible ASCII and spaces.
    return start + (value.encode() if value.isascii() and value.isprintable() else _value(name, value)) + b"\r\n"


@lru_cache(maxsize=512)
def _name_and_colon(name: str) -> bytes:
    """A name as it is sent, with the colon and the space after it."""
    data = _as_bytes(name)
    if not data or data.translate(None, _TOKEN):
        raise InvalidHeaderError(
            f"{name!r} cannot be the name of a header: letters, digits and !#$%&'*+-.^_`|~ can stand in one"
        )
    return data + b": "


def _value(name: str, value: str) -> bytes:
    """A value as it is sent, if it can be."""
    data = _as_bytes(value)
    if len(data.translate(None, _CONTROLS)) != len(data):
        # The value is not shown, as it may be a secret.
        raise InvalidHeaderError(
            f"the value of the header {name!r} has a line end or another control character in it. "
            "Remedy: strip() what was read from a file, and let nobody else write headers for you"
        )
    return data


def _as_bytes(text: str) -> bytes:
    """Latin-1, as HTTP/1 has it, or UTF-8 where that cannot write it."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        pass
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidHeaderError("a header contains half of a surrogate pair, which is no character") from None
