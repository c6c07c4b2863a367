from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from specflight.errors import InvalidRequest
from specflight.flight.archive import FitsArchive
from specflight.flight.grids import Grid, common_grid, cutout_grid, given_grid, span
from specflight.flight.protocol import VECTORS, spectra_schema
from specflight.flight.source import NOT_FOUND
from specflight.flight.stream import BATCH_BYTES, SpectraPlan, spectra_batches

Vectors = dict[str, NDArray[Any]]
ALL = tuple(VECTORS)
# fibre, first pixel and number of pixels of each spectrum on the grid
SPECTRA = ((1, 35500, 40), (2, 35490, 7), (3, 35530, 25), (4, 35510, 1))
ODD = 9


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, make_spectrum: Callable[..., int]) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for fiberid, k0, npix in SPECTRA:
        make_spectrum(root / f"{fiberid}.fits", fiberid=fiberid, k0=k0, npix=npix)
    loglam = np.log10(np.linspace(3600, 3640, 20)).astype(np.float32)
    make_spectrum(root / f"{ODD}.fits", fiberid=ODD, npix=20, loglam=loglam)
    return root


@pytest.fixture(scope="module")
def source(tree: Path) -> FitsArchive:
    return FitsArchive(tree, tree / "scan.arrow")


@pytest.fixture(scope="module")
def truth(tree: Path, astropy_vectors: Callable[[Path], Vectors]) -> list[Vectors]:
    return [astropy_vectors(tree / f"{fiberid}.fits") for fiberid in (*(s[0] for s in SPECTRA), ODD)]


def plan(source: FitsArchive, rows: list[int], columns: tuple[str, ...] = ALL, grid: Grid | None = None) -> SpectraPlan:
    numbers = np.array(rows, np.int64)
    ids = np.array([source.ids[row] if row != NOT_FOUND else 12345 for row in rows], np.uint64)
    schema = spectra_schema(columns, "c", "", (grid.k0, grid.npix) if grid else None)
    return SpectraPlan(schema, columns, ids, numbers, grid)


def sent(source: FitsArchive, what: SpectraPlan) -> pa.Table:
    table = pa.Table.from_batches(list(spectra_batches(source, what)), what.schema)
    table.validate(full=True)
    return table


def padded(vector: NDArray[Any], k0: int, grid: Grid) -> NDArray[Any]:
    """The vector on the grid, pixel by pixel."""
    out = np.zeros(grid.npix, vector.dtype)
    for pixel, value in enumerate(vector):
        if 0 <= k0 + pixel - grid.k0 < grid.npix:
            out[k0 + pixel - grid.k0] = value
    return out


def test_lists_hold_the_values_in_the_order_asked_for(source: FitsArchive, truth: list[Vectors]) -> None:
    rows = [3, 0, 4, 0, 2, 1]
    table = sent(source, plan(source, rows))
    assert table["specobjid"].to_pylist() == source.ids[rows].tolist()
    assert set(table["status"].to_pylist()) == {"ok"}
    for name in ALL:
        for row, values in zip(rows, table[name], strict=True):
            assert values.values.to_numpy().tobytes() == truth[row][name].tobytes(), (row, name)


@pytest.mark.parametrize(
    "columns", [("loglam",), ("sky", "flux"), ("model", "loglam", "and_mask"), ("flux", "loglam"), ALL[::-1]]
)
def test_columns_come_as_chosen_and_in_that_order(
    source: FitsArchive, truth: list[Vectors], columns: tuple[str, ...]
) -> None:
    grid = common_grid(source, np.array([0, 2]))
    for table in (sent(source, plan(source, [2, 0], columns)), sent(source, plan(source, [2, 0], columns, grid))):
        assert table.column_names == ["specobjid", "status", *columns]
    lists = sent(source, plan(source, [2, 0], columns))
    aligned = sent(source, plan(source, [2, 0], columns, grid))
    for name in columns:
        assert lists[name][0].values.to_numpy().tobytes() == truth[2][name].tobytes()
        if name != "loglam":
            expected = padded(truth[2][name], SPECTRA[2][1], grid)
            assert aligned[name][0].values.to_numpy().tobytes() == expected.tobytes()


def test_the_common_grid_is_the_smallest_that_holds_all(source: FitsArchive) -> None:
    assert common_grid(source, np.array([0, NOT_FOUND, 3])) == Grid(35500, 40)
    assert common_grid(source, np.arange(4)) == Grid(35490, 65)


@pytest.mark.parametrize(
    "grid", [Grid(35490, 65), Grid(35505, 3), Grid(35400, 300), Grid(35539, 2), Grid(40000, 9), Grid(100, 5)]
)
def test_aligning_shifts_by_whole_pixels_and_pads_with_zeros(
    source: FitsArchive, truth: list[Vectors], grid: Grid
) -> None:
    rows = [1, 0, NOT_FOUND, 3, 2, 0]
    table = sent(source, plan(source, rows, ALL, grid))
    assert table["status"].to_pylist() == ["ok", "ok", "missing", "ok", "ok", "ok"]
    wavelengths = ((grid.k0 + np.arange(grid.npix)) * 1e-4).astype(np.float32)
    for number, row in enumerate(rows):
        for name in ALL:
            value = table[name][number]
            if row == NOT_FOUND:
                assert value.as_py() is None
                continue
            expected = wavelengths if name == "loglam" else padded(truth[row][name], SPECTRA[row][1], grid)
            assert value.values.to_numpy().tobytes() == expected.tobytes(), (row, name)


