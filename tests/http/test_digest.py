"""Digest authentication: the examples of the RFCs, and a server that checks answers by the letter of the RFC."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.http.auth import DigestAuth
from weft.http.digest import Challenge, parse_challenges
from weft.http.url import URL

HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}

needs_sha512_256 = pytest.mark.skipif(
    "sha512_256" not in hashlib.algorithms_available, reason="this OpenSSL has no SHA-512/256"
)


def fields(header: str | None) -> dict[str, str]:
    """The parameters of an answer."""
    assert header is not None
    (challenge,) = parse_challenges([header])
    assert challenge.scheme == "digest"
    return challenge.parameters


def checks(header: str | None, method: str, user: str, password: str, body: bytes = b"") -> bool:
    """Whether an answer is right, as a server computes it (RFC 7616, 3.4; the realm as UTF-8)."""
    sent = fields(header)
    algorithm = sent.get("algorithm", "MD5")

    def hashed(*parts: Any) -> str:
        data = b":".join(part if isinstance(part, bytes) else part.encode() for part in parts)
        return hashlib.new(HASHES[algorithm.removesuffix("-sess")], data).hexdigest()

    a1 = hashed(user, sent["realm"].encode("latin-1"), password)
    if algorithm.endswith("-sess"):
        a1 = hashed(a1, sent["nonce"], sent["cnonce"])
    a2 = [method, sent["uri"]]
    if sent.get("qop") == "auth-int":
        a2.append(hashed(body))
    middle = [sent["nc"], sent["cnonce"], sent["qop"]] if "qop" in sent else []
    return sent["response"] == hashed(a1, sent["nonce"], *middle, hashed(*a2))


def challenged(challenge: str, url: str = "http://h.example/dir/index.html", **options: Any) -> tuple[DigestAuth, URL]:
    """An object that has seen a challenge, and where."""
    auth = DigestAuth("Mufasa", "Circle of Life", **options)
    assert auth.answer("GET", URL(url), [challenge], None) is True
    return auth, URL(url)


class TestExamplesOfTheRFCs:
    @pytest.mark.parametrize(
        ("algorithm", "response"),
        [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ],
    )
    def test_two_algorithms(self, algorithm: str, response: str) -> None:
        # RFC 7616, section 3.9.1.
        auth, url = challenged(
            f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
            'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
            'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"',
            cnonce=lambda: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        )
        assert auth.header_for("GET", url) == (
            'Digest username="Mufasa", realm="http-auth@example.org", '
            'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", uri="/dir/index.html", '
            f'response="{response}", algorithm={algorithm}, '
            'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS", qop=auth, nc=00000001, '
            'cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"'
        )

    @needs_sha512_256
    def test_a_hidden_user(self) -> None:
        # RFC 7616, section 3.9.2, with the values of erratum 4897.
        auth = DigestAuth("Jäsøn Doe", "Secret, or not?", cnonce=lambda: "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v")
        url = URL("http://api.example.org/doe.json")
        challenge = (
            'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, '
            'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", '
            'opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true'
        )
        assert auth.answer("GET", url, [challenge], None)
        sent = fields(auth.header_for("GET", url))
        assert sent["username"] == "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"
        assert sent["response"] == "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
        assert sent["userhash"] == "true"
        assert sent["algorithm"] == "SHA-512-256"

    def test_the_older_rfc(self) -> None:
        # RFC 2617, section 3.5: no algorithm.
        auth = DigestAuth("Mufasa", "Circle Of Life", cnonce=lambda: "0a4f113b")
        url = URL("http://www.nowhere.org/dir/index.html")
        challenge = (
            'Digest realm="testrealm@host.com", qop="auth,auth-int", '
            'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
        )
        assert auth.answer("GET", url, [challenge], None)
        sent = fields(auth.header_for("GET", url))
        assert sent["response"] == "6629fae49393a05397450978507c4ef1"
        assert "algorithm" not in sent

    def test_the_oldest_rfc(self) -> None:
        # RFC 2069, section 2.4, with the value of erratum 749: no qop.
        auth = DigestAuth("Mufasa", "CircleOfLife")
        url = URL("http://www.nowhere.org/dir/index.html")
        assert auth.answer(
            "GET", url, ['Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'], None
        )
        sent = fields(auth.header_for("GET", url))
        assert sent["response"] == "1949323746fe6a43ef61f9606e7febea"
        assert not {"qop", "nc", "cnonce", "opaque"} & set(sent)


class TestAgainstAServer:
    @pytest.mark.parametrize("qop", ["", "auth", "auth-int", "auth,auth-int", "unknown, AUTH"])
    @pytest.mark.parametrize("session", ["", "-sess"])
    @pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", pytest.param("SHA-512-256", marks=needs_sha512_256)])
    def test_every_kind(self, algorithm: str, session: str, qop: str) -> None:
        url = URL("http://h.example/a%20b?c=d,e#f")
        challenge = f'Digest realm="r", nonce="n", algorithm={algorithm}{session}' + (f', qop="{qop}"' if qop else "")
        auth = DigestAuth("user", "pass:word")
        assert auth.answer("POST", url, [challenge], b"body")
        header = auth.header_for("POST", url)
        assert checks(header, "POST", "user", "pass:word", b"body")
        assert not checks(header, "POST", "user", "other", b"body")
        assert checks(header, "POST", "user", "pass:word", b"other") is (qop != "auth-int")
        assert fields(header)["uri"] == "/a%20b?c=d,e"

    @given(
        user=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
        password=st.text(st.characters(exclude_categories=["Cs"])),
        realm=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"])),
    )
    def test_any_text(self, user: str, password: str, realm: str) -> None:
        escaped = realm.replace("\\", "\\\\").replace('"', '\\"')
        auth = DigestAuth(user, password)
        assert auth.answer("GET", URL("http://h/"), [f'Digest realm="{escaped}",nonce="n",qop="auth"'], None)
        header = auth.header_for("GET", URL("http://h/"))
        assert fields(header)["realm"] == realm
        assert checks(header, "GET", user, password)
        if user.isascii():
            assert fields(header)["username"] == user
        else:
            assert header is not None
            assert header.startswith("Digest username*=UTF-8'")
            assert header.isascii() or not realm.isascii()

    def test_a_user_beyond_ascii(self) -> None:
        auth = DigestAuth("Jäsøn", "x")
        assert auth.answer("GET", URL("http://h/"), ['Digest realm="r", nonce="n", qop="auth"'], None)
        assert fields(auth.header_for("GET", URL("http://h/")))["username*"] == "UTF-8''J%C3%A4s%C3%B8n"


class TestCounting:
    def test_each_answer_counts(self) -> None:
        auth, url = challenged('Digest realm="r", nonce="n", qop="auth"')
        answers = [fields(auth.header_for("GET", url)) for _ in range(17)]
        assert [answer["nc"] for answer in answers] == [f"{number:08x}" for number in range(1, 18)]
        assert len({answer["response"] for answer in answers}) == 17

    def test_the_same_challenge_again_goes_on_counting(self) -> None:
        # Requests that were sent side by side are all refused with one nonce, and it must not be used twice alike.
        challenge = 'Digest realm="r", nonce="n", qop="auth"'
        auth, url = challenged(challenge)
        first = fields(auth.header_for("GET", url))
        assert auth.answer("GET", url, [challenge], None) is True
        second = fields(auth.header_for("GET", url))
        assert (first["nc"], second["nc"]) == ("00000001", "00000002")
        assert first["cnonce"] == second["cnonce"]

    def test_a_stale_nonce_gives_way_to_the_new_one(self) -> None:
        auth, url = challenged('Digest realm="r", nonce="old", qop="auth"')
        auth.header_for("GET", url)
        assert auth.answer("GET", url, ['Digest realm="r", nonce="new", qop="auth", stale=TRUE'], None) is True
        sent = fields(auth.header_for("GET", url))
        assert (sent["nonce"], sent["nc"]) == ("new", "00000001")
        assert "stale" not in sent
        assert checks(auth.header_for("GET", url), "GET", "Mufasa", "Circle of Life")

    def test_client_nonces_differ(self) -> None:
        challenge = 'Digest realm="r", nonce="n", qop="auth"'
        assert (
            len(
                {
                    fields(auth.header_for("GET", url))["cnonce"]
                    for auth, url in (challenged(challenge) for _ in range(20))
                }
            )
            == 20
        )


class TestWhere:
    def test_nothing_before_the_challenge_and_nothing_elsewhere(self) -> None:
        auth = DigestAuth("me", "secret")
        url = URL("http://h.example/a")
        assert auth.header_for("GET", url) is None
        assert auth.answer("GET", url, ['Digest realm="r", nonce="n", qop="auth"'], None)
        assert fields(auth.header_for("PUT", URL("http://h.example/b?c")))["uri"] == "/b?c"
        for other in ("https://h.example/a", "http://h.example:81/a", "http://other.example/a"):
            assert auth.header_for("GET", URL(other)) is None

    def test_each_server_has_its_own(self) -> None:
        auth = DigestAuth("me", "secret")
        for host in ("a", "b"):
            assert auth.answer("GET", URL(f"http://{host}/"), [f'Digest realm="{host}", nonce="n{host}"'], None)
        assert fields(auth.header_for("GET", URL("http://a/")))["nonce"] == "na"
        assert fields(auth.header_for("GET", URL("http://b/")))["nonce"] == "nb"

    def test_servers_without_end(self) -> None:
        auth = DigestAuth("me", "secret")
        for number in range(1100):
            auth.answer("GET", URL(f"http://h{number}/"), ['Digest realm="r", nonce="n"'], None)
        assert auth.header_for("GET", URL("http://h1099/")) is not None
        assert auth.header_for("GET", URL("http://h0/")) is None

    def test_a_body_that_is_not_known_is_not_covered(self) -> None:
        auth, url = challenged('Digest realm="r", nonce="n", qop="auth-int"')
        assert auth.header_for("POST", url) is None
        assert checks(auth.header_for("GET", url), "GET", "Mufasa", "Circle of Life")
        assert auth.answer("POST", url, ['Digest realm="r", nonce="n", qop="auth-int"'], b"x")
        assert checks(auth.header_for("POST", url), "POST", "Mufasa", "Circle of Life", b"x")
        assert auth.header_for("POST", URL("http://h.example/other")) is None


class TestWhichChallenge:
    @pytest.mark.parametrize(
        ("challenges", "algorithm"),
        [
            (
                ['Digest realm="r", nonce="n", algorithm=SHA-256', 'Digest realm="r", nonce="n", algorithm=MD5'],
                "SHA-256",
            ),
            (['Digest realm="r", nonce="n", algorithm=MD5, Digest realm="r", nonce="n", algorithm=SHA-256'], "MD5"),
            (
                ['Digest realm="r", nonce="n", algorithm=MD6', 'Digest realm="r", nonce="n", algorithm=md5-SESS'],
                "md5-SESS",
            ),
            (['Digest realm="r", nonce="n", qop="odd"', 'digest realm=r,nonce=n,algorithm="MD5"'], "MD5"),
            (['Basic realm="x", DIGEST realm="r", nonce="n", algorithm=MD5'], "MD5"),
            (["Negotiate YWJj==, Digest realm=r, nonce=n, algorithm=MD5, Basic realm=x"], "MD5"),
        ],
    )
    def test_the_first_that_can_be_answered(self, challenges: list[str], algorithm: str) -> None:
        auth = DigestAuth("me", "secret")
        assert auth.answer("GET", URL("http://h/"), challenges, None) is True
        assert fields(auth.header_for("GET", URL("http://h/")))["algorithm"] == algorithm

    @pytest.mark.parametrize(
        "challenges",
        [
            [],
            [""],
            ["Basic realm=x"],
            ["Digest"],
            ['Digest realm="r"'],
            ['Digest nonce="n"'],
            ['Digest realm="r", nonce="n", algorithm=SHA-1'],
            ['Digest realm="r", nonce="n", qop="auth-conf"'],
            ['Digest realm="r", nonce="n", qop=""'],
            ['realm="r", nonce="n"'],
        ],
    )
    def test_none(self, challenges: list[str]) -> None:
        auth = DigestAuth("me", "secret")
        assert auth.answer("GET", URL("http://h/"), challenges, None) is False
        assert auth.header_for("GET", URL("http://h/")) is None


class TestParsing:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("Basic", [("basic", {})]),
            ("Basic realm=x", [("basic", {"realm": "x"})]),
            ('Basic realm="x, y=z"', [("basic", {"realm": "x, y=z"})]),
            (r'Basic realm="a\"b\\c\d"', [("basic", {"realm": 'a"b\\cd'})]),
            ('Basic realm = "x" , charset= UTF-8', [("basic", {"realm": "x", "charset": "UTF-8"})]),
            ('A b=c, D e="f",g=h', [("a", {"b": "c"}), ("d", {"e": "f", "g": "h"})]),
            ("A, B, C d=e", [("a", {}), ("b", {}), ("c", {"d": "e"})]),
            (", ,A b=c,,\td=e,", [("a", {"b": "c", "d": "e"})]),
            ("NTLM TlRMTVNTUAAC/+==, Basic realm=x", [("ntlm", {}), ("basic", {"realm": "x"})]),
            ("A b=c, B=d", [("a", {"b": "c"})]),  # of two with one name the first
            ('A b="unfinished', [("a", {"b": ""})]),
            ('A b="", c=d', [("a", {"b": "", "c": "d"})]),
            ("A =, B", [("a", {})]),
            ('"x" A', []),
        ],
    )
    def test_tables(self, value: str, expected: list[tuple[str, dict[str, str]]]) -> None:
        assert parse_challenges([value]) == [Challenge(scheme, parameters) for scheme, parameters in expected]

    def test_several_headers(self) -> None:
        assert [one.scheme for one in parse_challenges(["A", "B c=d, E", ""])] == ["a", "b", "e"]

    @given(st.text())
    def test_anything(self, text: str) -> None:
        parse_challenges([text, f"Digest {text}", f'Digest realm="{text}'])

    @given(st.dictionaries(st.from_regex(r"[a-z]{1,5}\*?", fullmatch=True), st.text(st.characters(codec="latin-1"))))
    def test_what_is_quoted_is_read(self, parameters: dict[str, str]) -> None:
        quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in parameters.values())
        text = ", ".join(f'{name}="{value}"' for name, value in zip(parameters, quoted, strict=True))
        assert parse_challenges([f"Scheme {text}, Other"]) == [Challenge("scheme", parameters), Challenge("other")]
