"""Credentials: what each way of authentication sends, to which server, and that nothing else shows it."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.http.auth import Auth, BasicAuth, BearerAuth, DigestAuth, NetrcAuth, netrc_auth
from weft.http.url import URL

ANYWHERE = URL("http://h.example/")


class TestAuth:
    def test_the_base_says_nothing(self) -> None:
        assert Auth().header_for("GET", ANYWHERE) is None
        assert Auth().answer("GET", ANYWHERE, ["Basic"], None) is False

    def test_a_class_of_the_users(self) -> None:
        class Key(Auth):
            def __init__(self, key: str) -> None:
                self.key = key

            def header_for(self, method: str, url: URL) -> str | None:
                return f"Key {self.key}"

        assert Key("secret").header_for("GET", ANYWHERE) == "Key secret"
        assert "secret" not in repr(Key("secret"))


class TestBasic:
    def test_examples_of_the_rfc(self) -> None:
        # RFC 7617, sections 2 and 2.1.
        assert BasicAuth("Aladdin", "open sesame").encode() == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        assert BasicAuth("test", "123£").header_for("GET", ANYWHERE) == "Basic dGVzdDoxMjPCow=="
        assert BasicAuth("test", "123£", "latin-1").encode() == "Basic " + b64encode(b"test:123\xa3").decode()

    def test_no_password(self) -> None:
        assert BasicAuth("token").encode() == "Basic " + b64encode(b"token:").decode()

    def test_what_cannot_be_written(self) -> None:
        with pytest.raises(ValueError, match="colon"):
            BasicAuth("a:b", "c")
        with pytest.raises(ValueError, match="latin-1") as caught:
            BasicAuth("a", "€secret", "latin-1")
        assert "secret" not in str(caught.value)
        assert caught.value.__context__ is None or caught.value.__suppress_context__

    @given(
        st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"])), st.text(st.characters(codec="utf-8"))
    )
    def test_what_is_encoded_is_decoded(self, login: str, password: str) -> None:
        auth = BasicAuth(login, password)
        assert BasicAuth.decode(auth.encode()) == auth
        assert BasicAuth.decode(auth.encode().replace("Basic ", "bAsIc  ")).login == login

    @pytest.mark.parametrize(
        "header",
        ["", "Basic", "Basic ", "Bearer QTpC", "Basic !", "Basic QUI=", "Basic /zo=", "QTpC", "Basic QTpC QTpC"],
    )
    def test_no_such_header(self, header: str) -> None:
        with pytest.raises(ValueError, match="not a header of basic"):
            BasicAuth.decode(header)

    def test_as_an_object(self) -> None:
        auth = BasicAuth("me", "secret")
        assert auth == BasicAuth("me", "secret")
        assert hash(auth) == hash(BasicAuth("me", "secret"))
        assert auth != BasicAuth("me", "other")
        assert auth != "me"
        assert repr(auth) == "BasicAuth('me', ***)"


class TestBearer:
    def test_a_token(self) -> None:
        assert BearerAuth("abc").header_for("GET", ANYWHERE) == "Bearer abc"

    def test_the_token_of_the_moment(self) -> None:
        tokens = iter(["a", "b"])
        auth = BearerAuth(lambda: next(tokens))
        assert [auth.header_for("GET", ANYWHERE), auth.header_for("GET", ANYWHERE)] == ["Bearer a", "Bearer b"]

    def test_repr_has_no_secret(self) -> None:
        assert repr(BearerAuth("secret")) == "BearerAuth(***)"


FILE = """
machine h.example login me password secret
machine other.example
    login you
    password hidden
machine 127.0.0.1 login root password toor
"""


@pytest.fixture
def netrc_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "netrc"
    path.write_text(FILE)
    monkeypatch.setenv("NETRC", str(path))
    return path


def make_given(path: Path) -> Callable[[URL], str | None]:
    auth = NetrcAuth(path)
    return lambda url: auth.header_for("GET", url)


def make_default(path: Path) -> Callable[[URL], str | None]:
    auth = NetrcAuth()
    return lambda url: auth.header_for("GET", url)


def make_function(path: Path) -> Callable[[URL], str | None]:
    def header(url: URL) -> str | None:
        found = netrc_auth(url.host)
        return None if found is None else found.encode()

    return header


class TestNetrc:
    @pytest.mark.parametrize("make", [make_given, make_default, make_function])
    def test_by_host(self, netrc_file: Path, make: Callable[[Path], Callable[[URL], str | None]]) -> None:
        header = make(netrc_file)
        assert header(URL("https://h.example:81/x")) == BasicAuth("me", "secret").encode()
        assert header(URL("http://OTHER.example/")) == BasicAuth("you", "hidden").encode()
        assert header(URL("http://127.0.0.1/")) == BasicAuth("root", "toor").encode()
        assert header(URL("http://www.h.example/")) is None

    def test_the_default_entry(self, netrc_file: Path) -> None:
        netrc_file.write_text(FILE + "default login anyone password any\n")
        assert NetrcAuth().header_for("GET", URL("http://x.example/")) == BasicAuth("anyone", "any").encode()

    def test_the_file_of_the_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NETRC", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert netrc_auth("h.example") is None
        assert NetrcAuth().header_for("GET", ANYWHERE) is None
        (tmp_path / ".netrc").write_text(FILE)
        assert netrc_auth("h.example") == BasicAuth("me", "secret")
        (tmp_path / ".netrc").chmod(0o600)
        assert NetrcAuth().header_for("GET", ANYWHERE) == BasicAuth("me", "secret").encode()

    def test_a_changed_file_is_read_again(self, netrc_file: Path) -> None:
        assert netrc_auth("h.example") == BasicAuth("me", "secret")
        netrc_file.write_text("machine h.example login me password changed")
        os.utime(netrc_file, ns=(1, 1))
        assert netrc_auth("h.example") == BasicAuth("me", "changed")
        netrc_file.unlink()
        assert netrc_auth("h.example") is None

    @pytest.mark.parametrize("content", ["machine", "machine h.example login me pass secret", "nonsense secret"])
    def test_no_such_file_in_sense(self, netrc_file: Path, content: str) -> None:
        netrc_file.write_text(content)
        assert netrc_auth("h.example") is None
        with pytest.raises(ValueError, match="netrc") as caught:
            NetrcAuth(netrc_file).header_for("GET", ANYWHERE)
        assert "secret" not in str(caught.value)

    def test_a_file_that_was_asked_for_must_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            NetrcAuth(tmp_path / "nothing").header_for("GET", ANYWHERE)

    def test_repr(self, netrc_file: Path) -> None:
        auth = NetrcAuth(netrc_file)
        auth.header_for("GET", ANYWHERE)
        assert repr(auth) == f"NetrcAuth({netrc_file!r})"
        assert repr(NetrcAuth()) == "NetrcAuth()"


class TestSecrets:
    @pytest.mark.parametrize(
        "auth",
        [BasicAuth("me", "secret"), BearerAuth("secret"), DigestAuth("me", "secret"), BearerAuth(lambda: "secret")],
    )
    def test_no_repr_shows_them(self, auth: Auth) -> None:
        auth.answer("GET", ANYWHERE, ['Digest realm="r", nonce="n"'], None)
        auth.header_for("GET", ANYWHERE)
        assert "secret" not in repr(auth)
        assert "secret" not in str(auth)
