"""Content codings: what compressors made comes back however it was cut, and nothing hostile costs much."""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import os
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.http import decoding
from weft.http.decoding import ACCEPT_ENCODING, STEP, WINDOW, Decoder, decoder_for
from weft.http.errors import DecodingError, DecompressionBombError

MIB = 1024 * 1024


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def brotli(data: bytes) -> bytes:
    return bytes(pytest.importorskip("brotli", reason="brotli is not installed").compress(data, quality=4))


def zstd(data: bytes, **options: Any) -> bytes:
    zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")
    return bytes(zstandard.ZstdCompressor(**options).compress(data))


def zstd_streamed(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    cut = len(data) // 2
    return bytes(packer.compress(data[:cut]) + packer.flush(1) + packer.compress(data[cut:]) + packer.flush())


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "brotli": ("br", brotli),
    "zstd": ("zstd", zstd),
    "zstd, streamed": ("zstd", zstd_streamed),
}
PACKAGES = {"br": "brotli", "zstd": "zstandard"}
needs = {
    coding: pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")
    for coding, package in PACKAGES.items()
}
THERE = sorted(kind for kind, (coding, _) in PACKERS.items() if coding not in needs or not needs[coding].args[0])


def each(*kinds: str) -> pytest.MarkDecorator:
    """Run a test for each of these kinds whose package is there."""
    return pytest.mark.parametrize(
        ("coding", "pack"),
        [pytest.param(*PACKERS[kind], id=kind, marks=needs.get(PACKERS[kind][0], ())) for kind in kinds],
    )


each_coding = each(*PACKERS)
members = each("gzip", "zstd", "zstd, streamed")  # Brotli has none.

SAMPLES = {
    "nothing": b"",
    "one byte": b"x",
    "text": b"a coroutine waits for another " * 300,
    "noise": os.urandom(200_000),
    "zeros": bytes(3 * MIB + 7),
}


def made(coding: str, limit: int | None = None) -> Decoder:
    decoder = decoder_for(coding, limit=limit, url="http://x/")
    assert decoder is not None
    return decoder


def decoded(coding: str, data: bytes, cuts: list[int] | None = None, limit: int | None = None) -> bytes:
    """All of it, fed in the pieces that the cuts make."""
    decoder, found = made(coding, limit), b""
    edges = sorted({min(cut, len(data)) for cut in cuts or []} | {0, len(data)})
    for start, end in itertools.pairwise(edges):
        found += decoder.decode(data[start:end])
    return found + decoder.finish()


class TestRoundTrip:
    @each_coding
    @pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
    def test_whole(self, coding: str, pack: Callable[[bytes], bytes], sample: bytes) -> None:
        assert decoded(coding, pack(sample)) == sample

    @each_coding
    def test_byte_by_byte(self, coding: str, pack: Callable[[bytes], bytes]) -> None:
        packed = pack(SAMPLES["text"])
        assert decoded(coding, packed, list(range(len(packed)))) == SAMPLES["text"]

    @given(
        st.sampled_from(THERE),
        st.lists(st.binary(max_size=200), max_size=4),
        st.integers(0, 3000),
        st.lists(st.integers(0, 2000), max_size=5),
    )
    def test_cut_anywhere(self, kind: str, parts: list[bytes], times: int, cuts: list[int]) -> None:
        coding, pack = PACKERS[kind]
        sample = b"".join(part * times for part in parts)
        assert decoded(coding, pack(sample), cuts, limit=len(sample)) == sample

    @each_coding
    def test_an_empty_body_is_empty(self, coding: str, pack: Callable[[bytes], bytes]) -> None:
        assert made(coding).finish() == b""
        assert decoded(coding, b"") == b""
        decoder = made(coding)
        assert decoder.decode(b"") + decoder.finish() == b""

    @pytest.mark.parametrize("codings", ["gzip, br", "br,gzip", "zstd, deflate, gzip", "gzip, gzip"])
    def test_several_codings_are_undone_from_the_last(self, codings: str) -> None:
        packed = SAMPLES["zeros"]
        for name in codings.replace(" ", "").split(","):
            packed = PACKERS["brotli" if name == "br" else name][1](packed)
        assert decoded(codings, packed, list(range(0, len(packed), 7))) == SAMPLES["zeros"]

    @each_coding
    def test_steps_are_small(self, coding: str, pack: Callable[[bytes], bytes]) -> None:
        sizes = [len(step) for step in made(coding).steps(pack(bytes(20 * MIB)))]
        assert sum(sizes) == 20 * MIB
        assert max(sizes) <= 2 * STEP


