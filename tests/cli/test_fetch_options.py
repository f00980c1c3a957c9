"""The command line of ``weft fetch``: what it gives, and the one line that says what is wrong with it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from tests.cli.commands import Command
from weft.cli.fetch.model import Refused
from weft.cli.fetch.options import Options, parse

URL = "http://example.com/"


class TestOptions:
    def test_defaults(self) -> None:
        assert parse([URL]) == Options(urls=(URL,), output="-", max_size=64 << 20)

    def test_can_go_to_another_process(self) -> None:
        options = parse([URL, "-H", "A: b", "--rate", "5"])
        assert pickle.loads(pickle.dumps(options)) == options

    def test_options_may_stand_between_urls(self) -> None:
        assert parse(["http://a/", "-c", "3", "http://b/"]).urls == ("http://a/", "http://b/")

    @pytest.mark.parametrize(
        ("text", "seconds"), [("10", 10.0), ("1.5s", 1.5), ("500ms", 0.5), ("2m", 120.0), ("0", 0.0), (".5", 0.5)]
    )
    def test_times(self, text: str, seconds: float) -> None:
        options = parse([URL, "--timeout", text, "--idle-timeout", text])
        assert options.timeout == options.idle_timeout == pytest.approx(seconds)
        assert options.connect_timeout is None

    @pytest.mark.parametrize(
        ("text", "size"), [("1000", 1000), ("64K", 65536), ("1.5m", 3 << 19), ("2GiB", 2 << 30), ("1kB", 1024)]
    )
    def test_sizes(self, text: str, size: int) -> None:
        assert parse([URL, "--max-size", text]).max_size == size

    def test_headers_keep_their_order_and_repetitions(self) -> None:
        options = parse([URL, "-H", "B: 2", "-H", "a:1:2", "-H", "B:"])
        assert options.headers == (("B", "2"), ("a", "1:2"), ("B", ""))

    def test_rate_may_have_its_unit(self) -> None:
        assert parse([URL, "--rate", "2.5/s"]).rate == 2.5

    @pytest.mark.parametrize("option", ["--out-dir", "--db"])
    def test_lines_go_to_standard_output_unless_there_is_something_else(self, option: str, tmp_path: Path) -> None:
        assert parse([URL, option, str(tmp_path / "x")]).output is None
        assert parse([URL, option, str(tmp_path / "x"), "-o", "-"]).output == "-"

    def test_bodies_are_limited_where_they_are_held(self, tmp_path: Path) -> None:
        assert parse([URL, "--out-dir", str(tmp_path)]).max_size is None
        assert parse([URL, "--out-dir", str(tmp_path), "--max-size", "5"]).max_size == 5
        assert parse([URL, "--db", str(tmp_path / "x")]).max_size == 64 << 20


class TestBody:
    def test_data_makes_it_a_form_by_post(self) -> None:
        options = parse([URL, "-d", "a=1"])
        assert (options.method, options.data) == ("POST", b"a=1")
        assert options.headers == (("Content-Type", "application/x-www-form-urlencoded"),)

    def test_json(self) -> None:
        options = parse([URL, "--json", '{"a": 1}', "-X", "PUT"])
        assert (options.method, options.data) == ("PUT", b'{"a": 1}')
        assert options.headers == (("Content-Type", "application/json"),)

    def test_the_users_content_type_is_kept(self) -> None:
        options = parse([URL, "-d", "x", "-H", "content-type: text/plain"])
        assert options.headers == (("content-type", "text/plain"),)

    def test_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "body").write_bytes(b"\0\xff")
        assert parse([URL, "-d", f"@{tmp_path / 'body'}"]).data == b"\0\xff"

    def test_empty_is_a_body(self) -> None:
        assert parse([URL, "-d", ""]).data == b""


class TestWrongUse:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ([], "no URLs: name some"),
            ([URL, "-c", "0"], "0 is too few"),
            ([URL, "-c", "ten"], "'ten' is not a whole number"),
            ([URL, "-c", "999999999"], "more open files than this system allows"),
            ([URL, "--retries", "-1"], "-1 is negative"),
            ([URL, "--rate", "0"], "'0' is not more than 0"),
            ([URL, "--rate", "nan"], "'nan' is not more than 0"),
            ([URL, "--rate", "fast"], "'fast' is not a number of requests per second"),
            ([URL, "--timeout", "soon"], "'soon' is not a time such as"),
            ([URL, "--timeout", "1y"], "'1y' is not a time such as"),
            ([URL, "--timeout", "inf"], "'inf' is not a time such as"),
            ([URL, "--max-size", "0"], "'0' is not a size such as"),
            ([URL, "-H", "nothing"], "'nothing' is not a header such as"),
            ([URL, "-H", "a b: c"], "'a b: c' is not a header such as"),
            ([URL, "-H", "A: x\r\nB: y"], "the value of A has a control character"),
            ([URL, "-X", "G T"], "'G T' is not a method such as GET"),
            ([URL, "--proxy", "ftp://x"], "not a URL such as http://proxy:3128"),
            ([URL, "-d", "a", "--json", "1"], "-d and --json exclude each other"),
            ([URL, "--json", "{"], "--json: not JSON: Expecting"),
            ([URL, "-d", "@/nowhere"], "cannot read /nowhere: No such file"),
            (["-f", "-", "-d", "@-"], "standard input cannot be both"),
            (["-f", "/nowhere"], "cannot read /nowhere: there is no such file"),
            (["-f", "/"], "cannot read /: it is a directory"),
            ([URL, "-o", "/"], "cannot write /: it is a directory"),
            ([URL, "--db", "/nowhere/x"], "there is no directory /nowhere"),
            ([URL, "--db", "-"], "a database cannot go to standard output"),
            ([URL, "--db", "x", "-o", "./x"], "-o and --db name the same file"),
            ([URL, "--resume"], "--resume needs to know what is done"),
            ([URL, "--resume", "-o", "-"], "--resume needs to know what is done"),
            ([URL, "--out-dir", "x", "--body", "text"], "--body text and --out-dir exclude each other"),
            ([URL, "--db", "x", "--body", "base64"], "--body base64 is for JSON lines"),
            ([URL, "--conc", "3"], "unrecognized arguments: --conc"),
        ],
    )
    def test_is_told_in_one_line(self, arguments: list[str], text: str) -> None:
        with pytest.raises(Refused) as caught:
            parse(arguments)
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("option", ["-o", "--db"])
    def test_the_list_is_not_written_over(self, tmp_path: Path, option: str) -> None:
        urls = tmp_path / "urls"
        urls.write_text(URL)
        (tmp_path / "same").symlink_to(urls)
        with pytest.raises(Refused, match="is read from; write the results to another file"):
            parse(["-f", str(urls), option, str(tmp_path / "same")])

    def test_a_proxys_password_is_not_shown(self) -> None:
        with pytest.raises(Refused) as caught:
            parse([URL, "--proxy", "nonsense://user:secret@host"])
        assert "secret" not in str(caught.value)

    def test_as_a_command(self, weft: Command) -> None:
        done = weft("fetch", URL, "--timeout", "soon")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "weft fetch: argument --timeout: 'soon' is not a time such as 10, 10s, 500ms or 2m\n"
