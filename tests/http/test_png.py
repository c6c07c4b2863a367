from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from specflight.http.png import PngWriter, encode_png, encode_rows


def written(pixels: NDArray[np.uint8], repeat: int = 1, piece: int = 7) -> bytes:
    writer = PngWriter(pixels.shape[1], len(pixels) * repeat, 1 if pixels.ndim == 2 else 4)
    encoded = [encode_rows(pixels[start : start + piece], repeat) for start in range(0, len(pixels), piece)]
    return writer.begin() + b"".join(writer.append(rows) for rows in encoded) + writer.end()


def chunks(png: bytes) -> list[tuple[bytes, bytes, int]]:
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        name, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        found.append((name, data, struct.unpack_from(">I", png, at + 8 + length)[0]))
        at += length + 12
    return found


@st.composite
def pictures(draw: st.DrawFn) -> NDArray[np.uint8]:
    shape: tuple[Any, ...] = (draw(st.integers(1, 20)), draw(st.integers(1, 70)), *draw(st.sampled_from([(), (4,)])))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    return rng.integers(0, draw(st.integers(1, 256)), shape, dtype=np.uint8)


@given(pictures(), st.integers(1, 4), st.integers(1, 20))
def test_pillow_reads_what_was_written(pixels: NDArray[np.uint8], repeat: int, piece: int) -> None:
    with Image.open(io.BytesIO(written(pixels, repeat, piece))) as image:
        assert image.mode == ("L" if pixels.ndim == 2 else "RGBA")
        assert np.array_equal(np.asarray(image), pixels.repeat(repeat, axis=0))


@pytest.mark.parametrize("shape", [(1, 1), (300, 5000), (40, 900, 4), (1, 100_000)])
def test_every_checksum_holds(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    found = chunks(written(pixels))
    assert [name for name, _, _ in found[:2]] == [b"IHDR", b"IDAT"]
    assert found[-1][0] == b"IEND"
    for name, data, crc in found:
        assert zlib.crc32(name + data) == crc
    stream = zlib.decompressobj()  # refuses a wrong Adler-32
    raw = stream.decompress(b"".join(data for name, data, _ in found if name == b"IDAT"))
    assert stream.eof
    assert not stream.unused_data
    assert len(raw) == shape[0] * (1 + pixels[0].size)


@pytest.mark.parametrize(("shape", "mode"), [((7, 30), "L"), ((7, 30, 3), "RGB"), ((7, 30, 4), "RGBA")])
def test_a_whole_image_is_read_by_pillow(shape: tuple[int, ...], mode: str) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, shape, dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert image.mode == mode
        assert np.array_equal(np.asarray(image), pixels)


def test_the_pieces_do_not_depend_on_each_other() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (64, 500), dtype=np.uint8)
    alone = encode_rows(pixels[32:])
    encode_rows(pixels[:32])
    assert encode_rows(pixels[32:]) == alone


def test_rows_that_repeat_cost_next_to_nothing() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (20, 5000), dtype=np.uint8)
    assert len(written(pixels, repeat=30)) < 1.3 * len(written(pixels))


@pytest.mark.parametrize("given_rows", [0, 4, 6])
def test_an_image_with_too_few_or_too_many_rows_is_refused(given_rows: int) -> None:
    writer = PngWriter(3, 5, 1)
    for _ in range(given_rows):
        writer.append(encode_rows(np.zeros((1, 3), np.uint8)))
    with pytest.raises(ValueError, match="height"):
        writer.end()
