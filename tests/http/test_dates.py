"""Dates in headers: the formats of the RFCs, what servers make of them, and what is none."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.http.dates import parse_date

MOMENT = 784111777.0  # the moment of RFC 9110's examples


class TestParse:
    @pytest.mark.parametrize(
        "text",
        [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "06 nov 1994 8:49:37",
            "1994 6 November 08:49:37pm",
            "Sun,06/Nov/1994/08:49:37",
            "08:49:37 06 Nov 94",
        ],
    )
    def test_one_moment_in_many_ways(self, text: str) -> None:
        assert parse_date(text) == MOMENT

    @pytest.mark.parametrize(
        ("year", "meant"), [("69", 2069), ("70", 1970), ("99", 1999), ("00", 2000), ("2100", 2100)]
    )
    def test_years(self, year: str, meant: int) -> None:
        assert parse_date(f"01 Jan {year} 00:00:00 GMT") == datetime(meant, 1, 1, tzinfo=UTC).timestamp()

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "soon",
            "Sun, 06 Nov 1994",
            "06 Nov 08:49:37",
            "Nov 1994 08:49:37",
            "06 1994 08:49:37",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:60 GMT",
            "Sun, 06 Nov 1600 08:49:37 GMT",
            "Sun, 06 Nov 100 08:49:37 GMT",
            "Sun, 06 Nov 19940 08:49:37 GMT",
            "Sun, 06 Nov ١٩٩٤ 08:49:37 GMT",
            "x" * 100_000,
        ],
    )
    def test_what_is_no_date(self, text: str) -> None:
        assert parse_date(text) is None

    @given(st.datetimes(datetime(1601, 1, 1), datetime(9999, 12, 31)))
    def test_what_the_standard_library_writes(self, moment: datetime) -> None:
        moment = moment.replace(microsecond=0, tzinfo=UTC)
        assert parse_date(format_datetime(moment, usegmt=True)) == moment.timestamp()

    @given(st.text())
    def test_anything_else_is_none(self, text: str) -> None:
        assert parse_date(text) is None or any(character.isdigit() for character in text)
