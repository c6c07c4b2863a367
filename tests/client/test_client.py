from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from fixtures_server import catalogue_files
from numpy.typing import NDArray

import specflight.client
from specflight.client import Client
from specflight.errors import (
    InvalidRequest,
    LimitExceeded,
    NotFound,
    ServiceUnavailable,
    SpecflightError,
    UnknownSpectrum,
)
from specflight.flight.requests import Query
from specflight.tools.ingest import ingest
from specflight.tools.serve import Running, start

Vectors = dict[str, NDArray[Any]]
Truth = dict[str, dict[int, Path]]
DTYPE = np.dtype(
    [
        ("flux", "<f4"),
        ("loglam", "<f4"),
        ("ivar", "<f4"),
        ("and_mask", "<i4"),
        ("or_mask", "<i4"),
        ("wdisp", "<f4"),
        ("sky", "<f4"),
        ("model", "<f4"),
    ]
)
HUGE = 2**63
"""No int64 holds the specobjids of plates from 8192 on."""


@pytest.fixture(scope="module")
def ids(sim_truth: Truth) -> list[int]:
    """specobjids of sdss_dr16 in random order, some twice."""
    return shuffled(sim_truth["sdss_dr16"])


def shuffled(files: dict[int, Path]) -> list[int]:
    known = np.array(sorted(files), np.uint64)
    order: list[int] = np.random.default_rng(7).permutation(np.concatenate([known, known[:3], known[-2:]])).tolist()
    return order


def assert_all_formats_are_the_files(
    client: Client, context: str, files: dict[int, Path], read: Callable[[Path], Vectors]
) -> None:
    wanted = shuffled(files)
    records = client.getSpec(wanted, context=context)
    frames = client.getSpec(wanted, context=context, fmt="pandas")
    table = client.getSpec(wanted, context=context, fmt="arrow")
    originals = client.getSpec(wanted, context=context, fmt="FITS")
    assert len(records) == len(frames) == len(table) == len(originals) == len(wanted)
    assert table["specobjid"].to_pylist() == wanted
    assert table["status"].to_pylist() == ["ok"] * len(wanted)
    for number, specobjid in enumerate(wanted):
        truth = read(files[specobjid])
        assert records[number].dtype == DTYPE
        assert frames[number].columns.tolist() == list(DTYPE.names or ())
        assert frames[number].attrs["specobjid"] == specobjid
        for name, values in truth.items():
            bits = values.tobytes()
            assert records[number][name].tobytes() == bits, (specobjid, name)
            assert frames[number][name].to_numpy().tobytes() == bits, (specobjid, name)
            assert table[name][number].values.to_numpy().tobytes() == bits, (specobjid, name)
        assert originals[number] == files[specobjid].read_bytes()


@pytest.mark.parametrize("context", ["sdss_dr12", "sdss_dr12_fits", "sdss_dr16", "sdss_dr16_fits"])
def test_simulated_spectra_come_back_bit_for_bit_in_every_format(
    sim_client: Client, sim_truth: Truth, astropy_vectors: Callable[[Path], Vectors], context: str
) -> None:
    files = sim_truth[context.removesuffix("_fits")]
    assert_all_formats_are_the_files(sim_client, context, files, astropy_vectors)


@pytest.mark.parametrize("origin", ["", "_fits"])
def test_real_spectra_come_back_bit_for_bit_in_every_format(
    real_server: Running, real_truth: Truth, astropy_vectors: Callable[[Path], Vectors], origin: str
) -> None:
    assert real_truth
    with Client(real_server.flight[0]) as client:
        for context, files in real_truth.items():
            assert files, context
            assert_all_formats_are_the_files(client, context + origin, files, astropy_vectors)


def test_real_specobjids_beyond_int64_are_found_and_exact(real_server: Running, real_truth: Truth) -> None:
    huge = [specobjid for specobjid in real_truth["sdss_dr16"] if specobjid >= HUGE]
    assert huge
    with Client(real_server.flight[0], context="sdss_dr16") as client:
        assert client.getSpec(huge, fmt="arrow", columns="flux")["specobjid"].to_pylist() == huge
        found = client.query(catalog="specobjall")
        assert found.dtype == np.uint64
        assert sorted(found.tolist()) == sorted(real_truth["sdss_dr16"])