class TestMembers:
    @members
    @pytest.mark.parametrize("cut", [1, 3, 20, 10**6])
    def test_several(self, coding: str, pack: Callable[[bytes], bytes], cut: int) -> None:
        packed = pack(b"one ") + pack(b"") + pack(b"two ") + pack(b"three")
        assert decoded(coding, packed, list(range(0, len(packed), cut))) == b"one two three"

    @members
    @pytest.mark.parametrize("garbage", [b"\0" * 20, b"\0", b"<!-- served by -->", b"\x1e\x8b", b"\x29\xb5\x2f"])
    @pytest.mark.parametrize("cut", [1, 10**6])
    def test_what_follows_the_last_is_ignored(
        self, coding: str, pack: Callable[[bytes], bytes], garbage: bytes, cut: int
    ) -> None:
        packed = pack(b"content") + garbage
        assert decoded(coding, packed, list(range(0, len(packed), cut))) == b"content"

    @pytest.mark.parametrize("pack", [zlib.compress, raw_deflate])
    def test_deflate_has_one(self, pack: Callable[[bytes], bytes]) -> None:
        assert decoded("deflate", pack(b"one") + pack(b"two")) == b"one"

    @members
    def test_the_second_may_be_cut_off(self, coding: str, pack: Callable[[bytes], bytes]) -> None:
        packed = pack(b"one") + pack(b"two")[:-3]
        with pytest.raises(DecodingError, match="ends in the middle"):
            decoded(coding, packed)

    def test_zstd_frames_that_are_skipped(self) -> None:
        skipped = b"\x53\x2a\x4d\x18\x05\0\0\0abcde"
        empty = b"\x50\x2a\x4d\x18\0\0\0\0"
        packed = skipped + zstd(b"one") + empty + skipped + zstd(b"two") + skipped
        for cuts in ([], list(range(len(packed)))):
            assert decoded("zstd", packed, cuts) == b"onetwo"
        with pytest.raises(DecodingError, match="ends in the middle"):
            decoded("zstd", packed[:-1])

    def test_many_small_members(self) -> None:
        assert decoded("gzip", gzip.compress(b"") * 100_000) == b""


class TestWrong:
    @each_coding
    def test_every_way_to_cut_it_off(self, coding: str, pack: Callable[[bytes], bytes]) -> None:
        packed = pack(b"some content that is long enough" * 3)
        for end in range(1, len(packed)):
            with pytest.raises(DecodingError, match=rf"http://x/: the body ends in the middle of its {coding} coding"):
                decoded(coding, packed[:end])

    @each_coding
    def test_what_it_never_was(self, coding: str, pack: Callable[[bytes], bytes]) -> None:
        with pytest.raises(DecodingError, match=f"http://x/: the body is not valid {coding}") as caught:
            decoded(coding, b"<html>not packed at all</html>" * 10)
        assert caught.value.__cause__ is not None
        assert caught.value.url == "http://x/"

    @each("gzip", "deflate", "zstd, streamed")
    def test_a_wrong_checksum(self, coding: str, pack: Callable[[bytes], bytes]) -> None:
        packed = bytearray(pack(SAMPLES["text"]))
        packed[-5 if coding == "gzip" else -1] ^= 1
        with pytest.raises(DecodingError):
            decoded(coding, bytes(packed))

    @given(st.sampled_from(THERE), st.data())
    def test_one_wrong_byte_is_an_error_or_is_limited(self, kind: str, data: st.DataObject) -> None:
        coding, pack = PACKERS[kind]
        packed = bytearray(pack(b"some content" * 20))
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
        try:
            found = decoded(coding, bytes(packed), limit=10_000)
        except DecodingError:
            return
        assert len(found) <= 10_000

    def test_something_after_the_end_of_brotli_is_an_error_however_it_comes(self) -> None:
        packed = brotli(b"x")
        for cuts in ([], [len(packed)]):
            with pytest.raises(DecodingError):
                decoded("br", packed + b"more", cuts)

    def test_a_zstd_window_larger_than_the_rfc_allows(self) -> None:
        zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")
        for log, fine in ((23, True), (24, False)):
            parameters = zstandard.ZstdCompressionParameters(window_log=log, write_content_size=False)
            packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
            packed = packer.compress(b"abc") + packer.flush()
            if fine:
                assert decoded("zstd", packed) == b"abc"
            else:
                with pytest.raises(DecodingError):
                    decoded("zstd", packed)

    @needs["zstd"]
    @pytest.mark.parametrize("head", [b"\x07\0\0", b"\xfd\xff\xff"])
    def test_a_zstd_block_that_cannot_be(self, head: bytes) -> None:
        with pytest.raises(DecodingError):
            decoded("zstd", b"\x28\xb5\x2f\xfd\x00\x58" + head + bytes(3))