def test_aligned_wavelengths_continue_the_grid_bit_for_bit(
    sim_tree: dict[str, Path],
    sim_truth: dict[str, dict[int, Path]],
    astropy_vectors: Callable[[Path], Vectors],
    tmp_path: Path,
) -> None:
    source = FitsArchive(sim_tree["sdss_dr16"], tmp_path / "scan.arrow")
    rows = list(range(len(source.ids)))
    grid = common_grid(source, np.array(rows))
    table = sent(source, plan(source, rows, ("loglam",), grid))
    for row, specobjid in enumerate(source.ids.tolist()):
        loglam = astropy_vectors(sim_truth["sdss_dr16"][specobjid])["loglam"]
        low = int(source.k0[row]) - grid.k0
        mine = table["loglam"][row].values.to_numpy()
        assert mine[low : low + len(loglam)].tobytes() == loglam.tobytes()
        assert (np.diff(mine) > 0).all()


def edges() -> list[tuple[float, float]]:
    exact = [float(10.0 ** np.float64(np.float32(k * 1e-4))) for k in (35500, 35505, 35529)]
    return [
        (3548.2, 3560.0),
        (exact[0], exact[2]),
        (np.nextafter(exact[0], 9e9), np.nextafter(exact[2], 0.0)),
        (exact[1], np.nextafter(exact[1], 9e9)),
        (3000.0, 3549.0),
        (3570.0, 9000.0),
        (100.0, 1_000_000.0),
    ]


@pytest.mark.parametrize(("low", "high"), edges())
def test_a_cutout_holds_exactly_the_pixels_between_its_ends(source: FitsArchive, low: float, high: float) -> None:
    pixels = np.arange(19_990, 60_010)
    wavelength = 10.0 ** (pixels * 1e-4).astype(np.float32).astype(np.float64)
    inside = pixels[(wavelength >= low) & (wavelength <= high)]
    assert cutout_grid(source, np.arange(4), (low, high)) == Grid(int(inside[0]), len(inside))


@pytest.mark.parametrize(("low", "high"), [(6000.0, 7000.0), (3000.0, 3500.0)])
def test_a_cutout_without_data_is_refused_with_the_limits_of_the_data(
    source: FitsArchive, low: float, high: float
) -> None:
    with pytest.raises(
        InvalidRequest, match=rf"cutout: {low:g}-{high:g} Angstrom is outside .*3540\.0-3592\.5 Angstrom"
    ):
        cutout_grid(source, np.arange(4), (low, high))


def test_a_cutout_between_two_pixels_is_refused(source: FitsArchive) -> None:
    with pytest.raises(InvalidRequest, match=r"cutout: no pixel lies between 3550\.1 and 3550\.2"):
        cutout_grid(source, np.arange(4), (3550.1, 3550.2))


def test_spectra_off_the_grid_come_as_lists_and_are_never_aligned(source: FitsArchive, truth: list[Vectors]) -> None:
    table = sent(source, plan(source, [4]))
    assert table["loglam"][0].values.to_numpy().tobytes() == truth[4]["loglam"].tobytes()
    rows = np.array([0, 4])
    refusals: list[tuple[Callable[[], Grid], str]] = [
        (lambda: common_grid(source, rows), "align"),
        (lambda: cutout_grid(source, rows, (3500.0, 3600.0)), "cutout"),
        (lambda: given_grid(source, rows, (35500, 10)), "grid"),
    ]
    for refuse, parameter in refusals:
        with pytest.raises(InvalidRequest, match=f"{parameter}: spectrum {source.ids[4]} is not on the grid"):
            refuse()


def test_the_span_counts_spectra_on_and_off_the_grid(source: FitsArchive, truth: list[Vectors]) -> None:
    for rows in ([0], [4], [0, 1, 2, 3], [1, 4, 4, NOT_FOUND]):
        found = [truth[row]["loglam"] for row in rows if row != NOT_FOUND]
        expected = (min(float(v.min()) for v in found), max(float(v.max()) for v in found))
        assert span(source, np.array(rows)) == expected


def test_no_spectrum_has_neither_span_nor_grid(source: FitsArchive) -> None:
    nobody = np.array([NOT_FOUND, NOT_FOUND])
    with pytest.raises(InvalidRequest, match="no spectrum"):
        span(source, nobody)
    with pytest.raises(InvalidRequest, match="align: there is no spectrum"):
        common_grid(source, nobody)


def test_missing_spectra_are_null_and_told_by_status(source: FitsArchive, truth: list[Vectors]) -> None:
    table = sent(source, plan(source, [NOT_FOUND, 1, NOT_FOUND]))
    assert table["specobjid"].to_pylist() == [12345, int(source.ids[1]), 12345]
    assert table["status"].to_pylist() == ["missing", "ok", "missing"]
    assert table["flux"].is_null().to_pylist() == [True, False, True]
    assert table["flux"][1].values.to_numpy().tobytes() == truth[1]["flux"].tobytes()


def test_only_missing_spectra_and_none_at_all_are_answers_too(source: FitsArchive) -> None:
    assert sent(source, plan(source, [NOT_FOUND] * 3))["flux"].to_pylist() == [None] * 3
    assert len(sent(source, plan(source, []))) == 0


def test_batches_are_bounded_and_values_start_on_64_byte_boundaries(sim_tree: dict[str, Path], tmp_path: Path) -> None:
    source = FitsArchive(sim_tree["sdss_dr16"], tmp_path / "scan.arrow")
    rows = np.arange(200) % len(source.ids)
    batches = list(spectra_batches(source, plan(source, rows.tolist())))
    assert len(batches) > 3
    assert sum(batch.num_rows for batch in batches) == 200
    assert max(batch.nbytes for batch in batches) < 1.2 * BATCH_BYTES
    for batch in batches:
        for name in ALL:
            assert batch.column(name).values.buffers()[1].address % 64 == 0
