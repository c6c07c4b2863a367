"""``/listSpan`` and ``/getSpec`` over HTTP: arrays, against astropy's reading of the very files."""

from __future__ import annotations

import io
import json
import time

import httpx
import numpy as np
import pytest
from fixtures_http import Scratch, requests_running, wait_for
from fixtures_server import Vectors
from webspectra import (
    CONTEXT,
    NAMES,
    OLD,
    Read,
    Truth,
    answered,
    arrays,
    fields,
    on_grid,
    pixels_of,
    refusal,
    same,
    span_of,
    whole,
)

from specflight.catalog.identifiers import unpack_specobjid
from specflight.flight.protocol import grid_loglam


@pytest.mark.parametrize("context", ["sdss_dr16", "sdss_dr12", "sdss_dr16_fits"])
def test_a_spectrum_is_the_file_bit_for_bit_as_numpy_would_save_it(
    web: httpx.Client, sim_truth: Truth, astropy_vectors: Read, context: str
) -> None:
    for specobjid, path in sorted(sim_truth[context.removesuffix("_fits")].items())[-20:]:
        expected = whole(astropy_vectors(path))
        answer = answered(web, specobjid, context=context)
        assert same(arrays(answer), expected)
        saved = io.BytesIO()
        np.lib.format.write_array(saved, expected, version=(1, 0))
        assert answer.content == saved.getvalue()


def test_a_list_comes_in_its_order_with_its_duplicates_on_one_grid(
    web: httpx.Client, truth: dict[int, Vectors], ids: list[int]
) -> None:
    wanted = [*ids, ids[0], ids[3]]
    first, end = span_of(truth, ids)
    expected = np.stack([on_grid(truth[specobjid], first, end - first) for specobjid in wanted])
    assert same(arrays(answered(web, wanted, align=True)), expected)
    limits = {"w0": f"{first / 1e4:f}", "w1": f"{(end - 1) / 1e4:f}"}
    assert same(arrays(answered(web, wanted, align=True, **limits)), expected)
    assert same(arrays(answered(web, wanted, **limits)), expected)


def test_the_calls_of_an_old_client_give_a_rectangle(
    web: httpx.Client, truth: dict[int, Vectors], ids: list[int]
) -> None:
    some = ids[:6]
    first, end = span_of(truth, some)
    answer = web.post("/listSpan", data=fields(some), headers=OLD)
    assert answer.text == f'{{"w0" : {first / 1e4:f}, "w1" : {(end - 1) / 1e4:f} }}'
    limits = json.loads(answer.text)
    for specobjid in some:
        got = arrays(answered(web, specobjid, **limits))
        assert same(got, on_grid(truth[specobjid], first, end - first))
    assert arrays(answered(web, [some[0]], **limits)).shape == (end - first,)


def test_limits_never_cut_data_off(web: httpx.Client, truth: dict[int, Vectors], ids: list[int]) -> None:
    some = ids[:5]
    first, end = span_of(truth, some)
    for low, high in [(first + 100, end - 300), (first - 7, end - 300), (first + 50, end + 9), (first - 20, end + 5)]:
        grid = min(low, first), max(high + 1, end)
        expected = np.stack([on_grid(truth[specobjid], grid[0], grid[1] - grid[0]) for specobjid in some])
        assert same(arrays(answered(web, some, w0=low / 1e4, w1=high / 1e4)), expected)
        own = pixels_of(truth[some[0]])
        alone = min(low, own[0]), max(high + 1, own[1])
        expected = on_grid(truth[some[0]], alone[0], alone[1] - alone[0])
        assert same(arrays(answered(web, some[0], w0=low / 1e4, w1=high / 1e4)), expected)


def test_without_limits_one_spectrum_is_unpadded_and_equally_long_ones_are_stacked(
    web: httpx.Client, truth: dict[int, Vectors], ids: list[int]
) -> None:
    for align in (True, False):
        assert same(arrays(answered(web, [ids[0]], align=align)), whole(truth[ids[0]]))
        assert same(arrays(answered(web, ids[0], align=align, w0=3.9, w1=3.9)), whole(truth[ids[0]]))
    assert same(arrays(answered(web, [ids[0]] * 3)), np.stack([whole(truth[ids[0]])] * 3))
    lengths = [len(truth[specobjid]["flux"]) for specobjid in ids]
    assert len(set(lengths)) > 1
    assert refusal(answered(web, ids, align=True, w0=3.9, w1=3.9))[0] == 400
    status, text = refusal(answered(web, ids))
    assert status == 400
    assert "align=True" in text
    assert "arrow" in text


VALUES = [
    ("flux,loglam", ("flux", "loglam")),
    ("loglam , flux", ("flux", "loglam")),
    ("['model', 'flux']", ("flux", "model")),
    ("flux", ("flux",)),
    ("or_mask,ivar,wdisp", ("ivar", "or_mask", "wdisp")),
    ("all", NAMES),
    ("None", NAMES),
]


