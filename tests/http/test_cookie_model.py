"""The cookie jar against a list that is searched in the plainest way, and what is kept of it in a file."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.http.cookies import CookieJar
from weft.http.url import URL

HOSTS = ["h.example", "www.h.example", "a.www.h.example", "other.example", "127.0.0.1"]
PATHS = ["/", "/x", "/x/", "/x/y"]


class Model:
    """A list of cookies, each a dict, in the order of their age."""

    def __init__(self) -> None:
        self.cookies: list[dict[str, Any]] = []
        self.now = 1000.0

    def update(self, host: str, secure: bool, cookie: dict[str, Any]) -> None:
        self.valid()
        domain = cookie["domain"]
        if cookie["secure"] and not secure:
            return
        if domain is not None and not (host == domain or (host.endswith("." + domain) and host != "127.0.0.1")):
            return
        kept = {**cookie, "domain": domain or host, "host_only": domain is None or host == "127.0.0.1"}
        kept["expires"] = None if cookie["age"] is None else self.now + cookie["age"]
        if not secure and any(
            one["secure"] and one["name"] == kept["name"] and self.path_fits(one, kept["path"])
            for one in self.valid()
            if self.host_fits(one, host)
        ):
            return
        for index, one in enumerate(self.cookies):
            if all(one[key] == kept[key] for key in ("name", "domain", "path")):
                self.cookies[index] = kept
                return
        self.cookies.append(kept)

    def valid(self) -> list[dict[str, Any]]:
        # What ended is gone: it does not lend its age to one that comes later.
        self.cookies = [one for one in self.cookies if one["expires"] is None or one["expires"] > self.now]
        return self.cookies

    @staticmethod
    def host_fits(one: dict[str, Any], host: str) -> bool:
        return bool(host == one["domain"] or (not one["host_only"] and host.endswith("." + one["domain"])))

    @staticmethod
    def path_fits(one: dict[str, Any], path: str) -> bool:
        return path == one["path"] or (path.startswith(one["path"].rstrip("/") + "/") and path.startswith(one["path"]))

    def header_for(self, host: str, path: str, secure: bool) -> str | None:
        found = [
            one
            for one in self.valid()
            if self.host_fits(one, host) and self.path_fits(one, path) and (secure or not one["secure"])
        ]
        found.sort(key=lambda one: -len(one["path"]))
        return "; ".join(f"{one['name']}={one['value']}" for one in found) or None


def header(cookie: dict[str, Any]) -> str:
    """The Set-Cookie header of a cookie of the model."""
    text = f"{cookie['name']}={cookie['value']}; Path={cookie['path']}"
    text += f"; Domain={cookie['domain']}" if cookie["domain"] else ""
    text += f"; Max-Age={cookie['age']}" if cookie["age"] is not None else ""
    return text + ("; Secure" if cookie["secure"] else "")


cookies = st.fixed_dictionaries(
    {
        "name": st.sampled_from("ab"),
        "value": st.sampled_from("123"),
        "path": st.sampled_from(PATHS),
        "domain": st.none() | st.sampled_from(HOSTS),
        "age": st.none() | st.integers(0, 3),
        "secure": st.booleans(),
    }
)
steps = st.lists(
    st.tuples(st.sampled_from(HOSTS), st.booleans(), cookies, st.sampled_from([0, 0, 0, 1, 2])), max_size=12
)


class TestAgainstAModel:
    @given(steps)
    def test_every_answer(self, steps: list[tuple[str, bool, dict[str, Any], int]]) -> None:
        model = Model()
        jar = CookieJar(clock=lambda: model.now, public_suffix=lambda domain: "." not in domain)
        cache: dict[URL, tuple[int, str | None]] = {}
        for host, secure, cookie, wait in steps:
            jar.update([header(cookie)], URL(f"{'https' if secure else 'http'}://{host}/"))
            model.update(host, secure, cookie)
            model.now += wait
            self.compare(model, jar, cache)

    @staticmethod
    def compare(model: Model, jar: CookieJar, cache: dict[URL, tuple[int, str | None]]) -> None:
        for host in HOSTS:
            for path in PATHS:
                for secure in (True, False):
                    url = URL(f"{'https' if secure else 'http'}://{host}{path}")
                    expected = model.header_for(host, path, secure)
                    version, known = cache.get(url, (-1, None))
                    if version == jar.version:
                        assert known == expected, "the version stayed, and the answer did not"
                    assert jar.header_for(url) == expected
                    cache[url] = (jar.version, expected)
        assert len(jar) == len(list(jar)) == len(model.valid())


class TestFile:
    @given(steps)
    def test_what_is_saved_is_loaded(self, steps: list[tuple[str, bool, dict[str, Any], int]]) -> None:
        jar = CookieJar(clock=lambda: 1000.0)
        for host, secure, cookie, _ in steps:
            jar.update([header(cookie)], URL(f"{'https' if secure else 'http'}://{host}/"))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cookies.json"
            jar.save(path)
            other = CookieJar(clock=lambda: 1000.0)
            other.load(path)
        assert [self.without_age(one) for one in other] == [self.without_age(one) for one in jar]
        for host in HOSTS:
            assert other.header_for(URL(f"https://{host}/x/y")) == jar.header_for(URL(f"https://{host}/x/y"))

    @staticmethod
    def without_age(cookie: Any) -> tuple[Any, ...]:
        return tuple(getattr(cookie, name) for name in cookie.__slots__ if name != "created")

    def test_only_the_owner_can_read_it(self, tmp_path: Path) -> None:
        path = tmp_path / "cookies.json"
        path.write_text("old")
        path.chmod(0o644)
        jar = CookieJar()
        jar.set("a", "é", domain="h.example")
        jar.save(str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert json.loads(path.read_text())["cookies"][0]["value"] == "é"
        assert os.listdir(tmp_path) == ["cookies.json"]

    def test_the_old_file_stays_until_the_new_one_is_complete(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "cookies.json"
        path.write_text("old")

        def fail(*arguments: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            CookieJar().save(path)
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["cookies.json"]

    def test_what_has_ended_is_not_loaded(self, tmp_path: Path) -> None:
        jar = CookieJar(clock=lambda: 0.0)
        jar.set("a", "b", domain="h.example", expires=10.0)
        jar.set("c", "d", domain="h.example", expires=20.0)
        jar.save(tmp_path / "cookies.json")
        later = CookieJar(clock=lambda: 15.0)
        later.set("c", "replaced", domain="h.example")
        later.set("e", "f", domain="h.example")
        later.load(tmp_path / "cookies.json")
        assert {cookie.name: cookie.value for cookie in later} == {"c": "d", "e": "f"}

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "[]",
            "{}",
            '{"format": 2, "cookies": []}',
            '{"format": 1, "cookies": {}}',
            '{"format": 1, "cookies": [1]}',
            '{"format": 1, "cookies": [{"name": "a", "value": "b"}]}',
            '{"format": 1, "cookies": [{"name": "a", "value": 1, "domain": "h"}]}',
            '{"format": 1, "cookies": [{"name": "a", "value": "b", "domain": "h", "expires": "x"}]}',
            '{"format": 1, "cookies": [{"name": "a", "value": "b", "domain": "h", "secure": 1}]}',
            '{"format": 1, "cookies": [{"name": "x", "value": "y", "domain": "h"}, {"name": "a"}]}',
        ],
    )
    def test_another_file(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "other.json"
        path.write_text(content)
        jar = CookieJar()
        with pytest.raises(ValueError, match=r"other\.json"):
            jar.load(path)
        assert not jar

    def test_fields_of_a_later_version_are_left_out(self, tmp_path: Path) -> None:
        path = tmp_path / "cookies.json"
        path.write_text('{"format": 1, "cookies": [{"name": "a", "value": "b", "domain": "h", "later": 1}]}')
        jar = CookieJar()
        jar.load(path)
        assert jar.header_for(URL("http://h/")) == "a=b"

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            CookieJar().load(tmp_path / "nothing.json")
