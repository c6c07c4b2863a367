"""``/listSpan`` and ``/getSpec`` over HTTP, against astropy's reading of the very files."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fixtures_server import Vectors
from numpy.typing import NDArray
from starlette.responses import PlainTextResponse, Response

from specflight.client import Client
from specflight.client._transport import Stream
from specflight.errors import SpecflightError
from specflight.flight.protocol import grid_loglam
from specflight.flight.server import FlightServer
from specflight.flight.service import Service
from specflight.flight.settings import HttpSettings
from specflight.http.askedspectra import Batches
from specflight.http.endpoints import add_endpoints
from specflight.http.parameters import MissingParameter
from specflight.http.spectra import ENDPOINTS
from specflight.http.state import Caller, State
from specflight.http.vos import Storage
from specflight.tools.ingest import ingest
from specflight.tools.serve import Running

Truth = dict[str, dict[int, Path]]
Read = Callable[[Path], Vectors]

CONTEXT = "sdss_dr16"
NAMES = ("flux", "loglam", "ivar", "and_mask", "or_mask", "wdisp", "sky", "model")
OLD = {"X-DL-ClientVersion": "v1.2.0", "X-DL-AuthToken": "anonymous.0.0.anon_access"}


class NamedCallers(State):
    """Takes the token for the name of the caller."""

    def admit(self, token: str) -> tuple[Caller, tuple[Client, ...]]:
        anonymous, clients = super().admit("")
        return (Caller(token) if token.isalpha() else anonymous), clients


@contextmanager
def serving(flight: tuple[str, ...], storage: Path) -> Iterator[httpx.Client]:
    """HTTP in front of Flight servers."""
    app = FastAPI()
    app.state.specflight = NamedCallers(HttpSettings(), Storage(str(storage), 1 << 30, 1 << 30), b"", flight, flight)

    @app.exception_handler(SpecflightError)
    async def refused(request: Request, error: SpecflightError) -> Response:
        text = f"Param Error: '{error}'" if isinstance(error, MissingParameter) else f"Error: {error}"
        return PlainTextResponse(text, error.http_status)

    add_endpoints(app.router, ENDPOINTS)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def web(sim_server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(sim_server.flight, tmp_path_factory.mktemp("storage")) as client:
        yield client


@pytest.fixture(scope="module")
def ids(sim_truth: Truth) -> list[int]:
    """specobjids of sdss_dr16 in random order; one is beyond 2^63."""
    known = sorted(sim_truth[CONTEXT])
    assert known[-1] >= 2**63
    return np.random.default_rng(4).permutation(np.array(known, np.uint64)).tolist()  # type: ignore[no-any-return]


def fields(id_list: object, **more: object) -> dict[str, str]:
    """The eleven fields that old clients send, as text."""
    old = {
        "id_list": id_list,
        "values": "all",
        "format": "numpy",
        "align": False,
        "cutout": None,
        "w0": 0.0,
        "w1": 0.0,
        "context": CONTEXT,
        "profile": "default",
        "debug": False,
        "verbose": False,
    }
    return {name: str(value) for name, value in (old | more).items()}


def answered(web: httpx.Client, id_list: object, **more: object) -> httpx.Response:
    return web.post("/getSpec", data=fields(id_list, **more), headers=OLD)


def arrays(answer: httpx.Response) -> NDArray[np.void]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(answer.content))
    loaded: NDArray[np.void] = np.load(io.BytesIO(answer.content), allow_pickle=False)
    return loaded


def refusal(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    return answer.status_code, answer.text


def whole(vectors: Vectors, names: tuple[str, ...] = NAMES) -> NDArray[np.void]:
    made = np.zeros(len(vectors["flux"]), [(name, vectors[name].dtype.newbyteorder("<")) for name in names])
    for name in names:
        made[name] = vectors[name]
    return made


def on_grid(vectors: Vectors, first: int, npix: int, names: tuple[str, ...] = NAMES) -> NDArray[np.void]:
    own = whole(vectors, names)
    made = np.zeros(npix, own.dtype)
    at = round(float(vectors["loglam"][0]) * 1e4) - first
    made[max(at, 0) : max(at + len(own), 0)] = own[max(-at, 0) : max(npix - at, 0)]
    if "loglam" in names:
        made["loglam"] = grid_loglam(first, npix)
    return made


def pixels_of(vectors: Vectors) -> tuple[int, int]:
    first = round(float(vectors["loglam"][0]) * 1e4)
    return first, first + len(vectors["loglam"])


@pytest.fixture(scope="module")
def truth(sim_truth: Truth, astropy_vectors: Read) -> dict[int, Vectors]:
    return {specobjid: astropy_vectors(path) for specobjid, path in sim_truth[CONTEXT].items()}


def span_of(truth: dict[int, Vectors], ids: list[int]) -> tuple[int, int]:
    """First pixel, and the one behind the last, of some spectra."""
    limits = [pixels_of(truth[specobjid]) for specobjid in ids]
    return min(first for first, _ in limits), max(end for _, end in limits)


def same(got: NDArray[np.void], expected: NDArray[np.void]) -> bool:
    return got.dtype == expected.dtype and got.shape == expected.shape and got.tobytes() == expected.tobytes()


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
    from specflight.catalog.identifiers import unpack_specobjid

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


@pytest.mark.parametrize("kind", ["npy", "numpy", "pandas", "tables", "Spectrum1D", "SpectrumCollection", "nosuch"])
def test_old_clients_get_arrays_and_turn_them_into_what_they_want(web: httpx.Client, ids: list[int], kind: str) -> None:
    assert answered(web, ids[0], format=kind).content == answered(web, ids[0]).content


def test_others_are_told_which_formats_there_are(web: httpx.Client, ids: list[int]) -> None:
    status, text = refusal(web.post("/getSpec", data=fields(ids[0], format="nosuch")))
    assert (status, text) == (400, "Error: format: 'nosuch' is not one of npy, arrow, parquet, csv, fits")


@pytest.mark.parametrize("align", [True, False])
def test_arrow_and_parquet_are_the_table_of_the_client(
    web: httpx.Client, sim_client: Client, ids: list[int], align: bool
) -> None:
    for values in (None, "model,flux"):
        expected = sim_client.getSpec(ids, fmt="arrow", align=align, values=values)
        answer = answered(web, ids, format="arrow", align=align, values=values)
        assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
        with pa.ipc.open_stream(answer.content) as stream:
            table = stream.read_all()
        assert table.equals(expected, check_metadata=True)
        answer = answered(web, ids, format="Parquet", align=align, values=values)
        assert answer.headers["content-type"] == "application/vnd.apache.parquet"
        assert pq.read_table(io.BytesIO(answer.content)).equals(expected)
    if align:
        wider = pa.ipc.open_stream(answered(web, ids, format="arrow", w0=3.5, w1=4.1).content).read_all()
        assert wider["flux"].type.list_size == 6001


def test_csv_has_a_row_for_each_pixel_and_every_bit(
    web: httpx.Client, truth: dict[int, Vectors], ids: list[int]
) -> None:
    wanted = [max(ids), *ids[:2]]
    answer = answered(web, wanted, format="csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0] == ["specobjid", *NAMES]
    columns = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
    expected = [truth[specobjid] for specobjid in wanted]
    assert list(map(int, columns["specobjid"])) == [
        specobjid for specobjid in wanted for _ in range(len(truth[specobjid]["flux"]))
    ]
    for name in NAMES:
        values = np.concatenate([vectors[name] for vectors in expected])
        assert np.array(columns[name], values.dtype).tobytes() == values.tobytes()
    some = answered(web, ids[0], format="csv", values="model,flux", cutout="6500-6600").text.splitlines()
    assert some[0] == "specobjid,model,flux"
    assert len(some) == 1 + len(arrays(answered(web, ids[0], cutout="6500-6600")))


def test_fits_is_the_original_with_its_name(web: httpx.Client, sim_truth: Truth, ids: list[int]) -> None:
    for specobjid in ids[:4]:
        path = sim_truth[CONTEXT][specobjid]
        answer = answered(web, specobjid, format="FITS", align=True, w0=3.5, w1=4.0)
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == f'attachment; filename="{path.name}"'
    whole_plate = f"({sim_truth[CONTEXT][ids[0]].name.split('-')[1].lstrip('0')}, '*', '*')"
    for several in (ids[:2], whole_plate):
        status, text = refusal(answered(web, several, format="FITS"))
        assert status == 400
        assert "one spectrum" in text


def test_a_get_of_one_spectrum_can_be_kept_and_originals_read_in_parts(
    web: httpx.Client, sim_truth: Truth, ids: list[int]
) -> None:
    for kind in ("npy", "fits"):
        asked = {"id": str(ids[0]), "context": CONTEXT, "format": kind}
        answer = web.get("/getSpec", params=asked)
        assert "max-age" in answer.headers["cache-control"]
        again = web.get("/getSpec", params=asked, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = web.get("/getSpec", params=asked | {"id": str(ids[1])})
        assert other.headers["etag"] != answer.headers["etag"]
        assert "etag" not in web.post("/getSpec", data=asked).headers
    content = sim_truth[CONTEXT][ids[0]].read_bytes()
    part = web.get("/getSpec", params=asked, headers={"Range": "bytes=2880-5759"})
    assert (part.status_code, part.content) == (206, content[2880:5760])
    assert web.get("/getSpec", params=asked, headers={"Range": f"bytes={len(content)}-"}).status_code == 416


def test_a_large_answer_never_exists_whole(web: httpx.Client, truth: dict[int, Vectors], ids: list[int]) -> None:
    wanted = (ids * (3000 // len(ids) + 1))[:3000]
    first, end = span_of(truth, ids)
    process = psutil.Process()
    answered(web, wanted[:300], align=True)
    before = highest = process.memory_info().rss
    received, block = 0, bytearray()
    with web.stream("POST", "/getSpec", data=fields(wanted, align=True), headers=OLD) as answer:
        assert answer.headers["content-length"] == str(256 + 32 * 3000 * (end - first))
        for number, piece in enumerate(answer.iter_raw()):
            if received < 256 + 32 * (end - first):
                block += piece
            received += len(piece)
            if number % 64 == 0:
                highest = max(highest, process.memory_info().rss)
    assert received == 256 + 32 * 3000 * (end - first) > 300e6
    assert highest - before < 80e6, f"{(highest - before) / 1e6:.0f} MB more for {received / 1e6:.0f} MB"
    one = bytes(block[256 : 256 + 32 * (end - first)])
    assert one == on_grid(truth[wanted[0]], first, end - first).tobytes()


def test_a_long_list_is_uploaded(web: httpx.Client, ids: list[int]) -> None:
    wanted = (ids * (10_500 // len(ids) + 1))[:10_500]
    got = arrays(answered(web, wanted, cutout="6500-6510"))
    assert same(got, np.tile(arrays(answered(web, ids, cutout="6500-6510")), (len(got) // len(ids) + 1, 1))[: len(got)])


def test_batches_that_were_looked_at_are_still_to_come_and_closing_ends_the_stream() -> None:
    ended = []

    def sent() -> Iterator[pa.RecordBatch]:
        try:
            for number in range(9):
                yield pa.record_batch({"number": [number]})
        finally:
            ended.append(True)

    batches = Batches(Stream(pa.schema([]), sent()))
    assert [batch["number"][0].as_py() for batch in batches.ahead(2)] == [0, 1]
    assert [next(batches)["number"][0].as_py() for _ in range(4)] == [0, 1, 2, 3]
    assert not ended
    batches.close()
    assert ended == [True]
    with pytest.raises(StopIteration):
        next(batches)


@dataclass(frozen=True)
class Small:
    """A service of small spectra, which a test may damage: three, one of them off the grid, and a longer one."""

    web: httpx.Client
    data: Path
    storage: Path
    ids: list[int]
    odd: int
    longer: int


@pytest.fixture
def small(tmp_path: Path, make_spectrum: Callable[..., int]) -> Iterator[Small]:
    tree, later = tmp_path / "tree", tmp_path / "later"
    ids = [make_spectrum(tree / f"spec-{number}.fits", fiberid=number) for number in (1, 2)]
    loglam = np.log10(np.linspace(3600, 3700, 40)).astype(np.float32)
    odd = make_spectrum(tree / "spec-3.fits", fiberid=3, loglam=loglam)
    longer = make_spectrum(later / "spec-4.fits", fiberid=4, npix=45)
    for folder in (tree, later):
        assert not ingest(tmp_path / "data", "small", [folder], workers=1).skipped
    service = Service(tmp_path / "data")
    server = FlightServer(service, "grpc://127.0.0.1:0")
    try:
        with serving((f"grpc://127.0.0.1:{server.port}",), tmp_path / "storage") as client:
            yield Small(client, tmp_path / "data", tmp_path / "storage", ids, odd, longer)
    finally:
        server.shutdown()
        service.close()


def small_fields(id_list: object, **more: object) -> dict[str, str]:
    return fields(id_list, context="small", **more)


def test_a_single_spectrum_off_the_grid_is_served_as_it_is(small: Small, astropy_vectors: Read) -> None:
    truth = astropy_vectors(small.data.parent / "tree/spec-3.fits")
    for more in ({}, {"align": True}, {"w0": 3.5, "w1": 3.9}):
        assert same(arrays(small.web.post("/getSpec", data=small_fields(small.odd, **more))), whole(truth))
    got = arrays(small.web.post("/getSpec", data=small_fields(small.odd, values="flux", w0=3.5, w1=3.9)))
    assert same(got, whole(truth, ("flux",)))
    stacked = arrays(small.web.post("/getSpec", data=small_fields([small.odd, small.ids[0]])))
    assert same(stacked[0], whole(truth))
    status, text = refusal(small.web.post("/getSpec", data=small_fields([small.odd, small.ids[0]], align=True)))
    assert (status, str(small.odd) in text) == (400, True)
    limits = json.loads(small.web.post("/listSpan", data=small_fields([small.odd])).text)
    assert limits == {"w0": round(float(truth["loglam"][0]), 6), "w1": round(float(truth["loglam"][-1]), 6)}


def test_one_that_is_longer_is_found_before_the_answer_begins(small: Small) -> None:
    wanted = [small.ids[0]] * 30_000
    assert arrays(small.web.post("/getSpec", data=small_fields(wanted))).shape == (30_000, 40)
    status, text = refusal(small.web.post("/getSpec", data=small_fields([*wanted, small.longer])))
    assert status == 400
    assert "40 and 45 pixels" in text


@pytest.mark.parametrize("kind", ["npy", "arrow", "csv", "parquet"])
def test_damage_in_the_middle_breaks_the_connection_off(small: Small, kind: str) -> None:
    wanted = [*small.ids * 3500, small.longer]
    hurt_part(small)
    status, text = refusal(small.web.post("/getSpec", data=small_fields(small.longer, format=kind)))
    assert (status, f"spectrum {small.longer} cannot be read" in text) == (500, True)
    first = small.web.post("/getSpec", data=small_fields(wanted[::-1], align=True, format=kind))
    assert refusal(first)[0] == 500
    with pytest.raises(httpx.RemoteProtocolError, match=r"complete"):
        small.web.post("/getSpec", data=small_fields(wanted, align=True, format=kind))
    assert arrays(small.web.post("/getSpec", data=small_fields(wanted[:-1], align=True))).shape == (7000, 40)


def hurt_part(small: Small) -> None:
    folder = small.data / "small/spectra"
    with pa.OSFile(str(folder / "index.arrow")) as file:
        index = pa.ipc.open_file(file).read_all()
    at = index["specobjid"].to_pylist().index(small.longer)
    os.truncate(folder / index["part"][at].as_py(), 100)


@pytest.mark.parametrize("name", ['spec "5".fits', "spec-5-\u00e9.fits", "spec\n5.fits", "spec\\5.fits"])
def test_any_name_of_a_file_can_be_told(small: Small, make_spectrum: Callable[..., int], name: str) -> None:
    path = small.data.parent / "named" / name
    specobjid = make_spectrum(path, fiberid=5)
    ingest(small.data, "small", [path], workers=1)
    answer = small.web.post("/getSpec", data=small_fields(specobjid, format="FITS"))
    assert answer.content == path.read_bytes()
    assert answer.headers["content-disposition"] == f"attachment; filename*=utf-8''{quote(name)}"


def test_an_original_that_is_gone_is_told(small: Small) -> None:
    (small.data.parent / "tree/spec-1.fits").unlink()
    status, text = refusal(small.web.post("/getSpec", data=small_fields(small.ids[0], format="FITS")))
    assert status == 500
    assert "spec-1.fits" in text
    assert str(small.data.parent) not in text


def test_spectra_go_into_the_storage_of_the_caller(small: Small) -> None:
    def stored(id_list: object, **more: object) -> httpx.Response:
        return small.web.post("/getSpec", data=small_fields(id_list, **more), headers={"X-DL-AuthToken": "alice"})

    folder = small.storage / "alice"
    answer = stored([*small.ids, small.longer], out="vos://spectra/")
    assert (answer.status_code, answer.text) == (200, "OK")
    assert sorted(path.name for path in (folder / "spectra").iterdir()) == sorted(
        f"{specobjid}.npy" for specobjid in [*small.ids, small.longer]
    )
    for specobjid in small.ids:
        content = (folder / f"spectra/{specobjid}.npy").read_bytes()
        assert content == small.web.post("/getSpec", data=small_fields(specobjid)).content
    assert stored(small.ids, out="vos://cut", w0=3.54, w1=3.56, values="ivar").text == "OK"
    padded = small.web.post("/getSpec", data=small_fields(small.ids[1], w0=3.54, w1=3.56, values="ivar")).content
    assert (folder / f"cut/{small.ids[1]}.npy").read_bytes() == padded
    assert stored(small.ids[0], out="vos://").text == "OK"
    assert (folder / f"{small.ids[0]}.npy").exists()
    assert stored(small.ids, out="vos://originals", format="FITS").text == "OK"
    for number in (1, 2):
        original = small.data.parent / f"tree/spec-{number}.fits"
        assert (folder / f"originals/spec-{number}.fits").read_bytes() == original.read_bytes()


def test_what_cannot_be_stored_is_told_with_what_is_there_already(small: Small) -> None:
    def stored(id_list: object, token: str = "alice", **more: object) -> tuple[int, str]:
        data = small_fields(id_list, **more)
        return refusal(small.web.post("/getSpec", data=data, headers={"X-DL-AuthToken": token}))

    status, text = stored(small.ids, token="", out="vos://x/")
    assert (status, "already" in text) == (401, False)
    assert stored(small.ids, out="/tmp/x")[0] == 400
    assert stored(small.ids, out="vos://x/", format="csv")[0] == 400
    assert stored(small.ids, out="vos://../bob/")[0] == 400
    hurt_part(small)
    status, text = stored([small.longer, *small.ids], out="vos://x/")
    assert (status, "already" in text) == (500, False)
    assert not (small.storage / "alice/x").exists()
    (small.data.parent / "tree/spec-2.fits").unlink()
    # A list long enough to be read file by file.
    status, text = stored([small.ids[0]] * 300 + [small.ids[1]], out="vos://x/", format="fits")
    assert status == 500
    assert "spec-2.fits cannot be read" in text
    assert text.endswith("; 1 file is in vos://x/ already")
    assert [path.name for path in (small.storage / "alice/x").iterdir()] == ["spec-1.fits"]


def test_a_list_may_lie_in_the_storage_of_the_caller(small: Small) -> None:
    folder = small.storage / "alice"
    folder.mkdir(parents=True)
    (folder / "ids.csv").write_text("specobjid,z\n" + "".join(f"{specobjid},0.1\n" for specobjid in small.ids))
    (folder / "none.txt").write_text("nonsense!")
    (folder / "binary").write_bytes(b"\xff\xfe\x00")

    def asked(uri: str, token: str = "alice") -> httpx.Response:
        return small.web.post("/getSpec", data=small_fields(uri, align=True), headers={"X-DL-AuthToken": token})

    expected = small.web.post("/getSpec", data=small_fields(small.ids, align=True)).content
    assert asked("vos://ids.csv").content == expected
    assert refusal(asked("vos://ids.csv", token=""))[0] in (401, 404)
    assert refusal(asked("vos://nosuch"))[0] == 404
    assert refusal(asked("vos://none.txt"))[1].startswith("Error: ids: in the file 'vos://none.txt', ")
    assert refusal(asked("vos://binary")) == (400, "Error: ids: the file 'vos://binary' is not a text of ids")


def test_real_spectra_come_bit_for_bit(
    real_server: Running, real_truth: Truth, astropy_vectors: Read, tmp_path: Path
) -> None:
    with serving(real_server.flight, tmp_path) as web:
        for context, files in real_truth.items():
            some = dict(sorted(files.items())[-30:])
            vectors = {specobjid: astropy_vectors(path) for specobjid, path in some.items()}
            first, end = span_of(vectors, list(vectors))
            expected = np.stack([on_grid(own, first, end - first) for own in vectors.values()])
            limits = json.loads(web.post("/listSpan", data=fields(list(some), context=context)).text)
            assert same(arrays(answered(web, list(some), context=context, **limits)), expected)
            for row, (specobjid, path) in enumerate(list(some.items())[:5]):
                assert same(arrays(answered(web, specobjid, context=context, **limits)), expected[row])
                assert answered(web, specobjid, context=context, format="FITS").content == path.read_bytes()
