"""Points in time as servers write them.

Owns the reading of dates in headers: the three formats of RFC 9110 and whatever else servers send, by the tolerant
rules that RFC 6265 gives for cookies. Its invariant: a text that is no date gives None, never an exception.
Called by the cookie jar (``Expires``) and the retries (``Retry-After``).
"""

from __future__ import annotations

import re
from calendar import timegm
from datetime import date
from typing import Final

__all__ = ["parse_date"]

_TOKEN: Final = re.compile(r"[^\t\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_TIME: Final = re.compile(r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[^0-9].*)?", re.DOTALL)
_DAY: Final = re.compile(r"([0-9]{1,2})(?:[^0-9].*)?", re.DOTALL)
_YEAR: Final = re.compile(r"([0-9]{2,4})(?:[^0-9].*)?", re.DOTALL)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_LONGEST: Final = 100  # Characters; the longest of the formats has 33.


def parse_date(text: str) -> float | None:
    """Seconds since 1970 of a date in a header, or None if it is none.

    Source: RFC 6265, section 5.1.1, which also reads the formats of RFC 9110, section 5.6.7.
    """
    time: tuple[int, ...] | None = None
    day = month = year = None
    for token in _TOKEN.findall(text[:_LONGEST]):
        # Each token is the first thing that it can be and that is not known yet.
        if time is None and (match := _TIME.fullmatch(token)):
            time = tuple(map(int, match.groups()))
        elif day is None and (match := _DAY.fullmatch(token)):
            day = int(match[1])
        elif month is None and token[:3].lower() in _MONTHS:
            month = _MONTHS.index(token[:3].lower()) + 1
        elif year is None and (match := _YEAR.fullmatch(token)):
            year = int(match[1])
    if time is None or day is None or month is None or year is None:
        return None
    if year < 100:
        year += 1900 if year >= 70 else 2000
    hour, minute, second = time
    if year < 1601 or hour > 23 or minute > 59 or second > 59:
        return None
    try:
        date(year, month, day)
    except ValueError:
        return None
    return float(timegm((year, month, day, hour, minute, second)))