def test_ids_may_have_any_form(sim_client: Client, ids: list[int]) -> None:
    expected = sim_client.getSpec(ids, fmt="arrow", columns="flux")
    forms: list[Any] = [
        tuple(ids),
        [str(i) for i in ids],
        [f"  {i} " for i in ids],
        [np.uint64(i) for i in ids],
        np.array(ids, np.uint64),
        np.array(ids, object),
        np.array([str(i) for i in ids]),
        pa.array(ids, pa.uint64()),
        pa.chunked_array([pa.array(ids[:3], pa.uint64()), pa.array(ids[3:], pa.uint64())]),
        pa.array([str(i) for i in ids]),
        pd.Series(ids, dtype="uint64"),
        pd.Series([str(i) for i in ids]),
        (i for i in ids),
    ]
    for form in forms:
        assert sim_client.getSpec(form, fmt="arrow", columns="flux").equals(expected), type(form)
    small = [i for i in ids if i < HUGE]
    expected = sim_client.getSpec(small, fmt="arrow", columns="flux")
    for form in (np.array(small, np.int64), [np.int64(i) for i in small], pd.Series(small), pa.array(small)):
        assert sim_client.getSpec(form, fmt="arrow", columns="flux").equals(expected)


def test_one_id_in_gives_one_object_out(sim_client: Client, ids: list[int]) -> None:
    whole = sim_client.getSpec([ids[0]])[0]
    for form in (ids[0], str(ids[0]), np.uint64(ids[0])):
        one = sim_client.getSpec(form)
        assert isinstance(one, np.ndarray)
        assert one.shape == whole.shape
        assert one.tobytes() == whole.tobytes()
    assert isinstance(sim_client.getSpec(ids[0], fmt="pandas"), pd.DataFrame)
    assert len(sim_client.getSpec(ids[0], fmt="arrow")) == 1
    assert sim_client.getSpec(ids[0], fmt="fits")[:6] == b"SIMPLE"
    assert sim_client.getSpec(ids[0], align=True).tobytes() == whole.tobytes()
    assert sim_client.getSpec(ids[0], cutout="5000-5100").ndim == 1
    assert sim_client.getSpec(5, missing="null") is None
    assert sim_client.getSpec(5, fmt="pandas", missing="null") is None
    assert sim_client.getSpec(5, fmt="FITS", missing="null") is None


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ([], "ids: the list is empty"),
        (np.array([], np.uint64), "ids: the list is empty"),
        ([1.5], r"ids: .*1\.5"),
        (np.array([1.0, 2.0]), r"ids: .*1\.0"),
        ([-3], "ids: .*-3"),
        (-3, "ids: .*-3"),
        (np.array([5, -3]), "ids: .*-3"),
        ([True], "ids: .*True"),
        ("M31", "ids: 'M31'"),
        ([None], "ids: .*None"),
        (pa.array([1, None], pa.uint64()), "ids: .*None"),
        ([2**64], "ids: .*18446744073709551616"),
        (None, "ids: .*None"),
        (3.5, r"ids: 3\.5"),
        ([[[1, 2], 3, 4, 5, 6]], "list within the list"),
        (pd.Series([1.5]), r"ids: .*1\.5"),
    ],
)
def test_what_is_no_id_is_refused_by_value(sim_client: Client, wrong: Any, named: str) -> None:  # noqa: ANN401
    for fmt in ("numpy", "FITS"):
        with pytest.raises(InvalidRequest, match=named):
            sim_client.getSpec(wrong, fmt=fmt)


