from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from specflight.errors import DamagedData
from specflight.flight.archive import FitsArchive
from specflight.flight.datadir import ContextDirectory
from specflight.flight.grids import common_grid, span
from specflight.flight.joined import JoinedSource
from specflight.flight.protocol import VECTORS, spectra_schema
from specflight.flight.source import EXPLICIT, NOT_FOUND, STORED, SpectrumSource, locate
from specflight.flight.store import ArrowStore
from specflight.flight.stream import SpectraPlan, spectra_batches

ALL = tuple(VECTORS)
Store = TypeVar("Store", bound=ArrowStore)


def store(data: Path, context: str, kind: type[Store]) -> Store:
    directory = ContextDirectory(data, context)
    manifest = directory.manifest()
    assert manifest is not None
    return kind(directory, manifest)


class Sources(NamedTuple):
    """Two releases that share spectra, and FITS files: one off the grid, one of a spectrum of the newer release."""

    newer: ArrowStore
    older: ArrowStore
    files: FitsArchive

    @property
    def all(self) -> tuple[SpectrumSource, ...]:
        return self.newer, self.older, self.files

    def holder(self, specobjid: int) -> tuple[int, SpectrumSource, int] | None:
        """Number, source and row of the first that has a spectrum."""
        for number, source in enumerate(self.all):
            rows = np.flatnonzero(source.ids == np.uint64(specobjid))
            if len(rows):
                return number, source, int(rows[0])
        return None


