from __future__ import annotations

import gc
import inspect
import io
import shutil
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from specflight.catalog.idlists import read_id_list
from specflight.client import Client
from specflight.errors import InvalidRequest, LimitExceeded, UnknownSpectrum
from specflight.flight.lines import line
from specflight.http.levels import find_limits
from specflight.http.stack import StackOptions, stacked_image
from specflight.tools.ingest import ingest
from specflight.tools.ingestcatalog import ingest_catalog
from specflight.tools.serve import Running

CONTEXT = "sdss_dr16"


@pytest.fixture(scope="module")
def local(sim_data: Path) -> Iterator[Client]:
    with Client(f"file://{sim_data}", context=CONTEXT) as client:
        yield client


@pytest.fixture(scope="module")
def ids(local: Client) -> NDArray[np.uint64]:
    found: NDArray[np.uint64] = local.query(constraint="order by z", primary=False)
    return found


def draw(client: Client, ids: Any, context: str = CONTEXT, **options: Any) -> bytes:  # noqa: ANN401
    given = StackOptions(**{"align": True, **options})
    _, length, body = stacked_image(client, context, read_id_list(ids), given)
    made = b"".join(body)
    assert length in (None, len(made))
    return made


def pixels(png: bytes, mode: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == mode
        return np.asarray(image)


def fluxes(client: Client, ids: Any) -> NDArray[np.float32]:  # noqa: ANN401
    found: NDArray[np.float32] = client.getSpec(ids, align=True, columns="flux")["flux"]
    return found


def documented_levels(client: Client, ids: Any, limits: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    """Levels, shape (n, npix), in the order of the ids, computed from what getSpec gives."""
    spectra = client.getSpec(ids, columns="flux,ivar")
    good = np.concatenate([spectrum["flux"][spectrum["ivar"] > 0] for spectrum in spectra])
    low, high = find_limits(good, limits)
    flux = fluxes(client, ids)
    scaled = (np.clip(flux, np.float32(low), np.float32(high)) - np.float32(low)) * np.float32(255 / (high - low))
    levels: NDArray[np.uint8] = np.where(flux == 0, 0, np.floor(scaled + np.float32(0.5))).astype(np.uint8)
    return levels


@pytest.mark.parametrize("limits", ["zscale", (1.0, 99.0)])
def test_each_spectrum_is_a_row_the_first_at_the_bottom(local: Client, ids: NDArray[np.uint64], limits: Any) -> None:  # noqa: ANN401
    levels = documented_levels(local, ids, limits)
    assert levels.std() > 10
    assert np.array_equal(pixels(draw(local, ids, limits=limits), "L"), levels[::-1])
    assert np.array_equal(pixels(draw(local, ids, limits=limits, yflip=True), "L"), levels)


def test_the_picture_over_flight_is_the_same(sim_client: Client, local: Client, ids: NDArray[np.uint64]) -> None:
    many = np.resize(ids, 700)
    assert draw(sim_client, many) == draw(local, many)


def test_the_colormap_can_be_turned_round(local: Client, ids: NDArray[np.uint64]) -> None:
    levels = pixels(draw(local, ids), "L")
    assert np.array_equal(pixels(draw(local, ids, inverse=True), "L"), 255 - levels)
    for inverse in (False, True):
        shown = pixels(draw(local, ids, cmap="plasma", inverse=inverse), "RGBA")
        assert np.array_equal(shown, matplotlib.colormaps["plasma_r" if inverse else "plasma"](levels, bytes=True))


def test_every_spectrum_is_as_thick_as_wanted(local: Client, ids: NDArray[np.uint64]) -> None:
    thin = pixels(draw(local, ids), "L")
    assert np.array_equal(pixels(draw(local, ids, thickness=3), "L"), thin.repeat(3, axis=0))
    assert pixels(draw(local, ids[:2], thickness=1000, cmap="jet"), "RGBA").shape[0] == 2000


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"xscale": 0.25, "yscale": 0.25, "thickness": 3}, (lambda w: w // 4, lambda n: 3 * n // 4)),
        ({"xscale": 0.5, "yscale": 0.5}, (lambda w: w // 2, lambda n: n // 2)),
        ({"xscale": 0.5}, (lambda w: w // 2, lambda n: n)),
        ({"yscale": 2.0, "width": 7}, (lambda w: w, lambda n: 2 * n)),
        ({"xscale": 1e-9, "yscale": 1e-9}, (lambda w: 1, lambda n: 1)),
        ({"width": 400, "height": 200}, (lambda w: 400, lambda n: 200)),
        ({"width": 400}, (lambda w: 400, lambda n: n)),
        ({"height": 11, "thickness": 2}, (lambda w: w, lambda n: 11)),
    ],
)
def test_the_picture_is_scaled(
    local: Client,
    ids: NDArray[np.uint64],
    options: dict[str, Any],
    size: tuple[Callable[[int], int], Callable[[int], int]],
) -> None:
    whole = pixels(draw(local, ids), "L")
    width, height = size[0](whole.shape[1]), size[1](len(ids))
    made = pixels(draw(local, ids, **options), "L")
    assert made.shape == (height, width)
    thick = Image.fromarray(whole.repeat(options.get("thickness", 1), axis=0))
    narrow = thick.resize((width, thick.height), Image.Resampling.BOX)
    assert np.array_equal(made, np.asarray(narrow.resize((width, height), Image.Resampling.BOX)))


def test_one_spectrum_is_one_row(local: Client, ids: NDArray[np.uint64]) -> None:
    one = int(ids[5])
    assert pixels(draw(local, one), "L").shape == (1, len(local.getSpec(one)))
    assert pixels(draw(local, [one], yscale=0.25), "L").shape[0] == 1


def test_duplicates_stay(local: Client, ids: NDArray[np.uint64]) -> None:
    made = pixels(draw(local, [ids[0], ids[1], ids[0]]), "L")
    assert np.array_equal(made[0], made[2])
    assert not np.array_equal(made[0], made[1])


def test_tuples_and_wildcards_are_spectra_in_order(local: Client, ids: NDArray[np.uint64]) -> None:
    plate, mjd, fiberid, _ = local.query(constraint=f"specobjid = {ids[0]}", fields="tuple", primary=False)[0]
    groups = [int(ids[3]), (plate, mjd, "*"), (plate, mjd, fiberid)]
    named = local.getSpec(groups, fmt="arrow")["specobjid"].to_numpy()
    assert len(named) > 3
    assert draw(local, groups) == draw(local, named)
    assert draw(local, groups, format="numpy") == draw(local, named, format="numpy")


def test_the_array_holds_the_fluxes_in_the_order_of_the_ids(local: Client, ids: NDArray[np.uint64]) -> None:
    wanted = fluxes(local, ids)
    made = np.load(io.BytesIO(draw(local, ids, format="numpy", thickness=4, width=10)))
    assert made.dtype == np.dtype("<f4")
    assert np.array_equal(made.view(np.uint32), wanted.view(np.uint32))
    assert np.array_equal(np.load(io.BytesIO(draw(local, ids, format="numpy", yflip=True))), wanted[::-1])
    # Its row 0 is the bottom row of the picture.
    assert np.array_equal(pixels(draw(local, ids), "L")[::-1] > 0, made > 0) or (made < 0).any()


def test_without_align_each_row_starts_with_its_first_pixel(local: Client, ids: NDArray[np.uint64]) -> None:
    spectra = local.getSpec(ids, columns="flux")
    made = np.load(io.BytesIO(draw(local, ids, format="numpy", align=False)))
    assert made.shape == (len(ids), max(map(len, spectra)))
    for row, spectrum in zip(made, spectra, strict=True):
        assert np.array_equal(row[: len(spectrum)], spectrum["flux"])
        assert not row[len(spectrum) :].any()
    levels = pixels(draw(local, ids, align=False), "L")
    assert levels.shape == made.shape
    assert not levels[::-1][made == 0].any()


def test_in_the_rest_frame_each_row_is_shifted_by_its_redshift(local: Client, ids: NDArray[np.uint64]) -> None:
    redshifts = {int(one["specobjid"]): one["z"] for one in local.query(fields="z", primary=False).to_pylist()}
    shift = np.rint(1e4 * np.log10(1 + np.array([redshifts[int(one)] for one in ids]))).astype(int)
    observed, made = fluxes(local, ids), np.load(io.BytesIO(draw(local, ids, format="numpy", rest_frame=True)))
    assert made.shape == (len(ids), observed.shape[1] + shift.max() - shift.min())
    for row, flux, pixel in zip(made, observed, shift.max() - shift, strict=True):
        assert np.array_equal(row[pixel : pixel + len(flux)], flux)
        assert np.count_nonzero(row) == np.count_nonzero(flux)
    # align says nothing more.
    assert draw(local, ids, rest_frame=True, align=False) == draw(local, ids, rest_frame=True)


def test_in_the_rest_frame_lines_stand_above_each_other(local: Client) -> None:
    found = local.query(constraint="class = 'GALAXY' and z < 0.4", fields="z", primary=False)
    galaxies, redshifts = found["specobjid"].to_numpy(), found["z"].to_numpy()
    loglam = local.getSpec(galaxies, align=True)["loglam"][0]
    first = round(1e4 * float(loglam[0])) - int(np.rint(1e4 * np.log10(1 + redshifts)).max())
    made = np.load(io.BytesIO(draw(local, galaxies, format="numpy", rest_frame=True)))
    where = round(1e4 * np.log10(line("Hα").wavelength)) - first
    around = made[:, where - 60 : where + 61]
    around = around[(around != 0).all(axis=1)]
    assert len(around) >= 5
    contrast = around - np.median(around, axis=1, keepdims=True)
    assert abs(int(contrast.mean(axis=0).argmax()) - 60) <= 3


def test_redshifts_of_repeated_observations_are_known(tmp_path: Path, make_spectrum: Callable[..., int]) -> None:
    twice = [make_spectrum(tmp_path / f"sas/spec-0{plate}-52000-0007.fits", 7, plate=plate) for plate in (300, 301)]
    once = make_spectrum(tmp_path / "sas/spec-0300-52000-0001.fits", 1)
    ingest(tmp_path / "data", "other", [tmp_path / "sas"], workers=1)
    with Client(f"file://{tmp_path}/data", context="other") as client:
        assert len(client.query()) == 2
        made = pixels(draw(client, [*twice, once], context="other", rest_frame=True), "L")
    starts = (made != 0).argmax(axis=1)
    assert starts[1] == starts[2]
    assert starts[0] - starts[1] == pytest.approx(1e4 * np.log10(1.07 / 1.01), abs=3)


def test_the_context_tells_which_redshift_counts(tmp_path: Path, make_spectrum: Callable[..., int]) -> None:
    names = [make_spectrum(tmp_path / f"sas/spec-0300-52000-000{fiber}.fits", fiber) for fiber in (1, 2, 3)]
    ingest(tmp_path / "data", "other", [tmp_path / "sas"], workers=1)
    (tmp_path / "better.csv").write_text(f"specobjid,zbest\n{names[0]},0.5\n{names[1]},inf\n{names[2]},-9999\n")
    ingest_catalog(tmp_path / "data", "other", "other.better", tmp_path / "better.csv")
    (tmp_path / "data/specflight.toml").write_text('[contexts.other]\ncatalog = "other.better"\nredshift = "zbest"\n')
    with Client(f"file://{tmp_path}/data", context="other") as client:
        made = np.load(io.BytesIO(draw(client, names, context="other", rest_frame=True, format="numpy")))
    # What is no redshift there is looked up in specobjall.
    shift = np.rint(1e4 * np.log10(1 + np.array([0.5, 0.02, 0.03])))
    assert ((made != 0).argmax(axis=1) == shift.max() - shift).all()


def test_redshifts_of_other_releases_are_known(sim_data: Path) -> None:
    with Client(f"file://{sim_data}") as client:
        old, new = (client.query(context=name, fields="z", primary=False) for name in ("sdss_dr12", CONTEXT))
        old = old.filter(~np.isin(old["specobjid"].to_numpy(), new["specobjid"].to_numpy()))
        found = pa.concat_tables([old[:3], new[:3], old[3:5]])
        asked = found["specobjid"].to_pylist()
        plain = np.load(io.BytesIO(draw(client, asked, context="default", format="numpy")))
        made = np.load(io.BytesIO(draw(client, asked, context="default", rest_frame=True, format="numpy")))
    shift = np.rint(1e4 * np.log10(1 + found["z"].to_numpy().astype(float))).astype(int)
    for row, flux, offset in zip(made, plain, shift.max() - shift, strict=True):
        assert np.array_equal(row[offset : offset + len(flux)], flux)


def test_a_spectrum_without_redshift_is_named(sim_data: Path, sim_tree: dict[str, Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(sim_data, data, symlinks=True)
    (data / "specflight.toml").write_text(f'[contexts.files]\narchive = "{sim_tree[CONTEXT]}"\n')
    with Client(f"file://{data}") as client:
        asked = client.query(context=CONTEXT, primary=False)[:3].tolist()
    with (
        Client(f"file://{data}") as client,
        pytest.raises(InvalidRequest, match=f"rest_frame: 3 of 3 .* first is {asked[0]}"),
    ):
        draw(client, asked, context="files", rest_frame=True)
    (tmp_path / "rows.csv").write_text(f"specobjid,ra,dec,z\n{asked[0]},1,2,0.5\n")
    ingest_catalog(data, "files", "files.specobj", tmp_path / "rows.csv")
    with Client(f"file://{data}") as client:
        draw(client, asked[:1], context="files", rest_frame=True)
        with pytest.raises(InvalidRequest, match=f"rest_frame: 2 of 3 .* first is {asked[1]}"):
            draw(client, asked, context="files", rest_frame=True)


def test_spectra_off_the_grid_can_be_stacked_without_align(tmp_path: Path, make_spectrum: Callable[..., int]) -> None:
    linear = np.log10(np.linspace(4000, 4100, 50)).astype(np.float32)
    odd = make_spectrum(tmp_path / "sas/spec-0300-52000-0001.fits", 1, npix=50, loglam=linear)
    even = make_spectrum(tmp_path / "sas/spec-0300-52000-0002.fits", 2)
    assert not ingest(tmp_path / "data", "other", [tmp_path / "sas"], workers=1).skipped
    with Client(f"file://{tmp_path}/data", context="other") as client:
        for listed in ([even, odd], [(300, 52000, "*")]):
            with pytest.raises(InvalidRequest, match=f"align: spectrum {odd} "):
                draw(client, listed, context="other")
            assert pixels(draw(client, listed, context="other", align=False), "L").shape == (2, 50)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"thickness": 0}, "thickness: 0"),
        ({"thickness": 1001}, "thickness: 1001"),
        ({"xscale": 0.0}, "xscale: 0.0"),
        ({"yscale": -1.0}, "yscale: -1.0"),
        ({"yscale": float("nan")}, "yscale: nan"),
        ({"xscale": float("inf")}, "xscale: inf"),
        ({"width": -1}, "width: -1"),
        ({"height": -5}, "height: -5"),
        ({"cmap": "virdis"}, "cmap: 'virdis'.*viridis"),
        ({"format": "gif"}, "fmt: 'gif'"),
    ],
)
def test_options_that_will_not_do_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        StackOptions(align=True, **options)


@pytest.mark.parametrize("options", [{}, {"align": False}, {"rest_frame": True}, {"format": "numpy"}])
def test_an_unknown_spectrum_is_an_error_before_the_first_byte(
    sim_client: Client, ids: NDArray[np.uint64], options: dict[str, Any]
) -> None:
    listed = read_id_list([*np.resize(ids, 400).tolist(), 12345])
    with pytest.raises(UnknownSpectrum, match="12345"):
        stacked_image(sim_client, CONTEXT, listed, StackOptions(**{"align": True, **options}))


@pytest.mark.parametrize(
    ("options", "limit", "told"),
    [
        ({}, 50_000, "height: an image of .* x 60 pixels .* max_image_pixels = 50000;"),
        ({"format": "numpy"}, 50_000, "max_image_pixels = 50000"),
        ({"thickness": 3}, 500_000, "x 180 pixels .* max_image_pixels = 500000"),
        ({"height": 10**9}, 10**6, "max_image_pixels = 1000000"),
        ({"width": 100_001}, 10**9, "width: 100001 pixels .* 100000"),
        ({"xscale": 1e300}, 10**9, "width: .*e\\+303 pixels"),
        ({"yscale": 1e300}, 10**9, "max_image_pixels"),
        ({"height": 1, "thickness": 1000}, 10**9, "height: one of 1 rows would be the mean of 60000 rows"),
    ],
)
def test_an_image_too_large_is_refused(
    local: Client, ids: NDArray[np.uint64], options: dict[str, Any], limit: int, told: str
) -> None:
    listed = read_id_list(np.resize(ids, 60))
    with pytest.raises(LimitExceeded, match=told):
        stacked_image(local, CONTEXT, listed, StackOptions(**{"align": True, **options}), limit)


def test_a_refusal_ends_the_transfer(sim_client: Client, ids: NDArray[np.uint64]) -> None:
    many = read_id_list(np.resize(ids, 3000))
    with pytest.raises(LimitExceeded) as refused:
        stacked_image(sim_client, CONTEXT, many, StackOptions(align=True), 100)
    with pytest.raises(InvalidRequest, match="no redshift") as unknown:
        stacked_image(sim_client, f"{CONTEXT}_fits", many, StackOptions(align=True, rest_frame=True))
    # Whoever keeps the error keeps all that it went through.
    for error in (refused, unknown):
        rows = next(entry.frame.f_locals["rows"] for entry in error.traceback[1:] if "rows" in entry.frame.f_locals)
        assert inspect.getgeneratorstate(rows._stream.batches) == inspect.GEN_CLOSED


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (6000, {}),
        (6000, {"width": 500, "height": 100, "cmap": "jet"}),
        (6000, {"format": "numpy"}),
        (100, {"thickness": 100, "cmap": "jet"}),
    ],
)
def test_an_image_is_never_held_whole(
    sim_client: Client, ids: NDArray[np.uint64], count: int, options: dict[str, Any]
) -> None:
    many = read_id_list(np.resize(ids, count))
    gc.collect()
    tracemalloc.start()
    try:
        _, _, body = stacked_image(sim_client, CONTEXT, many, StackOptions(**{"align": True, **options}))
        pieces = sum(1 for _ in body)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert pieces > 2
    assert held < 25e6  # of 110 MB of fluxes, 28 MB of levels, or 180 MB of colours