@pytest.mark.parametrize("name", ["columns", "values"])
@pytest.mark.parametrize("chosen", ["sky,flux", ["sky", "flux"], "loglam", ("model", "and_mask", "loglam")])
def test_columns_are_exactly_those_asked_for(sim_client: Client, ids: list[int], name: str, chosen: Any) -> None:  # noqa: ANN401
    names = chosen.split(",") if isinstance(chosen, str) else list(chosen)
    asked: dict[str, Any] = {name: chosen}
    whole = sim_client.getSpec(ids[:4])
    records = sim_client.getSpec(ids[:4], **asked)
    for mine, full in zip(records, whole, strict=True):
        assert mine.dtype == np.dtype([(n, DTYPE[n]) for n in names])
        assert all(mine[n].tobytes() == full[n].tobytes() for n in names)
    assert sim_client.getSpec(ids[:4], fmt="arrow", **asked).column_names == ["specobjid", "status", *names]
    assert sim_client.getSpec(ids[0], fmt="pandas", **asked).columns.tolist() == names
    assert sim_client.getSpec(ids[:4], align=True, **asked).dtype.names == tuple(names)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ({"columns": "flux,fluxx"}, "columns: 'fluxx'"),
        ({"values": ["flux", "flux"]}, "columns: name each column once"),
        ({"columns": []}, "columns"),
        ({"columns": "flux", "values": "flux"}, "values: is another name of columns"),
        ({"fmt": "votable"}, "fmt: 'votable' is not one of numpy, pandas, arrow, FITS"),
        ({"fmt": None}, "fmt: 'None'"),
        ({"missing": "ignore"}, "missing.*'ignore'"),
        ({"missing": "ignore", "fmt": "FITS"}, "missing.*'ignore'"),
        ({"cutout": "7200-6500"}, "cutout: 7200-6500"),
        ({"cutout": "blue"}, "cutout: 'blue'"),
        ({"cutout": (6500,)}, "cutout"),
        ({"cutout": 6500}, "cutout.*6500"),
        (
            {"cutout": "200-300"},
            r"cutout: 200-300 Angstrom is outside of the data \(3\d\d\d\.\d-10\d\d\d\.\d Angstrom\)",
        ),
        ({"align": "perhaps"}, "align.*'perhaps'"),
        ({"context": 7}, "context.*7"),
    ],
)
def test_a_parameter_at_fault_is_refused_by_name_and_value(
    sim_client: Client, ids: list[int], call: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named):
        sim_client.getSpec(ids, **call)
    with pytest.raises(InvalidRequest, match=named):
        list(sim_client.iterSpec(ids, **call))


def test_an_unknown_context_is_named(sim_client: Client, ids: list[int]) -> None:
    for call in (sim_client.getSpec, lambda i, context: sim_client.query(context=context)):
        with pytest.raises(NotFound, match="context: there is no context 'sdss_dr99'"):
            call(ids, context="sdss_dr99")


@pytest.mark.parametrize("fmt", ["numpy", "pandas", "arrow", "FITS"])
def test_unknown_ids_are_errors_that_name_them(sim_client: Client, ids: list[int], fmt: str) -> None:
    with pytest.raises(UnknownSpectrum, match=r"no spectrum with specobjid 5, 6$"):
        sim_client.getSpec([5, ids[0], 6, 5], fmt=fmt)
    with pytest.raises(UnknownSpectrum, match="specobjid 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 290 more"):
        sim_client.getSpec(range(1, 301), fmt=fmt)


def test_missing_spectra_are_none_in_their_place_when_asked(sim_client: Client, ids: list[int]) -> None:
    wanted = [5, ids[0], 6, ids[1]]
    whole = sim_client.getSpec([ids[0], ids[1]])
    for fmt in ("numpy", "pandas", "FITS"):
        answer = sim_client.getSpec(wanted, fmt=fmt, missing="null")
        assert [one is None for one in answer] == [True, False, True, False]
    records = sim_client.getSpec(wanted, missing="null")
    assert records[1].tobytes() == whole[0].tobytes()
    aligned = sim_client.getSpec(wanted, missing="null", align=True)
    assert [one is None for one in aligned] == [True, False, True, False]
    assert aligned[3].tobytes() == sim_client.getSpec(ids[:2], align=True)[1].tobytes()
    table = sim_client.getSpec(wanted, fmt="arrow", missing="null")
    assert table["specobjid"].to_pylist() == wanted
    assert table["status"].to_pylist() == ["missing", "ok", "missing", "ok"]
    assert table["flux"].is_null().to_pylist() == [True, False, True, False]
    assert [one is None for one in sim_client.iterSpec(wanted, missing="null")] == [True, False, True, False]


def test_missing_spectra_are_left_out_when_asked(sim_client: Client, ids: list[int]) -> None:
    wanted = [5, ids[0], 6, ids[1]]
    for fmt in ("numpy", "pandas", "FITS", "arrow"):
        assert len(sim_client.getSpec(wanted, fmt=fmt, missing="skip")) == 2
    assert sim_client.getSpec(wanted, align=True, missing="skip").shape[0] == 2
    assert sim_client.getSpec([5], missing="skip") == []
    assert len(sim_client.getSpec([5], fmt="arrow", missing="skip")) == 0
    assert sim_client.getSpec(5, missing="skip") is None