@pytest.fixture(scope="module")
def sources(
    sim_parts: Path,
    sim_truth: dict[str, dict[int, Path]],
    make_spectrum: Callable[..., int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Sources:
    root = tmp_path_factory.mktemp("tree")
    loglam = np.log10(np.linspace(3600, 3640, 20)).astype(np.float32)
    make_spectrum(root / "odd.fits", fiberid=9, npix=20, loglam=loglam)
    make_spectrum(root / "even.fits", fiberid=3, npix=31)
    newer, older = (store(sim_parts, name, ArrowStore) for name in ("sdss_dr16", "sdss_dr12"))
    (root / "again.fits").symlink_to(sim_truth["sdss_dr16"][int(newer.ids[-1])])
    assert len(np.intersect1d(newer.ids, older.ids)) > 0
    return Sources(newer, older, FitsArchive(root, root / "scan.arrow"))


@pytest.fixture(scope="module")
def joined(sources: Sources) -> JoinedSource:
    return JoinedSource(sources.all)


def test_every_spectrum_is_there_once_in_ascending_order(sources: Sources, joined: JoinedSource) -> None:
    everything = {int(i) for source in sources.all for i in source.ids}
    assert joined.ids.tolist() == sorted(everything)
    assert joined.ids.dtype == np.uint64
    assert len(everything) < sum(len(source.ids) for source in sources.all)
    assert joined.k0.dtype == joined.npix.dtype == np.dtype(np.int32)


def test_words_are_bit_for_bit_those_of_the_first_that_has_them(sources: Sources, joined: JoinedSource) -> None:
    order = np.random.default_rng(1).permutation(len(joined.ids))
    for row, words in zip(order.tolist(), joined.read(order), strict=True):
        held = sources.holder(int(joined.ids[row]))
        assert held is not None
        number, source, own = held
        truth = source.read(np.array([own]))[0]
        assert not isinstance(words, DamagedData)
        assert not isinstance(truth, DamagedData)
        assert words.shape == truth.shape
        assert words.tobytes() == truth.tobytes()
        assert (joined.k0[row], joined.npix[row]) == (source.k0[own], source.npix[own])
        assert joined.source_of(np.array([row])).tolist() == [number]


def test_a_spectrum_in_several_comes_from_the_first_of_them(sources: Sources) -> None:
    both = np.intersect1d(sources.newer.ids, sources.older.ids)
    for order in ((sources.newer, sources.older), (sources.older, sources.newer)):
        joined = JoinedSource(order)
        assert set(joined.source_of(locate(joined, both)).tolist()) == {0}
        words = joined.read(locate(joined, both[:1]))[0]
        assert not isinstance(words, DamagedData)
        mine, other = (source.read(locate(source, both[:1]))[0] for source in order)
        assert not isinstance(mine, DamagedData)
        assert not isinstance(other, DamagedData)
        assert np.shares_memory(words, mine)
        assert not np.shares_memory(words, other)


def test_rows_say_which_release_they_come_from_and_missing_ones_none(sources: Sources, joined: JoinedSource) -> None:
    only_old = np.setdiff1d(sources.older.ids, sources.newer.ids)[0]
    odd = sources.files.ids[sources.files.k0 == EXPLICIT][0]
    wanted = np.array([odd, 12345, only_old, sources.newer.ids[0], only_old], np.uint64)
    numbers = joined.source_of(locate(joined, wanted))
    assert numbers.tolist() == [2, NOT_FOUND, 1, 0, 1]
    assert joined.source_of(np.empty(0, np.int64)).tolist() == []


@given(data=st.data())
def test_a_join_of_what_is_wanted_answers_like_the_whole(
    sources: Sources, joined: JoinedSource, data: st.DataObject
) -> None:
    ids = st.one_of(st.sampled_from(joined.ids.tolist()), st.sampled_from([0, 12345, 2**64 - 1]))
    wanted = np.array(data.draw(st.lists(ids, max_size=30)), np.uint64)
    few = JoinedSource(sources.all, wanted)
    rows, whole = locate(few, wanted), locate(joined, wanted)
    assert set(few.ids.tolist()) == set(wanted.tolist()) & set(joined.ids.tolist())
    assert (rows == NOT_FOUND).tolist() == (whole == NOT_FOUND).tolist()
    assert few.source_of(rows).tolist() == joined.source_of(whole).tolist()
    there, expected = rows[rows != NOT_FOUND], whole[whole != NOT_FOUND]
    assert few.k0[there].tolist() == joined.k0[expected].tolist()
    assert few.npix[there].tolist() == joined.npix[expected].tolist()
    few.prefetch(there, slice(0, len(STORED)))
    for mine, its in zip(few.read(there), joined.read(expected), strict=True):
        assert not isinstance(mine, DamagedData)
        assert not isinstance(its, DamagedData)
        assert mine.tobytes() == its.tobytes()


class Told(ArrowStore):
    """A store that remembers what it was told to fetch."""

    fetched: tuple[list[int], slice] | None = None

    def prefetch(self, rows: NDArray[np.int64], columns: slice) -> None:
        self.fetched = rows.tolist(), columns
        super().prefetch(rows, columns)


def test_each_release_is_told_what_will_be_read_of_it(sim_parts: Path) -> None:
    newer, older, unused = (store(sim_parts, f"sdss_{name}", Told) for name in ("dr16", "dr12", "dr12"))
    joined = JoinedSource([newer, older, unused])
    only_old = np.setdiff1d(older.ids, newer.ids)
    wanted = np.array([newer.ids[4], only_old[2], newer.ids[1], only_old[0], newer.ids[4]], np.uint64)
    joined.prefetch(locate(joined, wanted), slice(2, 5))
    assert newer.fetched == ([4, 1, 4], slice(2, 5))
    assert older.fetched == (locate(older, only_old[[2, 0]]).tolist(), slice(2, 5))
    assert unused.fetched is None


def sent(source: SpectrumSource, ids: NDArray[np.uint64], columns: tuple[str, ...], align: bool) -> pa.Table:
    rows = locate(source, ids)
    grid = common_grid(source, rows) if align else None
    schema = spectra_schema(columns, "c", "", (grid.k0, grid.npix) if grid else None)
    plan = SpectraPlan(schema, columns, ids, rows, grid)
    table = pa.Table.from_batches(list(spectra_batches(source, plan)), schema)
    table.validate(full=True)
    return table


def test_a_mixed_list_streams_as_its_parts_do(sources: Sources, joined: JoinedSource) -> None:
    ids = np.random.default_rng(2).permutation(np.concatenate([joined.ids, joined.ids[::3]]))
    together = sent(joined, ids, ALL, align=False)
    assert together["specobjid"].to_pylist() == ids.tolist()
    for number, specobjid in enumerate(ids.tolist()):
        held = sources.holder(specobjid)
        assert held is not None
        alone = sent(held[1], ids[number : number + 1], ALL, align=False)
        for name in ALL:
            mine, its = (table[name][at].values.to_numpy() for table, at in ((together, number), (alone, 0)))
            assert mine.tobytes() == its.tobytes(), (specobjid, name)


def test_spectra_of_several_releases_are_aligned_to_one_grid(sources: Sources, joined: JoinedSource) -> None:
    on_grid = joined.ids[joined.k0 != EXPLICIT]
    ids = np.append(np.random.default_rng(3).permutation(on_grid)[:20], np.uint64(12345))
    table = sent(joined, ids, ("flux", "loglam", "or_mask"), align=True)
    assert table["status"].to_pylist() == ["ok"] * 20 + ["missing"]
    low, high = span(joined, locate(joined, ids))
    assert table["loglam"][0].values.to_numpy()[[0, -1]].tolist() == [low, high]
    for number, specobjid in enumerate(ids[:-1].tolist()):
        held = sources.holder(specobjid)
        assert held is not None
        alone = sent(held[1], ids[number : number + 1], ("flux", "loglam", "or_mask"), align=False)
        wavelengths = table["loglam"][number].values.to_numpy()
        own = alone["loglam"][0].values.to_numpy()
        first = int(np.searchsorted(wavelengths, own[0]))
        for name in ("flux", "or_mask", "loglam"):
            mine = table[name][number].values.to_numpy()
            assert mine[first : first + len(own)].tobytes() == alone[name][0].values.to_numpy().tobytes()
            if name != "loglam":
                assert not mine[:first].any()
                assert not mine[first + len(own) :].any()


def test_the_wavelengths_tell_whether_all_are_on_the_grid(sources: Sources, joined: JoinedSource) -> None:
    assert not joined.on_grid
    assert JoinedSource(sources.all[:2]).on_grid
    assert JoinedSource(sources.all, sources.newer.ids[:3]).on_grid


def test_the_original_is_that_of_the_release_it_comes_from(sources: Sources, joined: JoinedSource) -> None:
    for row, specobjid in enumerate(joined.ids.tolist()):
        held = sources.holder(specobjid)
        assert held is not None
        assert joined.original(row) == held[1].original(held[2])


def test_what_cannot_be_read_spoils_nothing_else(
    sources: Sources, make_spectrum: Callable[..., int], tmp_path: Path
) -> None:
    gone = make_spectrum(tmp_path / "tree/gone.fits", fiberid=77)
    joined = JoinedSource([sources.newer, FitsArchive(tmp_path / "tree", tmp_path / "scan.arrow")])
    (tmp_path / "tree/gone.fits").unlink()
    ids = np.array([sources.newer.ids[2], gone, sources.newer.ids[1]], np.uint64)
    first, second, third = joined.read(locate(joined, ids))
    assert isinstance(second, DamagedData)
    assert "gone.fits" in str(second)
    for words, row in ((first, 2), (third, 1)):
        truth = sources.newer.read(np.array([row]))[0]
        assert not isinstance(words, DamagedData)
        assert not isinstance(truth, DamagedData)
        assert words.tobytes() == truth.tobytes()


def test_an_empty_source_adds_nothing(sources: Sources, tmp_path: Path) -> None:
    empty = FitsArchive(tmp_path, tmp_path / "scan.arrow")
    joined = JoinedSource([empty, sources.older])
    assert joined.ids.tolist() == sources.older.ids.tolist()
    assert set(joined.source_of(np.arange(len(joined.ids))).tolist()) == {1}
    assert locate(JoinedSource([empty]), np.array([1], np.uint64)).tolist() == [NOT_FOUND]
    assert joined.read(np.empty(0, np.int64)) == []


def test_a_join_of_nothing_is_an_empty_source() -> None:
    nothing = JoinedSource((), np.empty(0, np.uint64))
    assert (nothing.ids.dtype, len(nothing.ids), len(nothing.k0), len(nothing.npix)) == (np.dtype(np.uint64), 0, 0, 0)
    assert nothing.on_grid
    assert locate(nothing, np.array([1], np.uint64)).tolist() == [NOT_FOUND]
