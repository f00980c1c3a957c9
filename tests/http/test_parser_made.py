"""The parser and responses that nobody thought of: the same wherever they are cut, and nothing taken beyond the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.messages import SPICE, Message, cuts, mutated, responses
from tests.http.wirekit import Read, cut, read, singly
from weft.http.headers import Headers

WAYS = [{}, {"has_no_body": True}, {"may_switch": True}, {"may_tunnel": True}, {"ends": True}]
ways: st.SearchStrategy[dict[str, Any]] = st.sampled_from(WAYS)


def framed(found: Read, data: bytes) -> bytes | None:
    """The body that the head of ``found`` announces, read the slow and simple way; None where it is not whole."""
    assert found.head is not None
    # The head of the final response; those of interim ones are before it.
    rest = data[data.rindex(found.head) + len(found.head) :] if data.count(found.head) == 1 else None
    if rest is None:
        return None
    headers = Headers.from_head(found.head)
    if "Transfer-Encoding" not in headers:
        length = headers.get("Content-Length")
        return rest if length is None else rest[: int(length)]
    body = b""
    while True:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            return body
        body, rest = body + rest[:size], rest[size + 2 :]


class TestValid:
    @given(message=responses(), data=st.data(), surplus=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\x00"]))
    def test_read_as_meant(self, message: Message, data: st.DataObject, surplus: bytes) -> None:
        sent = message.data + (surplus if message.ends_by_itself else b"")
        ends = not message.ends_by_itself
        found = read([sent], ends=ends)
        assert found.error is None and found.is_done and found.head is not None
        assert (found.status, found.version, found.body) == (message.status, message.version, message.body)
        assert (found.is_reusable, found.trailer, found.taken) == (
            message.is_reusable, message.trailer, len(message.data)
        )  # fmt: skip
        pairs = [
            (name, value) for name, value in Headers.from_head(found.head).items() if (name, value) in message.fields
        ]
        assert pairs == list(message.fields)
        assert read(singly(sent), ends=ends) == found
        assert read(cut(sent, data.draw(cuts(sent))), ends=ends) == found

    @given(message=responses(), way=ways, data=st.data())
    def test_same_however_cut(self, message: Message, way: dict[str, Any], data: st.DataObject) -> None:
        found = read([message.data], **way)
        assert read(singly(message.data), **way) == found
        assert read(cut(message.data, data.draw(cuts(message.data))), **way) == found

    @given(message=responses().filter(lambda message: message.ends_by_itself), data=st.data())
    def test_incomplete_is_never_done(self, message: Message, data: st.DataObject) -> None:
        size = data.draw(st.integers(0, len(message.data) - 1))
        found = read([message.data[:size]], ends=True)
        assert not found.is_done and not found.error
        assert message.body.startswith(found.body)

    @given(message=responses())
    def test_head_request(self, message: Message) -> None:
        """Whatever the head announces, it has no body."""
        found = read([message.data], has_no_body=True)
        assert found.is_done and found.body == b"" and found.head is not None
        assert message.data[: found.taken].endswith(found.head)


class TestBroken:
    @given(sent=mutated(responses()), way=ways, data=st.data())
    def test_same_however_cut(self, sent: bytes, way: dict[str, Any], data: st.DataObject) -> None:
        found = read([sent], **way)
        assert read(singly(sent), **way) == found
        assert read(cut(sent, data.draw(cuts(sent))), **way) == found

    @given(sent=mutated(responses()))
    def test_body_is_within_its_framing(self, sent: bytes) -> None:
        found = read([sent])
        if found.error is not None:
            assert not found.is_reusable and not found.is_done
        if found.head is None:
            assert found.body == b""
        elif found.status not in (204, 304) and found.error is None and found.is_done:
            body = framed(found, sent)
            assert body is None or body == found.body

    @pytest.mark.parametrize(
        "start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
    )
    @given(
        tail=st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(SPICE), max_size=20).map(b"".join)), way=ways
    )
    def test_noise(self, start: bytes, tail: bytes, way: dict[str, Any]) -> None:
        found = read([start + tail], **way)
        assert read(singly(start + tail), **way) == found
        assert found.taken <= len(start + tail)
        if found.head is not None:
            assert b"\r\n\r\n" not in found.head[:-4] and found.head.count(b"\n") == found.head.count(b"\r\n")
            assert b"\x00" not in found.head