@pytest.mark.parametrize(("values", "names"), VALUES)
def test_values_are_fields_in_the_order_of_the_file(
    web: httpx.Client, truth: dict[int, Vectors], ids: list[int], values: str, names: tuple[str, ...]
) -> None:
    first, end = span_of(truth, ids[:4])
    expected = np.stack([on_grid(truth[specobjid], first, end - first, names) for specobjid in ids[:4]])
    assert same(arrays(answered(web, ids[:4], values=values, align=True)), expected)
    limits = {"w0": first / 1e4, "w1": (end - 1) / 1e4}
    for row, specobjid in enumerate(ids[:4]):
        assert same(arrays(answered(web, specobjid, values=values, **limits)), expected[row])
        assert same(arrays(answered(web, specobjid, values=values)), whole(truth[specobjid], names))


@pytest.mark.parametrize("values", ["flu", "flux,nosuch", "fluxloglam", "flux;loglam", ","])
def test_values_that_are_no_vectors_are_named(web: httpx.Client, ids: list[int], values: str) -> None:
    status, text = refusal(answered(web, ids[0], values=values))
    assert status == 400
    assert text.startswith("Error: values: '")


def test_a_cutout_is_the_pixels_between_and_wins_over_limits(
    web: httpx.Client, truth: dict[int, Vectors], ids: list[int]
) -> None:
    grid = np.arange(35_000, 41_000)
    wavelength = 10.0 ** grid_loglam(35_000, len(grid)).astype(np.float64)
    inside = grid[(wavelength >= 6500) & (wavelength <= 7200)]
    first, npix = int(inside[0]), len(inside)
    expected = np.stack([on_grid(truth[specobjid], first, npix) for specobjid in ids[:7]])
    for more in ({}, {"align": True}, {"w0": 3.5, "w1": 4.0}):
        assert same(arrays(answered(web, ids[:7], cutout="6500-7200", **more)), expected)
        assert same(arrays(answered(web, ids[0], cutout="6500-7200", **more)), expected[0])
        assert same(
            arrays(answered(web, ids[0], cutout="6500-7200", values="flux", **more))["flux"], expected[0]["flux"]
        )
    for wrong in ("6500", "7200-6500", "1-2", "a-b"):
        status, text = refusal(answered(web, ids[0], cutout=wrong))
        assert status == 400
        assert text.startswith("Error: cutout: ")


@pytest.mark.parametrize(("w0", "w1"), [(3.9, 3.5), (1.0, 3.9), (3.5, 6.1), (0.0, 3.9), (-3.5, 3.9)])
def test_limits_that_are_none_are_refused(web: httpx.Client, ids: list[int], w0: float, w1: float) -> None:
    status, text = refusal(answered(web, ids[0], w0=w0, w1=w1))
    assert status == 400
    assert text.startswith(f"Error: w0, w1: {w0:g} and {w1:g} are not")


def test_tuples_and_wildcards_give_their_spectra(web: httpx.Client, truth: dict[int, Vectors]) -> None:
    known = sorted(truth)
    parts = unpack_specobjid(np.array(known, np.uint64))
    plates, counts = np.unique(parts.plate, return_counts=True)
    plate = int(plates[counts.argmax()])
    of_plate = [specobjid for specobjid, of in zip(known, parts.plate.tolist(), strict=True) if of == plate]
    assert len(of_plate) > 1
    first, end = span_of(truth, of_plate)
    expected = np.stack([on_grid(truth[specobjid], first, end - first) for specobjid in of_plate])
    assert same(arrays(answered(web, f"({plate}, '*', '*')", align=True)), expected)
    one = known.index(of_plate[0])
    triple = f"({plate}, {int(parts.mjd[one])}, {int(parts.fiberid[one])})"
    for text in (triple, f"[{triple}]"):
        assert same(arrays(answered(web, text)), whole(truth[of_plate[0]]))
        padded = answered(web, text, w0=first / 1e4, w1=(end - 1) / 1e4)
        assert same(arrays(padded), expected[0])
    # Enough of them for several batches, so that their number is asked for.
    many = [triple, *[str(specobjid) for specobjid in of_plate] * 20]
    got = arrays(answered(web, f"[{', '.join(many)}]", align=True))
    assert same(got[0], expected[0])
    assert len(got) == len(many)
    assert same(got[-len(of_plate) :], expected)
    assert refusal(answered(web, "(1, '*', '*')", align=True))[0] == 404


@pytest.mark.parametrize("kind", ["numpy", "arrow", "parquet", "csv", "FITS"])
@pytest.mark.parametrize("align", [True, False])
def test_unknown_spectra_are_named(web: httpx.Client, ids: list[int], kind: str, align: bool) -> None:
    wanted = [42] if kind == "FITS" else [ids[0], 42, 43]
    status, text = refusal(answered(web, wanted, format=kind, align=align))
    assert status == 404
    assert "specobjid 42" in text
    status, text = refusal(web.post("/listSpan", data=fields(wanted), headers=OLD))
    assert (status, "specobjid 42" in text) == (404, True)


