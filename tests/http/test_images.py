from __future__ import annotations

import io
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from specflight.catalog.identifiers import unpack_specobjid
from specflight.client import Client
from specflight.errors import SpecflightError
from specflight.flight.settings import HttpSettings
from specflight.http import images
from specflight.http.drawing import PreviewOptions, Subject, vectors_of
from specflight.http.endpoints import add_endpoints
from specflight.http.gridplot import draw_grid
from specflight.http.images import ENDPOINTS
from specflight.http.parameters import MissingParameter
from specflight.http.preview import draw_preview
from specflight.http.state import State
from specflight.http.vos import Storage
from specflight.tools.serve import Running

CONTEXT = "sdss_dr16"
Read = Callable[[Path], dict[str, Any]]
Truth = Callable[[int, PreviewOptions], tuple[NDArray[np.void], Subject]]


@dataclass(frozen=True)
class Web:
    """A service of pictures alone."""

    http: httpx.Client
    state: State

    def get(self, path: str, **parameters: Any) -> httpx.Response:  # noqa: ANN401
        return self.http.get(path, params={"context": CONTEXT} | parameters)

    def post(self, path: str, **parameters: Any) -> httpx.Response:  # noqa: ANN401
        return self.http.post(path, data={"context": CONTEXT} | parameters)


