"""``docs/conformance.md`` says what the committed results and the list of exclusions say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.conformance import exclusions, report
from tools.conformance.supervise import Outcome
from tools.conformance.verdict import Verdict


def test_the_page_is_up_to_date() -> None:
    page = report.DOCS.read_text()
    assert page == report.spliced(page, report.markdown(report.load(), exclusions.load())), (
        "docs/conformance.md is out of date: run python -m tools.conformance --docs"
    )


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="must contain the lines"):
        report.spliced("no markers", "text")


def test_the_table_names_what_failed() -> None:
    verdict = Verdict("test_x", passed=1, valid=2, failed={"test_x.C.test_y": Outcome("hung", "line 1\nline 2", 60.0)})
    assert "C.test_y (hung)" in report.table("title", [verdict])
    assert "FAILED test_x.C.test_y (hung, 60.0 s)" in report.remarks([verdict], [], verbose=False)


def test_saving_one_target_keeps_the_others(tmp_path: Path) -> None:
    report.save("3.12.1", {"weft": {"version": "1", "modules": {}}}, tmp_path)
    path = report.save("3.12.2", {"uvloop": {"version": "2", "modules": {}}}, tmp_path)
    saved = json.loads(path.read_text())
    assert path.name == "3.12.json"
    assert saved["python"] == "3.12.2"
    assert list(saved["targets"]) == ["uvloop", "weft"]