def independent_align(spectra: list[Vectors], lowest: int, npix: int) -> Vectors:
    """All spectra on one grid, pixel by pixel, by their wavelengths."""
    out: Vectors = {name: np.zeros((len(spectra), npix), values.dtype) for name, values in spectra[0].items()}
    for row, spectrum in enumerate(spectra):
        places = np.rint(spectrum["loglam"].astype(np.float64) * 1e4).astype(int) - lowest
        keep = (places >= 0) & (places < npix)
        for name, values in spectrum.items():
            out[name][row, places[keep]] = values[keep]
    out["loglam"][:] = ((lowest + np.arange(npix)) * 1e-4).astype(np.float32)
    return out


@pytest.mark.parametrize("context", ["sdss_dr16", "sdss_dr16_fits"])
def test_aligned_spectra_are_shifted_to_one_grid_and_padded_with_zeros(
    sim_client: Client,
    ids: list[int],
    sim_truth: Truth,
    astropy_vectors: Callable[[Path], Vectors],
    context: str,
) -> None:
    spectra = [astropy_vectors(sim_truth["sdss_dr16"][specobjid]) for specobjid in ids]
    first = round(min(float(spectrum["loglam"][0]) for spectrum in spectra) * 1e4)
    last = round(max(float(spectrum["loglam"][-1]) for spectrum in spectra) * 1e4)
    expected = independent_align(spectra, first, last - first + 1)
    cube = sim_client.getSpec(ids, align=True, context=context)
    assert cube.dtype == DTYPE
    assert cube.shape == (len(ids), last - first + 1)
    table = sim_client.getSpec(ids, align=True, fmt="arrow", context=context)
    for name, values in expected.items():
        assert np.ascontiguousarray(cube[name]).tobytes() == values.tobytes(), name
        assert np.vstack([row.values.to_numpy() for row in table[name]]).tobytes() == values.tobytes(), name
    frames = sim_client.getSpec(ids, align=True, fmt="pandas", context=context)
    assert frames[1]["flux"].to_numpy().tobytes() == expected["flux"][1].tobytes()


@pytest.mark.parametrize(
    ("low", "high"), [(6500, 7200), (3400, 3700.5), (9000, 10600), (6564.61, 6566.2), (100, 20000)]
)
def test_a_cutout_is_every_pixel_between_its_ends(
    sim_client: Client,
    ids: list[int],
    sim_truth: Truth,
    astropy_vectors: Callable[[Path], Vectors],
    low: float,
    high: float,
) -> None:
    pixels = np.arange(19_000, 44_000)
    wavelength = 10.0 ** (pixels * 1e-4).astype(np.float32).astype(np.float64)
    inside = pixels[(wavelength >= low) & (wavelength <= high)]
    expected = independent_align(
        [astropy_vectors(sim_truth["sdss_dr16"][specobjid]) for specobjid in ids], int(inside[0]), len(inside)
    )
    for cutout in (f"{low}-{high}", (low, high)):
        cube = sim_client.getSpec(ids, cutout=cutout)
        assert cube.shape == (len(ids), len(inside))
        for name, values in expected.items():
            assert np.ascontiguousarray(cube[name]).tobytes() == values.tobytes(), name


def test_aligned_arrow_columns_become_arrays_without_a_copy(sim_client: Client, ids: list[int]) -> None:
    table = sim_client.getSpec(ids[:5], fmt="arrow", align=True)
    chunk = table["flux"].chunk(0)
    array = chunk.flatten().to_numpy(zero_copy_only=True).reshape(len(chunk), -1)
    assert array.shape == (5, table.schema.field("flux").type.list_size)
    assert array.__array_interface__["data"][0] == chunk.flatten().buffers()[1].address
    for batch in sim_client.iterSpec(ids, fmt="arrow", align=True):
        column = batch.column("flux")
        view = column.flatten().to_numpy(zero_copy_only=True).reshape(batch.num_rows, -1)
        assert np.shares_memory(view, np.frombuffer(column.flatten().buffers()[1], np.uint8))