@contextmanager
def _serve(running: Running, folder: Path, settings: HttpSettings) -> Iterator[Web]:
    app = FastAPI()
    state = State(settings, Storage(str(folder), 1 << 20, 1 << 20), b"secret", running.flight, running.flight)
    app.state.specflight = state

    @app.exception_handler(SpecflightError)
    async def refused(request: Request, error: SpecflightError) -> Response:
        text = f"Param Error: '{error}'" if isinstance(error, MissingParameter) else f"Error: {error}"
        return PlainTextResponse(text, error.http_status)

    @app.get("/ping")
    async def ping() -> str:
        return "OK"

    add_endpoints(app.router, ENDPOINTS)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=url, timeout=30, limits=httpx.Limits(max_connections=20)) as http:
                yield Web(http, state)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def web(sim_server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with _serve(sim_server, tmp_path_factory.mktemp("storage"), HttpSettings()) as web:
        yield web


@pytest.fixture
def strict(sim_server: Running, tmp_path: Path) -> Iterator[Web]:
    """The same with low limits."""
    settings = HttpSettings(drawing_wait_seconds=0.1, max_grid_cells=6, max_image_pixels=20_000, picture_seconds=1.0)
    with _serve(sim_server, tmp_path, settings) as web:
        yield web


@pytest.fixture(scope="module")
def rows(sim_client: Client) -> dict[int, dict[str, Any]]:
    """What the catalogue says of each spectrum, by redshift."""
    table = sim_client.query(
        constraint="order by z", fields="specobjid,z,class,subclass", catalog=f"{CONTEXT}.specobjall"
    )
    return {row["specobjid"]: row for row in table.to_pylist()}


@pytest.fixture(scope="module")
def ids(rows: dict[int, dict[str, Any]]) -> list[int]:
    return list(rows)


@pytest.fixture(scope="module")
def truth(rows: dict[int, dict[str, Any]], sim_truth: dict[str, dict[int, Path]], astropy_vectors: Read) -> Truth:
    """Vectors of a spectrum as astropy reads them from its file, and what the catalogue says of it."""

    def read(specobjid: int, options: PreviewOptions) -> tuple[NDArray[np.void], Subject]:
        vectors, row = astropy_vectors(sim_truth[CONTEXT][specobjid]), rows[specobjid]
        names = vectors_of(options)
        spectrum = np.empty(len(vectors["flux"]), [(name, "<f4") for name in names])
        for name in names:
            spectrum[name] = vectors[name]
        return spectrum, Subject(specobjid, row["z"], row["class"], row["subclass"] or None)

    return read


def _image(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    return image


def _tuple(specobjid: int) -> str:
    parts = unpack_specobjid(specobjid)
    return f"({int(parts.plate)}, {int(parts.mjd)}, {int(parts.fiberid)})"


DRAWN: list[tuple[dict[str, Any], PreviewOptions]] = [
    ({}, PreviewOptions()),
    ({"width": 640, "height": 240}, PreviewOptions(width=640, height=240)),
    ({"rest_frame": "True"}, PreviewOptions(rest_frame=True)),
    ({"smooth": 7}, PreviewOptions(smooth=7)),
    ({"lines": "emission"}, PreviewOptions(lines=("emission",))),
    ({"lines": "sky, absorption"}, PreviewOptions(lines=("absorption", "sky"))),
    ({"lines": "all"}, PreviewOptions(lines=("emission", "absorption", "sky"))),
    ({"model": "true"}, PreviewOptions(model=True)),
    ({"sky": 1}, PreviewOptions(sky=True)),
    ({"theme": "dark"}, PreviewOptions(theme="dark")),
]


@pytest.mark.parametrize(("asked", "options"), DRAWN)
def test_a_preview_is_the_spectrum_of_the_file_and_what_the_catalogue_says(
    web: Web, ids: list[int], truth: Truth, asked: dict[str, Any], options: PreviewOptions
) -> None:
    specobjid = ids[-1]
    answer = web.get("/preview", id=specobjid, **asked)
    image = _image(answer)
    assert (image.mode, image.size) == ("RGBA", (options.width, options.height))
    assert answer.content == draw_preview(*truth(specobjid, options), options)
    if asked:
        assert answer.content != web.get("/preview", id=specobjid).content


def test_a_preview_may_be_svg(web: Web, ids: list[int]) -> None:
    answer = web.get("/preview", id=ids[0], format="svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "<svg" in answer.text
    assert web.get("/preview", id=ids[0], fmt="svg").text == answer.text


def test_a_spectrum_may_be_named_in_every_way(web: Web, ids: list[int]) -> None:
    specobjid = ids[3]
    whole = web.get("/preview", id=specobjid).content
    assert web.get("/preview", id=_tuple(specobjid)).content == whole
    assert web.get("/preview", id=_tuple(specobjid)[1:-1].replace(", ", "-")).content == whole
    assert web.post("/preview", id=specobjid, debug=False, verbose=False, profile="default").content == whole
    for number in (specobjid, str(specobjid), [specobjid]):
        assert web.http.post("/preview", json={"id": number, "context": CONTEXT}).content == whole


def test_old_clients_give_no_more_than_id_context_and_profile(web: Web, ids: list[int]) -> None:
    assert max(ids) >= 2**63
    assert _image(web.http.get(f"/preview?id={max(ids)}&context={CONTEXT}&profile=default")).size == (400, 100)


@pytest.mark.parametrize("several", ["both", "wildcard"])
def test_a_preview_of_several_spectra_names_the_endpoint_for_them(web: Web, ids: list[int], several: str) -> None:
    plate = int(unpack_specobjid(ids[0]).plate)
    named = f"[{ids[0]}, {ids[1]}]" if several == "both" else f"({plate}, '*', '*')"
    answer = web.get("/preview", id=named)
    assert answer.status_code == 400
    assert answer.text.startswith("Error: id: ")
    assert "/gridPlot" in answer.text


BAD: list[tuple[str, dict[str, Any], int, str]] = [
    ("/preview", {}, 400, "Param Error: 'id'"),
    ("/preview", {"id": "4242"}, 404, "4242"),
    ("/preview", {"id": "[4242, 4343]"}, 400, "^Error: id: .*/gridPlot"),
    ("/preview", {"id": "nonsense"}, 400, "'nonsense'"),
    ("/preview", {"id": "1", "context": "nosuch"}, 404, "'nosuch'"),
    ("/preview", {"id": "1", "width": 0}, 400, "width: .*'0'"),
    ("/preview", {"id": "1", "width": 4001}, 400, "width: .*4000.*'4001'"),
    ("/preview", {"id": "1", "height": 3001}, 400, "height: .*3000.*'3001'"),
    ("/preview", {"id": "1", "height": "tall"}, 400, "height: .*'tall'"),
    ("/preview", {"id": "1", "smooth": -1}, 400, "smooth: .*'-1'"),
    ("/preview", {"id": "1", "smooth": 1001}, 400, "smooth: .*'1001'"),
    ("/preview", {"id": "1", "lines": "emission,foo"}, 400, "lines: 'foo' .*none, all, emission, absorption, sky"),
    ("/preview", {"id": "1", "theme": "pink"}, 400, "theme: .*'pink'"),
    ("/preview", {"id": "1", "format": "gif"}, 400, "format: .*'gif'"),
    ("/preview", {"id": "1", "cmap": "gray"}, 400, "cmap: is not a parameter here"),
    ("/gridPlot", {}, 400, "Param Error: 'id_list'"),
    ("/gridPlot", {"id_list": "[]"}, 400, "empty"),
    ("/gridPlot", {"id_list": "[1]", "nx": 0}, 400, "nx: .*'0'"),
    ("/gridPlot", {"id_list": "[1]", "ncols": 2, "nx": 3}, 400, "nx: 3 .*ncols"),
    ("/gridPlot", {"id_list": "[1]", "ncols": 2, "ny": 3}, 400, "ny: 3 .*ncols"),
    ("/gridPlot", {"id_list": "[1]", "ncols": 2, "page": 1}, 400, "page: 1 .*ncols"),
    ("/gridPlot", {"id_list": "[1]", "nx": 21, "ny": 20}, 413, "nx, ny: 21 x 20 .*max_grid_cells = 400"),
    ("/gridPlot", {"id_list": "[1]", "format": "svg"}, 400, "format: .*'svg'"),
    ("/gridPlot", {"id_list": "[4242, 4343]"}, 404, "4242, 4343"),
    ("/stackedImage", {}, 400, "Param Error: 'id_list'"),
    ("/stackedImage", {"id_list": "[4242, 4343]"}, 404, "4242"),
    ("/stackedImage", {"id_list": "[4242]", "cmap": "grau"}, 400, "cmap: 'grau'"),
    ("/stackedImage", {"id_list": "[4242]", "limits": "9,1"}, 400, "limits: '9,1'"),
    ("/stackedImage", {"id_list": "[4242]", "xscale": 0}, 400, "xscale: .*'0'"),
    ("/stackedImage", {"id_list": "[4242]", "thickness": 0}, 400, "thickness: .*'0'"),
    ("/stackedImage", {"id_list": "[4242]", "height": -1}, 400, "height: .*'-1'"),
    ("/stackedImage", {"id_list": "[4242]", "fmt": "jpeg"}, 400, "fmt: .*'jpeg'"),
]


@pytest.mark.parametrize(("path", "asked", "status", "text"), BAD)
def test_what_will_not_do_is_named(web: Web, path: str, asked: dict[str, Any], status: int, text: str) -> None:
    for answer in (web.get(path, **asked), web.post(path, **asked)):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert re.search(text, answer.text), answer.text


def test_a_rest_frame_without_a_redshift_is_refused(web: Web, ids: list[int]) -> None:
    answer = web.get("/preview", id=ids[0], context=f"{CONTEXT}_fits", rest_frame=True)
    assert answer.status_code == 400
    assert answer.text == f"Error: rest_frame: the redshift of spectrum {ids[0]} is not known"
    assert _image(web.get("/preview", id=ids[0], context=f"{CONTEXT}_fits")).size == (400, 100)


@pytest.mark.parametrize("path", ["/gridPlot", "/plotGrid"])
@pytest.mark.parametrize(("count", "ncols", "size"), [(25, 5, (2000, 500)), (7, 3, (1200, 300)), (1, 2, (400, 100))])
def test_old_clients_get_the_whole_list_in_rows_of_ncols(
    web: Web, ids: list[int], truth: Truth, path: str, count: int, ncols: int, size: tuple[int, int]
) -> None:
    some = ids[count::-1][:count]
    answer = web.post(path, id_list=str(some), ncols=ncols, profile="default", debug=False, verbose=False)
    image = _image(answer)
    assert (image.mode, image.size) == ("RGB", size)
    options = PreviewOptions()
    spectra, subjects = zip(*(truth(one, options) for one in some), strict=True)
    assert answer.content == draw_grid(spectra, subjects, ncols, options)


def test_a_page_is_a_part_of_the_list(web: Web, ids: list[int]) -> None:
    some, shape = ids[:10], {"nx": 2, "ny": 2}
    for page, part in ((0, some[:4]), (1, some[4:8]), (2, some[8:])):
        answer = web.post("/gridPlot", id_list=str(some), page=page, **shape)
        assert answer.content == web.post("/gridPlot", id_list=str(part), ncols=2).content
    answer = web.post("/gridPlot", id_list=str(some), page=3, **shape)
    assert (answer.status_code, answer.text) == (400, "Error: page: 3 is none of the 3 pages, from 0")
    assert (
        web.post("/gridPlot", id_list=str(ids[:30])).content
        == web.post("/gridPlot", id_list=str(ids[:25]), ncols=5).content
    )


def test_tuples_and_wildcards_have_pages_too(web: Web, ids: list[int]) -> None:
    plates = unpack_specobjid(np.array(sorted(ids), np.uint64)).plate
    plate = int(np.bincount(plates.astype(np.int64)).argmax())
    of_plate = [number for number, own in zip(sorted(ids), plates, strict=True) if own == plate]
    assert len(of_plate) > 4
    named = f"[({plate}, '*', '*'), {ids[0]}]"
    part = [*of_plate, ids[0]][3:6]
    answer = web.post("/gridPlot", id_list=named, nx=3, ny=1, page=1)
    assert answer.content == web.post("/gridPlot", id_list=str(part), ncols=3).content
    pages = -(-(len(of_plate) + 1) // 3)
    beyond = web.post("/gridPlot", id_list=named, nx=3, ny=1, page=pages)
    assert (beyond.status_code, beyond.text) == (400, f"Error: page: {pages} is none of the {pages} pages, from 0")
    tuples = [_tuple(number) for number in ids[:4]]
    listed = web.post("/plotGrid", id_list=f"[{', '.join(tuples)}]", ncols=2)
    assert listed.content == web.post("/plotGrid", id_list=str(ids[:4]), ncols=2).content


def test_the_options_of_a_grid_reach_its_drawing(web: Web, ids: list[int], truth: Truth) -> None:
    some = [min(ids), max(ids)]
    options = PreviewOptions(width=200, height=80, smooth=5, theme="dark", lines=("emission",))
    asked = {"id_list": str(some), "ncols": 1, "width": 200, "height": 80, "smooth": 5, "theme": "dark"}
    answer = web.post("/gridPlot", **asked, lines="emission", align=True, labels=False)
    spectra, subjects = zip(*(truth(one, options) for one in some), strict=True)
    assert answer.content == draw_grid(spectra, subjects, 1, options, align=True, labels=False)
    for other in ({"align": True}, {"labels": False}, {"align": True, "labels": False, "ncols": 2}):
        assert answer.content != web.post("/gridPlot", **asked | {"lines": "emission"} | other).content


@pytest.mark.parametrize("path", ["/preview", "/gridPlot", "/stackedImage"])
def test_who_has_no_storage_cannot_name_a_list_in_it(web: Web, path: str) -> None:
    answer = web.post(path, **{"id" if path == "/preview" else "id_list": "vos://ids.txt"})
    assert answer.status_code == 401
    assert "vos://ids.txt" in answer.text


def _levels(answer: httpx.Response) -> NDArray[np.uint8]:
    return np.asarray(_image(answer))


def test_a_stack_has_a_row_for_each_spectrum_the_first_at_the_bottom(
    web: Web, ids: list[int], sim_client: Client
) -> None:
    some = ids[:6]
    flux = sim_client.getSpec(some, align=True, columns="flux")["flux"]
    array = web.post("/stackedImage", id_list=str(some), fmt="numpy")
    assert array.headers["content-type"] == "application/octet-stream"
    assert int(array.headers["content-length"]) == len(array.content)
    rows = np.load(io.BytesIO(array.content))
    assert (rows.dtype, rows.shape) == (np.float32, flux.shape)
    assert rows.tobytes() == flux.tobytes()
    image = _image(web.post("/stackedImage", id_list=str(some)))
    assert (image.mode, image.size) == ("L", flux.shape[::-1])
    levels = np.asarray(image)
    brightest = np.argsort(np.median(flux, axis=1))
    assert np.argsort(np.median(levels[::-1], axis=1)[brightest], kind="stable").tolist() == list(range(6))
    flipped = _levels(web.post("/stackedImage", id_list=str(some), yflip=True, limits="1,99"))
    assert (flipped[::-1] == _levels(web.post("/stackedImage", id_list=str(some), limits="1,99"))).all()
    assert (
        np.load(io.BytesIO(web.post("/stackedImage", id_list=str(some), fmt="numpy", yflip=True).content)) == rows[::-1]
    ).all()


def test_old_clients_send_every_parameter_of_a_stack_as_text(web: Web, ids: list[int], sim_client: Client) -> None:
    some = ids[:8]
    width = sim_client.getSpec(some, align=True, columns="flux").shape[1]
    body = {
        "id_list": str(some), "xscale": 1.0, "yscale": 1.0, "thickness": 1, "cmap": "gray", "inverse": False,
        "width": 0, "height": 0, "profile": "default", "debug": False, "verbose": False,
    }  # fmt: skip
    plain = _image(web.post("/stackedImage", **body))
    assert (plain.mode, plain.size) == ("L", (width, 8))
    scaled = _image(
        web.post("/stackedImage", **body | {"xscale": 0.25, "yscale": 0.25, "thickness": 3, "cmap": "summer"})
    )
    assert (scaled.mode, scaled.size) == ("RGBA", (int(width * 0.25), 6))
    assert _image(web.post("/stackedImage", **body | {"width": 400, "height": 200})).size == (400, 200)
    inverse = _levels(web.post("/stackedImage", **body | {"inverse": True}))
    assert (inverse == 255 - np.asarray(plain)).all()


def test_the_options_of_a_stack_reach_it(web: Web, ids: list[int], sim_client: Client, rows: dict[int, Any]) -> None:
    galaxies = [number for number in ids if 0.05 < rows[number]["z"] < 3]
    some = [galaxies[0], galaxies[-1]]
    whole = _image(web.post("/stackedImage", id_list=str(some)))
    longest = max(len(spectrum) for spectrum in sim_client.getSpec(ids, columns="flux"))
    assert longest < sim_client.getSpec(ids, align=True, columns="flux").shape[1]
    assert _image(web.post("/stackedImage", id_list=str(ids), align=False)).width == longest
    assert _image(web.post("/stackedImage", id_list=str(some), rest_frame=True)).width > whole.width
    percentiles = _levels(web.post("/stackedImage", id_list=str(some), limits="30,40"))
    assert (percentiles == 255).mean() > 2 * (np.asarray(whole) == 255).mean()
    assert _image(web.post("/stackedImage", id_list=f"[{_tuple(some[0])}]")).height == 1


def test_who_hangs_up_ends_a_stack(web: Web, ids: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def endless(*_: object) -> tuple[str, None, Iterator[bytes]]:
        def body() -> Iterator[bytes]:
            try:
                while True:
                    yield b"x" * 100_000
            finally:
                ended.set()

        return "image/png", None, held.setdefault("body", body())

    held: dict[str, Iterator[bytes]] = {}
    monkeypatch.setattr(images, "stacked_image", endless)
    with web.http.stream("POST", "/stackedImage", data={"id_list": str(ids)}) as answer:
        next(answer.iter_raw())
    assert ended.wait(10)


def test_the_limits_of_the_settings_are_named(strict: Web, ids: list[int]) -> None:
    for asked in ({"nx": 4, "ny": 2}, {"ncols": 7}):
        answer = strict.post("/gridPlot", id_list=str(ids[:7]), **asked)
        assert answer.status_code == 413
        assert "max_grid_cells = 6" in answer.text
    assert _image(strict.post("/gridPlot", id_list=str(ids[:6]), ncols=3)).size == (1200, 200)
    answer = strict.post("/stackedImage", id_list=str(ids[:6]))
    assert answer.status_code == 413
    assert "max_image_pixels = 20000" in answer.text


def test_a_picture_is_asked_for_again_only_if_it_changed(web: Web, ids: list[int]) -> None:
    url, known = f"/preview?id={ids[0]}&context={CONTEXT}", web.get("/preview", id=ids[0])
    tag = known.headers["etag"]
    assert 0 < int(known.headers["cache-control"].removeprefix("max-age=")) <= HttpSettings().picture_seconds
    for condition in (tag, f'"x", W/{tag}', "*"):
        again = web.http.get(url, headers={"If-None-Match": condition})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert web.http.get(url, headers={"If-None-Match": '"x"'}).content == known.content
    assert web.get("/preview", id=ids[0], theme="dark").headers["etag"] != tag
    assert "etag" not in web.post("/preview", id=ids[0]).headers


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Subject]:
    """What is drawn, in order."""
    subjects: list[Subject] = []

    def draw(spectrum: NDArray[np.void], subject: Subject, options: PreviewOptions) -> bytes:
        subjects.append(subject)
        return draw_preview(spectrum, subject, options)

    monkeypatch.setattr(images, "draw_preview", draw)
    return subjects


def test_a_picture_is_drawn_once_for_all_who_ask_for_it(web: Web, ids: list[int], drawn: list[Subject]) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: web.get("/preview", id=ids[9], width=777).content, range(24)))
    assert len(set(answers)) == 1
    assert [subject.specobjid for subject in drawn] == [ids[9]]
    for other in ({"id": ids[10]}, {"context": "default"}, {"height": 101}, {"format": "svg"}):
        assert web.get("/preview", **{"id": ids[9], "width": 777} | other).status_code == 200
    assert len(drawn) == 5


def test_a_picture_is_drawn_anew_when_it_is_old(strict: Web, ids: list[int], drawn: list[Subject]) -> None:
    first = strict.get("/preview", id=ids[0])
    assert first.headers["cache-control"] == "max-age=0"
    while strict.get("/preview", id=ids[0]).content == first.content and len(drawn) < 2:
        pass
    assert len(drawn) == 2


def test_who_has_to_wait_too_long_for_a_drawing_is_told_so(strict: Web, ids: list[int]) -> None:
    kept = strict.get("/preview", id=ids[0], width=300)
    with strict.state.pictures.turn():
        answer = strict.get("/preview", id=ids[1])
        assert answer.status_code == 503
        assert "drawing_wait_seconds = 0.1" in answer.text
        assert strict.post("/gridPlot", id_list=str(ids[:4]), ncols=2).status_code == 503
        assert strict.get("/preview", id=ids[0], width=300).content == kept.content
        assert strict.http.get("/ping").status_code == 200
    assert strict.get("/preview", id=ids[1]).status_code == 200


def test_openapi_tells_every_parameter_and_kind_of_picture(web: Web) -> None:
    paths = web.http.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/preview", "/gridPlot", "/plotGrid", "/stackedImage", "/ping"}
    width = next(about for about in paths["/preview"]["get"]["parameters"] if about["name"] == "width")
    assert (width["schema"]["minimum"], width["schema"]["maximum"]) == (1, 4000)
    assert set(paths["/preview"]["get"]["responses"]["200"]["content"]) == {"image/png", "image/svg+xml"}
    body = paths["/stackedImage"]["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    assert {"format", "yflip", "cmap", "limits"} <= set(body["properties"])
    assert all(about.get("description") for about in body["properties"].values())