GROWTH = """
import re, sys
import numpy as np
from specflight.catalog.idlists import read_id_list
from specflight.client import Client
from specflight.http.stack import StackOptions, stacked_image

def most():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

with Client(sys.argv[1], context="sdss_dr16") as client:
    ids = client.query(primary=False)
    for count in (300, 20_000):
        before = most()
        options = StackOptions(align=False, format="numpy")
        _, length, body = stacked_image(client, "sdss_dr16", read_id_list(np.resize(ids, count)), options)
        assert sum(map(len, body)) == length
    print(most() - before)
"""


def test_reading_twice_holds_nothing_either(sim_server: Running) -> None:
    done = subprocess.run([sys.executable, "-c", GROWTH, sim_server.flight[0]], capture_output=True, check=True)
    assert int(done.stdout) < 150_000  # KiB, of 370 MB of fluxes


@pytest.mark.parametrize("options", [{}, {"yscale": 0.5}, {"align": False}, {"format": "numpy"}])
@pytest.mark.parametrize("read", [0, 1, 3])
def test_an_image_that_nobody_reads_on_leaves_nothing(
    sim_client: Client, ids: NDArray[np.uint64], options: dict[str, Any], read: int
) -> None:
    many = read_id_list(np.resize(ids, 3000))
    draw(sim_client, ids)
    gc.collect()
    threads, arrow = threading.active_count(), pa.total_allocated_bytes()
    _, _, body = stacked_image(sim_client, CONTEXT, many, StackOptions(**{"align": True, **options}))
    for _ in range(read):
        next(body)
    assert isinstance(body, Iterator)
    del body
    assert threading.active_count() == threads
    assert pa.total_allocated_bytes() <= arrow