class TestBombs:
    @each_coding
    def test_the_limit_is_exact(self, coding: str, pack: Callable[[bytes], bytes]) -> None:
        packed = pack(bytes(5000))
        for cuts in ([], list(range(len(packed)))):
            assert decoded(coding, packed, cuts, limit=5000) == bytes(5000)
            with pytest.raises(DecompressionBombError, match="http://x/: the body unpacks to more than 4999 bytes"):
                decoded(coding, packed, cuts, limit=4999)
        assert decoded(coding, pack(b""), limit=0) == b""
        with pytest.raises(DecompressionBombError):
            decoded(coding, pack(b"x"), limit=0)

    @each_coding
    @pytest.mark.parametrize("limit", [1000, 4 * MIB])
    def test_no_more_is_held_than_the_limit_and_a_step(
        self, coding: str, pack: Callable[[bytes], bytes], limit: int
    ) -> None:
        packed = pack(bytes(200 * MIB))
        decoder = made(coding, limit)
        tracemalloc.start()
        try:
            with pytest.raises(DecompressionBombError):
                decoder.decode(packed)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # What zlib and its like allocate as their window is not counted, and does not depend on the input.
        assert peak < limit + (2 * STEP + MIB if limit > STEP else MIB // 2)

    @needs["zstd"]
    def test_zstd_blocks_of_four_bytes(self) -> None:
        """The densest that there is: each block is one byte, repeated 128 Ki times."""
        block = (128 * 1024 << 3 | 1 << 1).to_bytes(3, "little") + b"x"
        packed = b"\x28\xb5\x2f\xfd\x00\x58" + block * 16_000
        tracemalloc.start()
        try:
            with pytest.raises(DecompressionBombError):
                decoded("zstd", packed, limit=3 * MIB)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 6 * MIB
        assert sum(map(len, made("zstd").steps(packed[: 6 + 4 * 1000]))) == 1000 * 128 * 1024

    def test_a_bomb_in_a_bomb(self) -> None:
        packed = gzip.compress(brotli(bytes(200 * MIB)))
        tracemalloc.start()
        try:
            with pytest.raises(DecompressionBombError):
                decoded("br, gzip", packed, limit=MIB)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 6 * MIB

    def test_the_limit_counts_what_comes_out_and_not_what_is_between(self) -> None:
        packed = gzip.compress(gzip.compress(os.urandom(5000)))
        assert len(decoded("gzip, gzip", packed, limit=5000)) == 5000

    def test_a_chain_is_limited(self) -> None:
        packed = b"x"
        for _ in range(5):
            packed = gzip.compress(packed)
        assert decoded(", ".join(["gzip"] * 5), packed) == b"x"
        with pytest.raises(DecodingError, match="6 codings"):
            made(", ".join(["gzip"] * 6))

    def test_a_coder_gets_little_at_once(self) -> None:
        """It copies what it leaves, for each step and member: of a large body at once that would be the square."""

        class Coder:
            errors: tuple[type[Exception], ...] = ()
            more = False
            given: list[int] = []  # noqa: RUF012

            def unpack(self, data: bytes, size: int) -> bytes:
                self.given.append(len(data))
                assert size == STEP
                return data

            def end(self) -> None: ...

        body = os.urandom(WINDOW * 3 + 1)
        for coders in ([Coder()], [Coder(), Coder()]):
            Coder.given.clear()
            assert Decoder([*coders], "x", None, None).decode(body) == body
            assert max(Coder.given) == WINDOW
            assert sum(Coder.given) == len(body) * len(coders)


class TestChoice:
    @pytest.mark.parametrize("value", ["", "identity", " Identity , ", ","])
    def test_nothing_to_undo(self, value: str) -> None:
        assert decoder_for(value) is None

    @pytest.mark.parametrize("value", ["GZIP", "x-gzip", " gzip ", "identity, gzip", "gzip,"])
    def test_spellings(self, value: str) -> None:
        assert decoded(value, gzip.compress(b"x")) == b"x"

    @pytest.mark.parametrize("value", ["compress", "gzip, rot13", "*"])
    def test_unknown_ones(self, value: str) -> None:
        with pytest.raises(DecodingError, match="http://x/: .*cannot undo") as caught:
            made(value)
        assert "decode=False" in caught.value.__notes__[0]

    @pytest.mark.parametrize(("value", "package"), [("br", "brotli"), ("zstd", "zstandard")])
    def test_a_missing_package_is_named(self, value: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoding, "import_module", _missing)
        with pytest.raises(DecodingError, match=f"{value!r}, which this client cannot undo") as caught:
            made(value)
        assert package in caught.value.__notes__[0]

    def test_what_is_offered_can_be_undone(self) -> None:
        offered = ACCEPT_ENCODING.split(", ")
        assert offered[:2] == ["gzip", "deflate"]
        for coding in offered:
            assert decoder_for(coding) is not None
        assert ("br" in offered) == (importlib.util.find_spec("brotli") is not None)
        standard = sys.version_info >= (3, 14) and importlib.util.find_spec("_zstd")
        assert ("zstd" in offered) == bool(standard or importlib.util.find_spec("zstandard"))

    def test_a_brotli_without_limits_is_not_offered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Old:
            def process(self, data: bytes) -> bytes:
                raise AssertionError("would not stop")

        monkeypatch.setattr(decoding, "import_module", lambda name: SimpleNamespace(Decompressor=Old))
        assert "br" not in decoding._offered()
        with pytest.raises(DecodingError):
            made("br")


def _missing(name: str) -> Any:
    raise ImportError(name)


class _AsInTheStandardLibrary:
    """The interface of ``compression.zstd.ZstdDecompressor`` (PEP 784), over the gzip format."""

    def __init__(self, options: dict[Any, int]) -> None:
        assert options == {"window_log_max": 23}
        self._inner = zlib.decompressobj(31)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


class TestStandardLibraryZstd:
    """Where there is no Python 3.14 the reading is tested over another format with the same interface."""

    @pytest.mark.parametrize("cut", [1, 5, 10**6])
    def test_members_and_steps(self, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
        module = SimpleNamespace(
            ZstdDecompressor=_AsInTheStandardLibrary,
            ZstdError=zlib.error,
            DecompressionParameter=SimpleNamespace(window_log_max="window_log_max"),
        )
        monkeypatch.setattr(decoding, "_zstd_frame", lambda data: decoding._starts(data, b"\x1f\x8b"))
        sample = SAMPLES["zeros"]
        packed = gzip.compress(sample) + gzip.compress(b"more") + b"\0\0"
        decoder = Decoder([decoding._StandardZstd(module)], "zstd", None, None)
        found = b"".join(decoder.decode(packed[start : start + cut]) for start in range(0, len(packed), cut))
        assert found + decoder.finish() == sample + b"more"

    def test_the_real_one(self) -> None:
        real = pytest.importorskip("compression.zstd", reason="needs Python 3.14")
        decoder = Decoder([decoding._StandardZstd(real)], "zstd", None, None)
        packed = real.compress(SAMPLES["zeros"]) + real.compress(b"more")
        assert decoder.decode(packed) + decoder.finish() == SAMPLES["zeros"] + b"more"