@pytest.mark.parametrize("path", ["/listSpan", "/getSpec"])
def test_lists_that_are_none_are_refused(web: httpx.Client, path: str) -> None:
    def told(id_list: str) -> tuple[int, str]:
        return refusal(web.post(path, data=fields(id_list), headers=OLD))

    assert told("[]") == (400, "Error: ids: the list is empty")
    assert told("") == (400, "Error: ids: the list is empty")
    assert told("[1 2 3 ...\n 998 999]")[1].startswith("Error: ids: the list is abbreviated")
    assert told("[1963, nonsense!]")[0] == 400
    without = {name: value for name, value in fields("1").items() if name != "id_list"}
    assert refusal(web.post(path, data=without)) == (400, "Param Error: 'id_list'")
    assert refusal(web.post(path, data=fields("1", context="nosuch")))[0] == 404


def test_every_way_to_send_a_request_gives_the_same(web: httpx.Client, ids: list[int]) -> None:
    some = ids[:3]
    expected = answered(web, some, align=True).content
    asked = {"context": CONTEXT, "align": True}
    same_bytes = [
        web.get("/getSpec", params=fields(some, align=True)),
        web.get("/getSpec", params={"id_list": ",".join(map(str, some)), "align": "true", "context": CONTEXT}),
        web.post("/getSpec", json={"id_list": some, **asked}),
        web.post("/getSpec", json={"ids": [str(specobjid) for specobjid in some], "values": list(NAMES), **asked}),
        web.post("/getSpec", json={"id": str(some), "values": ["all"], "fmt": "npy", **asked}),
        web.post("/getSpec", data=fields(f"[{' '.join(map(str, some))}]", align=True)),
        web.post("/getSpec", data=fields(f"[{', '.join(f'np.uint64({n})' for n in some)}]", align=True)),
    ]
    for answer in same_bytes:
        assert answer.content == expected, answer.text[:200]
    one = answered(web, some[0]).content
    assert web.post("/getSpec", json={"id": some[0], "context": CONTEXT}).content == one
    assert web.get("/getSpec", params={"id": some[0], "context": CONTEXT}).content == one
    assert web.get("/listSpan", params={"ids": str(some), "context": CONTEXT}).status_code == 200


def test_a_large_answer_never_exists_whole_whether_it_is_taken_or_not(
    scratch: Scratch, truth: dict[int, Vectors], ids: list[int]
) -> None:
    web, process = scratch.web, scratch.process
    wanted = (ids * (3000 // len(ids) + 1))[:3000]
    first, end = span_of(truth, ids)
    answered(web, wanted[:300], align=True)
    before = highest = process.memory_info().rss
    received, block = 0, bytearray()
    with web.stream("POST", "/getSpec", data=fields(wanted, align=True), headers=OLD) as answer:
        assert answer.headers["content-length"] == str(256 + 32 * 3000 * (end - first))
        for number, piece in enumerate(answer.iter_raw()):
            if received < 256 + 32 * (end - first):
                block += piece
            received += len(piece)
            if number == 2:
                time.sleep(0.5)  # it does not read on though nobody takes what it reads
                assert requests_running(web) == 1
                assert same(arrays(answered(web, ids[0])), whole(truth[ids[0]]))
            if number % 64 == 2:
                highest = max(highest, process.memory_info().rss)
    assert received == 256 + 32 * 3000 * (end - first) > 300e6
    assert highest - before < 80e6, f"{(highest - before) / 1e6:.0f} MB more for {received / 1e6:.0f} MB"
    one = bytes(block[256 : 256 + 32 * (end - first)])
    assert one == on_grid(truth[wanted[0]], first, end - first).tobytes()


@pytest.mark.parametrize("kind", ["npy", "arrow", "csv", "parquet"])
def test_who_hangs_up_ends_the_answer(web: httpx.Client, ids: list[int], kind: str) -> None:
    wanted = ids * (3000 // len(ids))
    with web.stream("POST", "/getSpec", data=fields(wanted, align=True, format=kind)) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        assert requests_running(web) == 1
    wait_for(lambda: requests_running(web) == 0)


def test_a_long_list_is_uploaded(web: httpx.Client, ids: list[int]) -> None:
    wanted = (ids * (10_500 // len(ids) + 1))[:10_500]
    got = arrays(answered(web, wanted, cutout="6500-6510"))
    assert same(got, np.tile(arrays(answered(web, ids, cutout="6500-6510")), (len(got) // len(ids) + 1, 1))[: len(got)])


def test_real_spectra_come_bit_for_bit(real_web: httpx.Client, real_truth: Truth, astropy_vectors: Read) -> None:
    for context, files in real_truth.items():
        some = dict(sorted(files.items())[-30:])
        vectors = {specobjid: astropy_vectors(path) for specobjid, path in some.items()}
        first, end = span_of(vectors, list(vectors))
        expected = np.stack([on_grid(own, first, end - first) for own in vectors.values()])
        limits = json.loads(real_web.post("/listSpan", data=fields(list(some), context=context)).text)
        assert same(arrays(answered(real_web, list(some), context=context, **limits)), expected)
        for row, (specobjid, path) in enumerate(list(some.items())[:5]):
            assert same(arrays(answered(real_web, specobjid, context=context, **limits)), expected[row])
            assert answered(real_web, specobjid, context=context, format="FITS").content == path.read_bytes()
