from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fixtures_http import App, app_served, requests_running, wait_for
from numpy.typing import NDArray
from PIL import Image

from specflight.catalog.identifiers import unpack_specobjid
from specflight.client import Client
from specflight.flight.settings import HttpSettings
from specflight.http.drawing import PreviewOptions, Subject, vectors_of
from specflight.http.gridplot import draw_grid
from specflight.http.images import ENDPOINTS
from specflight.http.preview import draw_preview
from specflight.tools.serve import Running

CONTEXT = "sdss_dr16"
Read = Callable[[Path], dict[str, Any]]
Truth = Callable[[int, PreviewOptions], tuple[NDArray[np.void], Subject]]


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of a service, asked for by parameters of a context."""

    http: httpx.Client

    def get(self, path: str, **parameters: Any) -> httpx.Response:  # noqa: ANN401
        return self.http.get(path, params={"context": CONTEXT} | parameters)

    def post(self, path: str, **parameters: Any) -> httpx.Response:  # noqa: ANN401
        return self.http.post(path, data={"context": CONTEXT} | parameters)


@pytest.fixture
def pictures(web: httpx.Client) -> Pictures:
    return Pictures(web)


@pytest.fixture
def app(sim_server: Running, sim_served: Path, tmp_path: Path) -> Iterator[App]:
    """The application with low limits, in this process."""
    limits = {"drawing_wait_seconds": 0.1, "max_grid_cells": 6, "max_image_pixels": 20_000}
    with app_served(sim_server, sim_served, tmp_path, **limits) as app:
        yield app


@pytest.fixture
def strict(app: App) -> Pictures:
    return Pictures(app.web)


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
    pictures: Pictures, ids: list[int], truth: Truth, asked: dict[str, Any], options: PreviewOptions
) -> None:
    specobjid = ids[-1]
    answer = pictures.get("/preview", id=specobjid, **asked)
    image = _image(answer)
    assert (image.mode, image.size) == ("RGBA", (options.width, options.height))
    assert answer.content == draw_preview(*truth(specobjid, options), options)
    if asked:
        assert answer.content != pictures.get("/preview", id=specobjid).content


def test_a_preview_may_be_svg(pictures: Pictures, ids: list[int]) -> None:
    answer = pictures.get("/preview", id=ids[0], format="svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "<svg" in answer.text
    assert pictures.get("/preview", id=ids[0], fmt="svg").text == answer.text


def test_a_spectrum_may_be_named_in_every_way(pictures: Pictures, ids: list[int]) -> None:
    specobjid = ids[3]
    whole = pictures.get("/preview", id=specobjid).content
    assert pictures.get("/preview", id=_tuple(specobjid)).content == whole
    assert pictures.get("/preview", id=_tuple(specobjid)[1:-1].replace(", ", "-")).content == whole
    assert pictures.post("/preview", id=specobjid, debug=False, verbose=False, profile="default").content == whole
    for number in (specobjid, str(specobjid), [specobjid]):
        assert pictures.http.post("/preview", json={"id": number, "context": CONTEXT}).content == whole


def test_old_clients_give_no_more_than_id_context_and_profile(pictures: Pictures, ids: list[int]) -> None:
    assert max(ids) >= 2**63
    assert _image(pictures.http.get(f"/preview?id={max(ids)}&context={CONTEXT}&profile=default")).size == (400, 100)


@pytest.mark.parametrize("several", ["both", "wildcard"])
def test_a_preview_of_several_spectra_names_the_endpoint_for_them(
    pictures: Pictures, ids: list[int], several: str
) -> None:
    plate = int(unpack_specobjid(ids[0]).plate)
    named = f"[{ids[0]}, {ids[1]}]" if several == "both" else f"({plate}, '*', '*')"
    answer = pictures.get("/preview", id=named)
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
def test_what_will_not_do_is_named(
    pictures: Pictures, path: str, asked: dict[str, Any], status: int, text: str
) -> None:
    for answer in (pictures.get(path, **asked), pictures.post(path, **asked)):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert re.search(text, answer.text), answer.text


def test_a_rest_frame_without_a_redshift_is_refused(pictures: Pictures, ids: list[int]) -> None:
    answer = pictures.get("/preview", id=ids[0], context=f"{CONTEXT}_fits", rest_frame=True)
    assert answer.status_code == 400
    assert answer.text == f"Error: rest_frame: the redshift of spectrum {ids[0]} is not known"
    assert _image(pictures.get("/preview", id=ids[0], context=f"{CONTEXT}_fits")).size == (400, 100)


@pytest.mark.parametrize("path", ["/gridPlot", "/plotGrid"])
@pytest.mark.parametrize(("count", "ncols", "size"), [(25, 5, (2000, 500)), (7, 3, (1200, 300)), (1, 2, (400, 100))])
def test_old_clients_get_the_whole_list_in_rows_of_ncols(
    pictures: Pictures, ids: list[int], truth: Truth, path: str, count: int, ncols: int, size: tuple[int, int]
) -> None:
    some = ids[count::-1][:count]
    answer = pictures.post(path, id_list=str(some), ncols=ncols, profile="default", debug=False, verbose=False)
    image = _image(answer)
    assert (image.mode, image.size) == ("RGB", size)
    options = PreviewOptions()
    spectra, subjects = zip(*(truth(one, options) for one in some), strict=True)
    assert answer.content == draw_grid(spectra, subjects, ncols, options)


def test_a_page_is_a_part_of_the_list(pictures: Pictures, ids: list[int]) -> None:
    some, shape = ids[:10], {"nx": 2, "ny": 2}
    for page, part in ((0, some[:4]), (1, some[4:8]), (2, some[8:])):
        answer = pictures.post("/gridPlot", id_list=str(some), page=page, **shape)
        assert answer.content == pictures.post("/gridPlot", id_list=str(part), ncols=2).content
    answer = pictures.post("/gridPlot", id_list=str(some), page=3, **shape)
    assert (answer.status_code, answer.text) == (400, "Error: page: 3 is none of the 3 pages, from 0")
    assert (
        pictures.post("/gridPlot", id_list=str(ids[:30])).content
        == pictures.post("/gridPlot", id_list=str(ids[:25]), ncols=5).content
    )


def test_tuples_and_wildcards_have_pages_too(pictures: Pictures, ids: list[int]) -> None:
    plates = unpack_specobjid(np.array(sorted(ids), np.uint64)).plate
    plate = int(np.bincount(plates.astype(np.int64)).argmax())
    of_plate = [number for number, own in zip(sorted(ids), plates, strict=True) if own == plate]
    assert len(of_plate) > 4
    named = f"[({plate}, '*', '*'), {ids[0]}]"
    part = [*of_plate, ids[0]][3:6]
    answer = pictures.post("/gridPlot", id_list=named, nx=3, ny=1, page=1)
    assert answer.content == pictures.post("/gridPlot", id_list=str(part), ncols=3).content
    pages = -(-(len(of_plate) + 1) // 3)
    beyond = pictures.post("/gridPlot", id_list=named, nx=3, ny=1, page=pages)
    assert (beyond.status_code, beyond.text) == (400, f"Error: page: {pages} is none of the {pages} pages, from 0")
    tuples = [_tuple(number) for number in ids[:4]]
    listed = pictures.post("/plotGrid", id_list=f"[{', '.join(tuples)}]", ncols=2)
    assert listed.content == pictures.post("/plotGrid", id_list=str(ids[:4]), ncols=2).content


def test_the_options_of_a_grid_reach_its_drawing(pictures: Pictures, ids: list[int], truth: Truth) -> None:
    some = [min(ids), max(ids)]
    options = PreviewOptions(width=200, height=80, smooth=5, theme="dark", lines=("emission",))
    asked = {"id_list": str(some), "ncols": 1, "width": 200, "height": 80, "smooth": 5, "theme": "dark"}
    answer = pictures.post("/gridPlot", **asked, lines="emission", align=True, labels=False)
    spectra, subjects = zip(*(truth(one, options) for one in some), strict=True)
    assert answer.content == draw_grid(spectra, subjects, 1, options, align=True, labels=False)
    for other in ({"align": True}, {"labels": False}, {"align": True, "labels": False, "ncols": 2}):
        assert answer.content != pictures.post("/gridPlot", **asked | {"lines": "emission"} | other).content


@pytest.mark.parametrize("path", ["/preview", "/gridPlot", "/stackedImage"])
def test_who_has_no_storage_cannot_name_a_list_in_it(pictures: Pictures, path: str) -> None:
    answer = pictures.post(path, **{"id" if path == "/preview" else "id_list": "vos://ids.txt"})
    assert answer.status_code == 401
    assert "vos://ids.txt" in answer.text


def _levels(answer: httpx.Response) -> NDArray[np.uint8]:
    return np.asarray(_image(answer))


def test_a_stack_has_a_row_for_each_spectrum_the_first_at_the_bottom(
    pictures: Pictures, ids: list[int], sim_client: Client
) -> None:
    some = ids[:6]
    flux = sim_client.getSpec(some, align=True, columns="flux")["flux"]
    array = pictures.post("/stackedImage", id_list=str(some), fmt="numpy")
    assert array.headers["content-type"] == "application/octet-stream"
    assert int(array.headers["content-length"]) == len(array.content)
    rows = np.load(io.BytesIO(array.content))
    assert (rows.dtype, rows.shape) == (np.float32, flux.shape)
    assert rows.tobytes() == flux.tobytes()
    image = _image(pictures.post("/stackedImage", id_list=str(some)))
    assert (image.mode, image.size) == ("L", flux.shape[::-1])
    levels = np.asarray(image)
    brightest = np.argsort(np.median(flux, axis=1))
    assert np.argsort(np.median(levels[::-1], axis=1)[brightest], kind="stable").tolist() == list(range(6))
    flipped = _levels(pictures.post("/stackedImage", id_list=str(some), yflip=True, limits="1,99"))
    assert (flipped[::-1] == _levels(pictures.post("/stackedImage", id_list=str(some), limits="1,99"))).all()
    assert (
        np.load(io.BytesIO(pictures.post("/stackedImage", id_list=str(some), fmt="numpy", yflip=True).content))
        == rows[::-1]
    ).all()


def test_old_clients_send_every_parameter_of_a_stack_as_text(
    pictures: Pictures, ids: list[int], sim_client: Client
) -> None:
    some = ids[:8]
    width = sim_client.getSpec(some, align=True, columns="flux").shape[1]
    body = {
        "id_list": str(some), "xscale": 1.0, "yscale": 1.0, "thickness": 1, "cmap": "gray", "inverse": False,
        "width": 0, "height": 0, "profile": "default", "debug": False, "verbose": False,
    }  # fmt: skip
    plain = _image(pictures.post("/stackedImage", **body))
    assert (plain.mode, plain.size) == ("L", (width, 8))
    scaled = _image(
        pictures.post("/stackedImage", **body | {"xscale": 0.25, "yscale": 0.25, "thickness": 3, "cmap": "summer"})
    )
    assert (scaled.mode, scaled.size) == ("RGBA", (int(width * 0.25), 6))
    assert _image(pictures.post("/stackedImage", **body | {"width": 400, "height": 200})).size == (400, 200)
    inverse = _levels(pictures.post("/stackedImage", **body | {"inverse": True}))
    assert (inverse == 255 - np.asarray(plain)).all()


def test_the_options_of_a_stack_reach_it(
    pictures: Pictures, ids: list[int], sim_client: Client, rows: dict[int, Any]
) -> None:
    galaxies = [number for number in ids if 0.05 < rows[number]["z"] < 3]
    some = [galaxies[0], galaxies[-1]]
    whole = _image(pictures.post("/stackedImage", id_list=str(some)))
    longest = max(len(spectrum) for spectrum in sim_client.getSpec(ids, columns="flux"))
    assert longest < sim_client.getSpec(ids, align=True, columns="flux").shape[1]
    assert _image(pictures.post("/stackedImage", id_list=str(ids), align=False)).width == longest
    assert _image(pictures.post("/stackedImage", id_list=str(some), rest_frame=True)).width > whole.width
    percentiles = _levels(pictures.post("/stackedImage", id_list=str(some), limits="30,40"))
    assert (percentiles == 255).mean() > 2 * (np.asarray(whole) == 255).mean()
    assert _image(pictures.post("/stackedImage", id_list=f"[{_tuple(some[0])}]")).height == 1


def test_who_hangs_up_ends_a_stack(web: httpx.Client, ids: list[int]) -> None:
    many = ids * (4000 // len(ids))
    with web.stream("POST", "/stackedImage", data={"id_list": str(many), "fmt": "numpy"}) as answer:
        assert int(answer.headers["content-length"]) > 50e6
        pieces = answer.iter_raw()
        next(pieces)
        assert requests_running(web) == 1
    wait_for(lambda: requests_running(web) == 0)


def test_the_limits_of_the_settings_are_named(strict: Pictures, ids: list[int]) -> None:
    for asked in ({"nx": 4, "ny": 2}, {"ncols": 7}):
        answer = strict.post("/gridPlot", id_list=str(ids[:7]), **asked)
        assert answer.status_code == 413
        assert "max_grid_cells = 6" in answer.text
    assert _image(strict.post("/gridPlot", id_list=str(ids[:6]), ncols=3)).size == (1200, 200)
    answer = strict.post("/stackedImage", id_list=str(ids[:6]))
    assert answer.status_code == 413
    assert "max_image_pixels = 20000" in answer.text


def test_a_picture_is_asked_for_again_only_if_it_changed(pictures: Pictures, ids: list[int]) -> None:
    url, known = f"/preview?id={ids[0]}&context={CONTEXT}", pictures.get("/preview", id=ids[0])
    tag = known.headers["etag"]
    assert 0 < int(known.headers["cache-control"].removeprefix("max-age=")) <= HttpSettings().picture_seconds
    for condition in (tag, f'"x", W/{tag}', "*"):
        again = pictures.http.get(url, headers={"If-None-Match": condition})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert pictures.http.get(url, headers={"If-None-Match": '"x"'}).content == known.content
    assert pictures.get("/preview", id=ids[0], theme="dark").headers["etag"] != tag
    assert "etag" not in pictures.post("/preview", id=ids[0]).headers
    assert [304 in endpoint.also for endpoint in ENDPOINTS] == [True, True, True, False]


def test_a_picture_is_drawn_once_for_all_who_ask_for_it(app: App, strict: Pictures, ids: list[int]) -> None:
    asked: dict[str, Any] = {"id": ids[9], "width": 333}
    kept = strict.get("/preview", **asked).content
    with app.state.pictures.turn():  # while nobody else can draw
        assert [way("/preview", **asked).content for way in (strict.get, strict.post)] == [kept] * 2
        for other in ({"id": ids[10]}, {"context": "default"}, {"height": 101}, {"format": "svg"}, {"smooth": 2}):
            assert strict.get("/preview", **asked | other).status_code == 503


def test_a_picture_is_drawn_anew_when_it_is_old(
    sim_server: Running, sim_served: Path, tmp_path: Path, ids: list[int]
) -> None:
    with app_served(sim_server, sim_served, tmp_path, picture_seconds=1.0, drawing_wait_seconds=0.1) as app:
        pictures = Pictures(app.web)
        assert pictures.get("/preview", id=ids[0]).headers["cache-control"] == "max-age=0"
        with app.state.pictures.turn():
            assert pictures.get("/preview", id=ids[0]).status_code == 200
            wait_for(lambda: pictures.get("/preview", id=ids[0]).status_code == 503)
        assert pictures.get("/preview", id=ids[0]).status_code == 200


def test_who_has_to_wait_too_long_for_a_drawing_is_told_so(app: App, strict: Pictures, ids: list[int]) -> None:
    kept = strict.get("/preview", id=ids[0], width=300)
    with app.state.pictures.turn():
        answer = strict.get("/preview", id=ids[1])
        assert answer.status_code == 503
        assert "drawing_wait_seconds = 0.1" in answer.text
        assert strict.post("/gridPlot", id_list=str(ids[:4]), ncols=2).status_code == 503
        assert strict.get("/preview", id=ids[0], width=300).content == kept.content
        assert strict.http.get("/ping").status_code == 200
    assert strict.get("/preview", id=ids[1]).status_code == 200


def test_openapi_tells_every_parameter_and_kind_of_picture(pictures: Pictures) -> None:
    paths = pictures.http.get("/openapi.json").json()["paths"]
    width = next(about for about in paths["/preview"]["get"]["parameters"] if about["name"] == "width")
    assert (width["schema"]["minimum"], width["schema"]["maximum"]) == (1, 4000)
    assert set(paths["/preview"]["get"]["responses"]["200"]["content"]) == {"image/png", "image/svg+xml"}
    body = paths["/stackedImage"]["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    assert {"format", "yflip", "cmap", "limits"} <= set(body["properties"])
    assert all(about.get("description") for about in body["properties"].values())
