"""From samples to tables: the arithmetic, the files, the page. No measurement is made here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

import bench.cases  # noqa: F401  registers every case
from bench import page, report, store
from bench.choice import choose
from bench.clients import PERFORMERS, Client
from bench.contenders import FIELD
from bench.field import Contender, Field
from bench.model import CASES, Aim, Case, Metric, Sample, register, select
from bench.stats import Spread, advantage, spread

SLEEP = "scheduler.sleep0"
ECHO = "tcp.protocol-64x10"


def run_of(samples: dict[str, dict[str, list[Sample | None]]], date: str = "2026-01-01 00:00 UTC") -> store.Run:
    circumstances: dict[str, object] = {
        "python": "CPython 3.13.0",
        "cpu": "Some CPU",
        "cores": 2,
        "kernel": "Linux 6.1",
        "machine": "x86_64",
        "versions": {"asyncio": "3.13.0", "uvloop": "0.21"},
        "date": date,
        "load_average": [0.1, 0.2, 0.3],
    }
    return store.make_run(circumstances, {"rounds": 2, "scale": 1.0}, samples, [])


def nanoseconds(*values: float | None) -> list[Sample | None]:
    return [None if value is None else {"cpu_ns": value} for value in values]


class TestStats:
    def test_spread_is_the_median_and_both_ends(self) -> None:
        assert spread([5.0, 1.0, 3.0]) == Spread(3.0, 1.0, 5.0)

    def test_failed_rounds_are_left_out(self) -> None:
        assert spread([None, 2.0, None]) == Spread(2.0, 2.0, 2.0)
        assert spread([None]) is None
        assert spread([]) is None

    def test_ratio_is_taken_within_each_round(self) -> None:
        """The machine became three times slower in round two; the ratio of the medians would be 1.5."""
        ours, theirs = [10.0, 30.0, 30.0], [20.0, 60.0, 60.0]
        assert advantage(ours, theirs, more_is_better=False) == Spread(2.0, 2.0, 2.0)

    def test_more_than_one_is_better_whichever_way_the_metric_goes(self) -> None:
        assert advantage([200.0], [100.0], more_is_better=True) == Spread(2.0, 2.0, 2.0)
        assert advantage([50.0], [100.0], more_is_better=False) == Spread(2.0, 2.0, 2.0)

    def test_a_round_in_which_one_failed_gives_no_ratio(self) -> None:
        assert advantage([None, 10.0], [10.0, 40.0], more_is_better=False) == Spread(4.0, 4.0, 4.0)
        assert advantage([None], [10.0], more_is_better=False) is None


class TestRegistry:
    def test_every_case_says_what_it_is_and_how_it_is_measured(self) -> None:
        for name, case in CASES.items():
            assert name == case.name
            assert "." in name and not set(" |") & set(name)
            assert case.title and len(case.how) > 40
            assert case.metrics and case.seconds > 0

    def test_a_name_is_taken_once(self) -> None:
        with pytest.raises(ValueError, match="registered twice"):
            register(CASES[SLEEP])

    def test_select_by_part_of_name_by_pattern_and_quick(self) -> None:
        assert [case.name for case in select([SLEEP + "*"])] == [SLEEP, SLEEP + "-100"]
        assert {case.group for case in select(["memory"])} == {"memory"}
        assert all(case.quick for case in select([], quick=True))
        assert len(select([])) == len(CASES)

    def test_select_refuses_what_matches_nothing(self) -> None:
        with pytest.raises(LookupError, match="--list"):
            select(["no-such-case"])


@dataclass(frozen=True)
class Lacking(Contender):
    def missing(self) -> str:
        return "not installed: try something else"


CLIENTS = Field(
    (Contender("slow"), Lacking("lacking"), Contender("ours")), "ours", ("slow",), (Contender("floor"),), tall=True
)


def client_case(*aims: Aim, field: Field = CLIENTS, missing: str = "") -> Case:
    metrics = (Metric("cpu", "CPU s"), Metric("rate", "per s", more_is_better=True, compared=True), Metric("n", "n"))
    return Case(
        "c.case", "a case", "how", field, metrics, lambda name, seconds: {}, 1.0, aims=aims, missing=lambda: missing
    )


class TestField:
    def test_floors_take_part_with_those_who_compete(self) -> None:
        assert CLIENTS.names == ["floor", "slow", "lacking", "ours"]
        assert CLIENTS.rivals == ["slow", "lacking"]
        assert CLIENTS.entrants(["floor", "ours"]) == ["ours", "floor"]
        assert CLIENTS.entrants(["floor", "uvloop"]) == []

    def test_a_case_may_do_without_some_and_with_another_floor(self) -> None:
        assert CLIENTS.without("slow", "floor").names == ["lacking", "ours"]
        assert CLIENTS.with_floors(Contender("C")).names == ["C", "slow", "lacking", "ours"]
        with pytest.raises(LookupError, match="no-one: not in the field of floor, slow"):
            CLIENTS.without("no-one")

    def test_a_name_stands_once(self) -> None:
        with pytest.raises(ValueError, match="twice in the field"):
            CLIENTS.with_floors(Contender("slow"))

    def test_names_mean_the_same_in_all_fields(self) -> None:
        found: dict[str, Contender] = {}
        for case in CASES.values():
            for one in case.field.everyone:
                assert found.setdefault(one.name, one) == one

    def test_aims_name_rivals_and_metrics_that_there_are(self) -> None:
        for case in CASES.values():
            for aim in case.aims:
                assert aim.rival is None or aim.rival in case.field.names, case.name
                assert case.metric(aim.key) in case.metrics

    def test_a_clients_driver_exists(self) -> None:
        for name, one in PERFORMERS.items():
            assert one.name == name
            module, _, function = (one.session if isinstance(one, Client) else one.driver).partition(":")
            assert callable(getattr(import_module(f"bench.clients.{module}"), function))


class TestChoice:
    def test_what_is_missing_is_left_out_with_a_word(self) -> None:
        choice = choose([client_case()], None)
        assert choice.names == ["floor", "slow", "ours"]
        assert choice.left_out == ["lacking: not installed: try something else"]

    def test_a_case_whose_server_is_missing_is_left_out_with_a_word(self) -> None:
        choice = choose([client_case(missing="needs nginx"), CASES[SLEEP]], ["asyncio"])
        assert choice.cases == [CASES[SLEEP]]
        assert choice.left_out == ["c.case: needs nginx"]
        assert list(choice.versions) == ["asyncio"]

    def test_floors_come_with_whoever_is_chosen(self) -> None:
        choice = choose([CASES[ECHO], CASES["http.get-100"]], ["asyncio"])
        assert choice.cases == [CASES[ECHO]]
        assert {"C epoll", "asyncio"} <= set(choice.names)
        assert choice.left_out == ["http.get-100: none of its contenders was chosen"]

    def test_a_name_that_nobody_has_is_refused(self) -> None:
        with pytest.raises(LookupError, match="unknown contender 'no-one': choose from asyncio"):
            choose([CASES[SLEEP]], ["no-one"])


class TestStore:
    def test_a_newer_run_replaces_its_own_cases_only(self) -> None:
        old = run_of({SLEEP: {"weft": nanoseconds(1.0)}, ECHO: {"weft": [{"rate": 5.0}]}}, "2026-01-01 00:00 UTC")
        new = run_of({SLEEP: {"weft": nanoseconds(2.0)}}, "2026-02-02 00:00 UTC")
        found = store.results(store.merge([old], new))
        assert found[SLEEP].values("weft", "cpu_ns") == [2.0]
        assert found[SLEEP].circumstances["date"].startswith("2026-02")
        assert found[ECHO].values("weft", "rate") == [5.0]
        assert found[ECHO].circumstances["date"].startswith("2026-01")

    def test_a_run_without_cases_left_goes(self) -> None:
        old = run_of({SLEEP: {"weft": nanoseconds(1.0)}})
        assert len(store.merge([old], run_of({SLEEP: {"weft": nanoseconds(2.0)}}))) == 1

    def test_a_file_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        runs = [run_of({SLEEP: {"weft": nanoseconds(241.5, None), "uvloop": nanoseconds(890.0, 900.0)}})]
        store.save(tmp_path / "a.json", runs)
        assert store.load(tmp_path / "a.json") == runs
        assert json.loads((tmp_path / "a.json").read_text())["runs"] == runs

    def test_no_file_is_no_runs(self, tmp_path: Path) -> None:
        assert store.load(tmp_path / "none.json") == []

    def test_newest_python_first(self, tmp_path: Path) -> None:
        for version in ("3.9", "3.14", "3.11"):
            store.save(tmp_path / f"cpython-{version}-x86_64-cpu-2.json", [])
        assert [stem.split("-")[1] for stem, _ in store.committed(tmp_path)] == ["3.14", "3.11", "3.9"]

    def test_committed_results_name_no_path(self) -> None:
        for stem, runs in store.committed():
            text = store.dumps(runs)
            assert "/root" not in text and "/home" not in text and "/tmp" not in text, stem


class TestReport:
    def results(self) -> dict[str, store.CaseResult]:
        return store.results(
            [
                run_of(
                    {
                        SLEEP: {
                            "asyncio": nanoseconds(1000.0, 2000.0),
                            "uvloop": nanoseconds(600.0, 1200.0),
                            "rloop": nanoseconds(180.0, 420.0),
                            "weft": nanoseconds(200.0, 400.0),
                        }
                    }
                )
            ]
        )

    def test_a_row_holds_every_contender_and_both_ratios(self) -> None:
        (rows,) = report.groups(self.results()).values()
        (table,) = report.tables(rows)
        head, line = table
        assert head == [
            "scheduler, CPU ns",
            "asyncio",
            "uvloop",
            "rloop",
            "weft",
            "weft vs asyncio",
            "weft vs uvloop",
            "aim",
        ]
        assert line[1] == "1,500 (1,000-2,000)"
        assert line[5:] == ["5.00x (5.00-5.00)", "3.00x (3.00-3.00)", "2.8x: met"]

    def test_where_weft_is_not_ahead_is_said(self) -> None:
        (one,) = report.not_ahead(self.results())
        assert (one.rival, one.verdict) == ("rloop", "level")

    def test_without_weft_there_are_no_ratios(self) -> None:
        found = store.results([run_of({SLEEP: {"asyncio": nanoseconds(1.0)}})])
        (rows,) = report.groups(found).values()
        assert report.tables(rows)[0][0] == ["scheduler, CPU ns", "asyncio"]
        assert report.not_ahead(found) == []

    def test_a_compared_metric_gets_its_own_table_and_others_the_details(self) -> None:
        sample = {metric.key: 1.0 for metric in CASES[ECHO].metrics}
        found = store.results([run_of({ECHO: {"C epoll": [sample], "weft": [sample]}})])
        (rows,) = report.groups(found).values()
        assert [table[0][0] for table in report.tables(rows)] == ["tcp, server CPU µs/message", "tcp, messages/s"]
        assert [line[1] for line in report.detail_table(rows)[1:]] == ["C epoll", "weft"]

    def test_a_tall_field_has_a_table_per_case_and_a_row_per_contender(self) -> None:
        aims = (Aim(2.0, "slow"), Aim(5.0, "slow", "rate"), Aim(0.5, "floor"), Aim(4.0))
        case = client_case(*aims)
        rounds: dict[str, list[Sample | None]] = {
            "ours": [{"cpu": 5.0, "rate": 8.0, "n": 1.0}] * 2,
            "floor": [{"cpu": 2.0, "rate": 20.0, "n": 1.0}] * 2,
            "slow": [{"cpu": 10.0, "rate": 4.0, "n": 1.0}, None],
        }
        (table,) = report.tables([(case, store.CaseResult("c.case", rounds, {}))])
        assert table[0] == ["a case", "CPU s", "per s", "n", "ours vs it, CPU s", "ours vs it, per s", "aim"]
        assert table[1] == [
            *["floor", "2.00 (2.00-2.00)", "20.0 (20.0-20.0)", "1.00"],
            *["0.40x (0.40-0.40)", "0.40x (0.40-0.40)", "CPU s 0.5x: missed"],
        ]
        assert table[2][4:] == ["2.00x (2.00-2.00)", "2.00x (2.00-2.00)", "CPU s 2x: met, per s 5x: missed"]
        assert table[3] == ["ours", "5.00 (5.00-5.00)", "8.00 (8.00-8.00)", "1.00", "-", "-", "CPU s ≤ 4.00: missed"]
        assert report.detail_table([(case, store.CaseResult("c.case", rounds, {}))]) == []

    def test_without_the_subject_such_a_table_has_figures_only(self) -> None:
        rounds: dict[str, list[Sample | None]] = {"slow": [{"cpu": 10.0, "rate": 4.0, "n": 1.0}]}
        (table,) = report.tables([(client_case(Aim(2.0, "slow")), store.CaseResult("c.case", rounds, {}))])
        assert table == [["a case", "CPU s", "per s", "n"], ["slow", "10.0 (10.0-10.0)", "4.00 (4.00-4.00)", "1.00"]]

    def test_an_aim_without_a_figure_is_only_named(self) -> None:
        nothing = store.CaseResult("c.case", {"ours": [None]}, {})
        assert report.aim_cell(client_case(), nothing, Aim(3.0, "slow")) == "3x"
        assert report.aim_cell(client_case(), nothing, Aim(3.0, key="rate")) == "≥ 3.00"

    def test_each_subject_has_a_summary_of_its_own(self) -> None:
        loops = store.CaseResult(SLEEP, {"weft": nanoseconds(1.0), "uvloop": nanoseconds(2.0)}, {})
        ours = store.CaseResult("c.case", {"ours": [{"cpu": 5.0, "rate": 8.0}]}, {})
        found = report.summaries([(CASES[SLEEP], loops), (client_case(), ours)])
        assert [table[0] for table in found] == [
            ["", "asyncio", "uvloop", "weft", "weft vs asyncio", "weft vs uvloop"],
            ["", "slow", "ours", "ours vs slow"],
        ]
        unmeasured = store.CaseResult("c.case", {"slow": [{"cpu": 5.0}]}, {})
        assert report.summaries([(client_case(), unmeasured)]) == []

    def test_a_failed_contender_leaves_a_dash(self) -> None:
        found = store.results([run_of({SLEEP: {"uvloop": nanoseconds(None), "weft": nanoseconds(1.0)}})])
        (rows,) = report.groups(found).values()
        assert report.tables(rows)[0][1][1:] == ["-", "1.00 (1.00-1.00)", "-", "2.8x"]

    def test_a_case_that_no_longer_exists_is_left_out(self) -> None:
        assert report.groups(store.results([run_of({"gone.case": {"weft": nanoseconds(1.0)}})])) == {}

    def test_terminal_tables_are_aligned(self) -> None:
        lines = report.as_text([["case", "a"], ["x", "1"], ["longer", "22"]]).splitlines()
        assert lines == ["case     a", "------  --", "x        1", "longer  22"]


class TestPage:
    def test_the_page_says_what_the_committed_results_say(self) -> None:
        assert page.is_current(), "run `python -m bench --write-docs`"

    def test_a_changed_table_is_noticed(self) -> None:
        text = page.PAGE.read_text()
        broken = text.replace("`scheduler.sleep0`", "`scheduler.sleep9`", 1)
        assert broken != text
        assert page.refresh(broken) == text

    def test_text_outside_the_markers_is_kept(self) -> None:
        text = "mine\n" + page.PAGE.read_text() + "also mine\n"
        assert page.refresh(text) == text

    def test_a_missing_marker_is_named(self) -> None:
        with pytest.raises(ValueError, match="<!-- results"):
            page.refresh("# no markers")

    def test_every_case_is_described(self) -> None:
        text = page.cases_section()
        assert all(case.how in text for case in CASES.values())


def test_a_metric_is_compared_when_it_is_first_or_says_so() -> None:
    metrics = (Metric("a", "s"), Metric("b", "s"), Metric("c", "s", compared=True))
    case = Case("x.y", "t", "h", FIELD, metrics, lambda contender, seconds: {}, 1.0)
    assert [metric.key for metric in case.compared] == ["a", "c"]