def test_spectra_off_the_grid_come_as_they_are_and_are_never_aligned(
    tmp_path: Path, make_spectrum: Callable[..., int], astropy_vectors: Callable[[Path], Vectors]
) -> None:
    loglam = np.log10(np.linspace(3600, 3640, 20)).astype(np.float32)
    odd = make_spectrum(tmp_path / "tree/odd.fits", fiberid=1, npix=20, loglam=loglam)
    even = make_spectrum(tmp_path / "tree/even.fits", fiberid=2)
    ingest(tmp_path / "data", "mixed", [tmp_path / "tree"], workers=1)
    with Client(f"file://{tmp_path}/data") as client:
        for specobjid, spectrum in zip((odd, even), client.getSpec([odd, even]), strict=True):
            truth = astropy_vectors(tmp_path / "tree" / ("odd.fits" if specobjid == odd else "even.fits"))
            assert all(spectrum[name].tobytes() == values.tobytes() for name, values in truth.items())
        for call in ({"align": True}, {"cutout": "3550-3600"}):
            with pytest.raises(InvalidRequest, match=f"spectrum {odd} is not on the grid"):
                client.getSpec([odd, even], **call)
        assert client.getSpec([even], align=True).shape == (1, 40)


@pytest.mark.parametrize("count", [1, 255, 257, 700])
def test_iterating_gives_what_a_list_gives(sim_client: Client, ids: list[int], count: int) -> None:
    many = (ids * (count // len(ids) + 1))[:count]
    choices: list[dict[str, Any]] = [{"columns": "flux,loglam"}, {"cutout": "6500-6600", "columns": "ivar"}]
    for asked in choices:
        whole = sim_client.getSpec(many, **asked)
        one_by_one = list(sim_client.iterSpec(many, **asked))
        assert len(one_by_one) == count
        assert all(a.tobytes() == b.tobytes() for a, b in zip(whole, one_by_one, strict=True))
    frames = list(sim_client.iterSpec(many[:5], fmt="pandas"))
    assert [frame.attrs["specobjid"] for frame in frames] == many[:5]
    assert list(sim_client.iterSpec(many[:3], fmt="FITS")) == sim_client.getSpec(many[:3], fmt="FITS")
    batches = list(sim_client.iterSpec(many, fmt="arrow", columns="flux"))
    assert pa.Table.from_batches(batches).equals(sim_client.getSpec(many, fmt="arrow", columns="flux"))


def test_iterating_tells_what_is_wrong_at_once(sim_client: Client, ids: list[int]) -> None:
    for fmt in ("numpy", "pandas", "arrow", "FITS"):
        faults: list[tuple[Any, Any]] = [(["M31"], None), ([5], None), (ids, "nope")]
        for wrong, context in faults:
            with pytest.raises(SpecflightError):
                sim_client.iterSpec(wrong, fmt=fmt, context=context)


def test_12_000_ids_are_answered_in_order(sim_client: Client, ids: list[int]) -> None:
    many = (ids * (12_000 // len(ids) + 1))[:12_000]
    table = sim_client.getSpec(many, fmt="arrow", columns="flux", cutout="6500-6510")
    assert table["specobjid"].to_pylist() == many
    with pytest.raises(UnknownSpectrum, match=r"specobjid 5$"):
        sim_client.getSpec([*many, 5], columns="flux")
    with pytest.raises(NotFound, match="no context 'nope'"):
        sim_client.getSpec(many * 20, context="nope")


def test_a_query_may_stand_in_place_of_the_ids(sim_client: Client) -> None:
    found = sim_client.query(constraint="z > 0.05", limit=7)
    table = sim_client.getSpec(Query(catalog="specobj", where="z > 0.05", limit=7), fmt="arrow", columns="flux")
    assert table["specobjid"].to_pylist() == found.tolist()
    cube = sim_client.getSpec(Query(catalog="specobj", where="z > 0.05", limit=7), cutout="6500-6600")
    assert cube.shape[0] == len(found)


# --- queries, against pandas over the Parquet ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(sim_served: Path) -> pd.DataFrame:
    """specobjall of sdss_dr16 in the order of the file."""
    frame: pd.DataFrame = ds.dataset(catalogue_files(sim_served, "sdss_dr16", "specobjall")).to_table().to_pandas()
    return frame


def separation(rows: pd.DataFrame, ra: float, dec: float) -> NDArray[np.float64]:
    places = SkyCoord(rows["ra"].to_numpy(), rows["dec"].to_numpy(), unit="deg")
    return np.asarray(places.separation(SkyCoord(ra, dec, unit="deg")).deg, np.float64)


def test_a_cone_finds_what_lies_within_its_radius(sim_client: Client, rows: pd.DataFrame) -> None:
    for ra, dec, size in ((30.5, 0.0, 1.0), (30.5, 0.0, 0.3), (0.0, 0.0, 40.0), (359.9, 1.0, 90.0), (10.0, 85.0, 20.0)):
        expected = rows["specobjid"][separation(rows, ra, dec) <= size].tolist()
        coord = SkyCoord(ra, dec, unit="deg")
        for call in (
            lambda ra=ra, dec=dec, size=size: sim_client.query(ra, dec, size, primary=False),
            lambda coord=coord, size=size: sim_client.query(coord, size, primary=False),
            lambda coord=coord, size=size: sim_client.query(coord, size * units.deg, primary=False),
            lambda ra=ra, dec=dec, size=size: sim_client.query(ra=ra, dec=dec, size=size, catalog="specobjall"),
        ):
            found = call()
            assert found.dtype == np.uint64
            assert found.tolist() == expected
    assert len(rows[separation(rows, 30.5, 0.0) <= 1.0]) > 0


def test_a_polygon_finds_what_lies_inside(sim_client: Client, rows: pd.DataFrame) -> None:
    box = [(29.0, -1.5), (32.0, -1.5), (32.0, 1.5), (29.0, 1.5)]
    # The sides along the meridians are great circles; the others leave the parallels by less than 0.003 degrees here.
    edge = (rows["dec"].abs() - 1.5).abs() < 0.01
    inside = rows["ra"].between(29.0, 32.0) & rows["dec"].between(-1.5, 1.5)
    for region in (box, box[::-1], np.array(box), np.array(box).ravel()):
        found = set(sim_client.query(region, primary=False).tolist())
        assert set(rows["specobjid"][inside & ~edge]) <= found <= set(rows["specobjid"][inside | edge])
        assert found


def test_conditions_orders_and_slices_are_those_of_the_table(sim_client: Client, rows: pd.DataFrame) -> None:
    galaxies = rows[(rows["class"].str.strip() == "GALAXY") & (rows["z"] > 0.05)].sort_values("z", kind="stable")
    assert len(galaxies) > 5
    asked: dict[str, Any] = {"constraint": "class = 'GALAXY' AND z > 0.05", "primary": False}
    ordered = galaxies["specobjid"].tolist()
    assert sorted(sim_client.query(**asked).tolist()) == sorted(ordered)
    assert sim_client.query(**asked, order_by="z").tolist() == ordered
    assert sim_client.query(**asked, order_by="z", limit=3, offset=2).tolist() == ordered[2:5]
    assert sim_client.query(**asked, order_by="z desc", limit=2).tolist() == ordered[:-3:-1]
    assert (
        sim_client.query(**(asked | {"constraint": asked["constraint"] + " ORDER BY z LIMIT 4"})).tolist()
        == ordered[:4]
    )
    near = galaxies[separation(galaxies, 30.5, 0.0) <= 2]["specobjid"].tolist()
    assert sim_client.query(30.5, 0.0, 2.0, **asked, order_by="z").tolist() == near


def test_fields_are_given_as_a_table_or_as_tuples(sim_client: Client, rows: pd.DataFrame) -> None:
    table = sim_client.query(fields="z,class,plate", primary=False)
    assert table.column_names == ["specobjid", "z", "class", "plate"]
    assert table["z"].to_numpy().tobytes() == rows["z"].to_numpy().tobytes()
    assert table["specobjid"].to_pylist() == rows["specobjid"].tolist()
    assert sim_client.query(fields=["plate", "specobjid"], primary=False).column_names == ["plate", "specobjid"]
    tuples = sim_client.query(fields="tuple", primary=False)
    assert tuples == list(zip(*(rows[name].tolist() for name in ("plate", "mjd", "fiberid", "run2d")), strict=True))
    assert all(isinstance(part, int) for part in tuples[0][:3])
    assert sim_client.query(constraint="z > 1000", fields="tuple") == []


def test_the_best_observation_of_each_object_is_searched_unless_all_are_asked_for(
    sim_client: Client, sim_served: Path, rows: pd.DataFrame
) -> None:
    files = catalogue_files(sim_served, "sdss_dr16", "specobj")
    primary = ds.dataset(files).to_table()["specobjid"].to_pylist()
    assert sim_client.query().tolist() == primary
    assert sim_client.query(primary=False).tolist() == rows["specobjid"].tolist()
    assert set(primary) <= set(rows["specobjid"])
    other = sim_client.query(catalog="sdss_dr12.specobjall")
    assert set(other.tolist()) == set(sim_client.query(context="sdss_dr12", primary=False).tolist())


@pytest.mark.parametrize(
    ("positional", "named", "fault"),
    [
        ((1.0,), {}, "region"),
        ((1.0, 2.0), {}, "query: dec, ra do not make a region"),
        ((1.0, 2.0, 3.0, 4.0), {}, "got 4 values"),
        ((1.0, 2.0, 3.0), {"size": 3.0}, "size: is given twice"),
        ((), {"radius": 3.0}, "radius: is not a parameter of query"),
        ((), {"ra": 1.0}, "query: ra do not make a region"),
        (("a", 2.0, 3.0), {}, "ra: 'a'"),
        ((1.0, 95.0, 3.0), {}, "95"),
        ((1.0, 2.0, -3.0), {}, "-3"),
        ((float("nan"), 2.0, 3.0), {}, "nan"),
        (([(1, 2), (3, 4)],), {}, "polygon|region|vert"),
        (([(1, 2, 3)],), {}, r"region: expected \(ra, dec\) pairs"),
        ((), {"constraint": "z >"}, "where"),
        ((), {"constraint": "zz > 1"}, "zz"),
        ((), {"constraint": "z > 1; drop table specobj"}, "where"),
        ((), {"order_by": "zz"}, "zz"),
        ((), {"limit": -1}, "limit.*-1"),
        ((), {"offset": -1}, "offset.*-1"),
        ((), {"fields": "z,zz"}, "columns: there is no column 'zz'"),
        ((), {"fields": "z,z"}, "columns: 'z' is named twice"),
    ],
)
def test_a_query_at_fault_is_refused_by_name_and_value(
    sim_client: Client, positional: tuple[Any, ...], named: dict[str, Any], fault: str
) -> None:
    with pytest.raises(InvalidRequest, match=fault):
        sim_client.query(*positional, **named)


def test_a_catalogue_that_is_not_there_is_named(sim_client: Client) -> None:
    with pytest.raises(NotFound, match="no catalogue 'stars'"):
        sim_client.query(catalog="stars")


def test_more_rows_than_the_limit_are_an_error_that_names_it(sim_served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECFLIGHT_MAX_ROWS", "4")
    with Client(f"file://{sim_served}") as client:
        with pytest.raises(LimitExceeded, match="the limit of 4"):
            client.query(context="sdss_dr16")
        assert len(client.query(context="sdss_dr16", limit=4)) == 4


def test_contexts_and_catalogues_are_listed(sim_client: Client, sim_truth: Truth) -> None:
    listed = sim_client.list_contexts(fmt="json")
    assert listed["sdss_dr16"]["spectra"] == len(sim_truth["sdss_dr16"])
    assert listed["sdss_dr12_fits"]["release"] == "DR12"
    assert sim_client.list_contexts("sdss_dr12_fits") == listed["sdss_dr12_fits"]
    assert "       sdss_dr16   SDSS DR16" in sim_client.list_contexts()
    assert sim_client.list_contexts(fmt="csv").startswith("context_name,description\ndefault,")
    tables = sim_client.catalogs(fmt="json")
    assert [table["name"] for table in tables] == ["sdss_dr16.specobj", "sdss_dr16.specobjall"]
    assert sim_client.catalogs("sdss_dr12", fmt="json")[1]["rows"] == len(sim_truth["sdss_dr12"])
    assert sim_client.catalogs().startswith("Catalogs used by 'sdss_dr16' context:\n\n")
    assert sim_client.list_profiles() == "         default   Default service\n"
    with pytest.raises(InvalidRequest, match="format: 'xml'"):
        sim_client.catalogs(fmt="xml")
    with pytest.raises(NotFound, match="nosuch"):
        sim_client.list_contexts("nosuch")


# --- the same in this process, and its cost --------------------------------------------------------------------------


def test_a_data_directory_in_this_process_gives_the_same_answers(
    sim_client: Client, sim_served: Path, ids: list[int]
) -> None:
    with Client(f"file://{sim_served}", context="sdss_dr16") as local:
        assert local.isAlive()
        for asked in ({}, {"align": True}, {"cutout": "6500-7000", "columns": "ivar,flux"}, {"missing": "null"}):
            wanted = [*ids, 5] if "missing" in asked else ids
            call: dict[str, Any] = {"fmt": "arrow", **asked}
            mine, theirs = local.getSpec(wanted, **call), sim_client.getSpec(wanted, **call)
            assert mine.equals(theirs)
            assert mine.schema.metadata == theirs.schema.metadata
        assert local.getSpec(ids[:2], fmt="FITS") == sim_client.getSpec(ids[:2], fmt="FITS")
        assert local.query(30.5, 0.0, 1.0).tolist() == sim_client.query(30.5, 0.0, 1.0).tolist()
        assert local.catalogs() == sim_client.catalogs()
        assert local.list_contexts() == sim_client.list_contexts()
        for name, call in (("5", {"id_list": 5}), ("nope", {"id_list": ids, "context": "nope"})):
            with pytest.raises(NotFound, match=name) as near:
                local.getSpec(**call)
            with pytest.raises(NotFound) as far:
                sim_client.getSpec(**call)
            assert (type(near.value), str(near.value)) == (type(far.value), str(far.value))


MEASURE = """
import os, sys
import numpy as np
from specflight.client import Client

url, ids, what = sys.argv[1], [int(i) for i in sys.argv[2].split(",")], sys.argv[3]
client = Client(url, context="sdss_dr16")
count = int(sys.argv[4])
many = np.resize(np.array(ids, np.uint64), count)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def peak():  # not ru_maxrss, which counts the process that started this one
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

def get(number):
    return client.getSpec(many[:number], fmt="arrow" if what == "arrow" else "numpy", align=what == "aligned")

if what == "iterate":
    seen = sum(len(spectrum) for spectrum in client.iterSpec(many))
    print(0, seen, peak())
    sys.exit()
get(8)
before = resident()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # VmHWM starts again from here
answer = get(count)
payload = answer.nbytes if hasattr(answer, "nbytes") else sum(one.nbytes for one in answer)
print(before, payload, peak())
"""


def measured(running: Running, ids: list[int], what: str, count: int) -> tuple[int, int, int]:
    arguments = [running.flight[0], ",".join(map(str, ids)), what, str(count)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    before, size, peak = (int(word) for word in done.stdout.split())
    return before, size, peak


def test_iterating_20_000_spectra_takes_less_than_300_mb(sim_server: Running, ids: list[int]) -> None:
    _, pixels, peak = measured(sim_server, ids, "iterate", 20_000)
    assert pixels > 20_000 * 3_000
    assert peak < 300e6, f"{peak / 1e6:.0f} MB"


@pytest.mark.parametrize("what", ["arrow", "numpy", "aligned"])
def test_2_000_spectra_take_at_most_one_and_a_half_times_their_size(
    sim_server: Running, ids: list[int], what: str
) -> None:
    before, payload, peak = measured(sim_server, ids, what, 2_000)
    assert payload > 2_000 * 3_000 * 32
    assert peak - before <= 1.5 * payload, f"{(peak - before) / payload:.2f} times"


# --- what is public --------------------------------------------------------------------------------------------------


def test_the_public_names_are_these() -> None:
    assert specflight.client.__all__ == ["Client"]
    methods = {name for name in dir(Client) if not name.startswith("_")}
    spectra = {"act", "close", "getSpec", "isAlive", "iterSpec", "stream"}
    assert methods == spectra | {"catalogs", "count", "list_contexts", "list_profiles", "match", "query"}


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(InvalidRequest, match="timeout"):
        Client(timeout=timeout)


def test_a_client_that_is_closed_closes_quietly_again(sim_server: Running) -> None:
    client = Client(sim_server.flight[0])
    assert client.isAlive()
    client.close()
    client.close()


@pytest.fixture
def gone(sim_served: Path) -> str:
    with start(sim_served, "127.0.0.1", 0, 0, workers=1) as running:
        location = running.flight[0]
    return location


def test_a_dead_service_is_not_alive_and_that_is_no_exception(gone: str) -> None:
    with Client(gone, timeout=5) as client:
        assert client.isAlive() is False
        with pytest.raises(ServiceUnavailable, match=gone):
            client.list_contexts()
        assert issubclass(ServiceUnavailable, ConnectionError)
        with pytest.raises(SpecflightError):
            client.getSpec(1)
