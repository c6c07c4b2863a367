from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from specflight.errors import DamagedData
from specflight.flight.datadir import ContextDirectory, Manifest
from specflight.flight.source import EXPLICIT, NOT_FOUND, STORED, locate, read_one
from specflight.flight.store import ArrowStore, PartWriter, read_index
from specflight.tools.ingest import ingest

Vectors = dict[str, NDArray[Any]]


def opened(data: Path, context: str) -> tuple[ContextDirectory, Manifest, ArrowStore]:
    directory = ContextDirectory(data, context)
    manifest = directory.manifest()
    assert manifest is not None
    return directory, manifest, ArrowStore(directory, manifest)


def index_path(directory: ContextDirectory, manifest: Manifest) -> Path:
    assert manifest.index is not None
    return directory.spectra / manifest.index.name


def part_of(directory: ContextDirectory, manifest: Manifest) -> dict[int, str]:
    index = read_index(index_path(directory, manifest))
    return dict(zip(index["specobjid"].to_pylist(), index["part"].to_pylist(), strict=True))


@pytest.fixture
def copied(sim_parts: Path, tmp_path: Path) -> Path:
    """A data directory of its own, with several part files, that a test may damage."""
    shutil.copytree(sim_parts, tmp_path / "data", symlinks=True)
    return tmp_path / "data"


@pytest.mark.parametrize("context", ["sdss_dr12", "sdss_dr16"])
def test_words_are_bit_for_bit_what_astropy_reads(
    sim_data: Path, sim_truth: dict[str, dict[int, Path]], astropy_vectors: Callable[[Path], Vectors], context: str
) -> None:
    _, _, store = opened(sim_data, context)
    assert sorted(sim_truth[context]) == store.ids.tolist()
    store.prefetch(np.arange(len(store.ids)), slice(0, len(STORED)))
    for row, specobjid in enumerate(store.ids.tolist()):
        truth = astropy_vectors(sim_truth[context][specobjid])
        npix, words = int(store.npix[row]), read_one(store, row)
        assert words.shape[0] == len(STORED)
        assert (npix, int(store.k0[row])) == (len(truth["flux"]), round(float(truth["loglam"][0]) * 1e4))
        for name, vector in zip(STORED, words, strict=True):
            assert vector[:npix].tobytes() == truth[name].tobytes(), (specobjid, name)


def test_wavelengths_off_the_grid_are_stored_as_they_are(
    tmp_path: Path, make_spectrum: Callable[..., int], astropy_vectors: Callable[[Path], Vectors]
) -> None:
    loglam = np.log10(np.linspace(3600, 3639.3, 51)).astype(np.float32)
    ids = [
        make_spectrum(tmp_path / "tree/a.fits", fiberid=1, npix=51, loglam=loglam),
        make_spectrum(tmp_path / "tree/b.fits", fiberid=2, npix=33),
    ]
    ingest(tmp_path / "data", "odd", [tmp_path / "tree"], workers=1)
    _, _, store = opened(tmp_path / "data", "odd")
    assert store.ids.tolist() == ids
    assert store.k0.tolist() == [EXPLICIT, 35500]
    assert read_one(store, 0).shape[0] == len(STORED) + 1
    assert read_one(store, 0)[len(STORED), :51].tobytes() == loglam.tobytes()
    for row, name in enumerate(("a.fits", "b.fits")):
        truth = astropy_vectors(tmp_path / "tree" / name)
        for column, vector in zip(STORED, read_one(store, row), strict=False):
            assert vector[: store.npix[row]].tobytes() == truth[column].tobytes()


def test_a_part_file_is_plain_arrow_with_a_batch_for_each_spectrum(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    spectra = [rng.integers(0, 2**32, (7, npix), dtype=np.uint32) for npix in (5, 1, 4096)]
    writer = PartWriter(tmp_path / "part.arrow", explicit=False)
    placed = [writer.add(words) for words in spectra]
    writer.close()
    content = (tmp_path / "part.arrow").read_bytes()
    with pa.memory_map(str(tmp_path / "part.arrow")) as file:
        reader = pa.ipc.open_file(file)
        assert reader.num_record_batches == writer.spectra == 3
        assert reader.schema.names == list(STORED)
        for number, (words, at) in enumerate(zip(spectra, placed, strict=True)):
            batch = reader.get_batch(number)
            for name, row in zip(STORED, words, strict=True):
                assert batch.column(name).to_numpy().tobytes() == row.tobytes()
            first = content[at.offset : at.offset + 4 * words.shape[1]]
            assert first == words[0].tobytes()
            assert at.length == len(STORED) * (4 * words.shape[1] + 7 & ~7)


def test_ids_are_found_wherever_they_stand_and_strangers_are_not(sim_data: Path) -> None:
    _, _, store = opened(sim_data, "sdss_dr16")
    assert int(store.ids[-1]) >= 2**63
    wanted = np.array([store.ids[-1], 0, store.ids[0], 2**64 - 1, store.ids[0], store.ids[0] + np.uint64(1)], np.uint64)
    last = len(store.ids) - 1
    assert locate(store, wanted).tolist() == [last, NOT_FOUND, 0, NOT_FOUND, 0, NOT_FOUND]
    assert locate(store, np.empty(0, np.uint64)).tolist() == []


def test_a_store_that_is_empty_finds_nothing(sim_data: Path) -> None:
    _, _, store = opened(sim_data, "sdss_dr16")
    store.ids = store.ids[:0]
    assert locate(store, np.array([1, 2], np.uint64)).tolist() == [NOT_FOUND, NOT_FOUND]


def damaged_and_sound(data: Path) -> tuple[ContextDirectory, Manifest, str, list[int], list[int]]:
    directory, manifest, store = opened(data, "sdss_dr16")
    parts = part_of(directory, manifest)
    name = manifest.parts[0].name
    rows = {row: parts[specobjid] for row, specobjid in enumerate(store.ids.tolist())}
    hurt = [row for row, part in rows.items() if part == name]
    sound = [row for row, part in rows.items() if part != name]
    assert hurt
    assert sound
    return directory, manifest, name, hurt, sound


def refused(store: ArrowStore, rows: list[int], name: str) -> None:
    store.prefetch(np.array(rows), slice(0, len(STORED)))
    for row in rows:
        with pytest.raises(DamagedData, match=name) as caught:
            read_one(store, row)
        assert os.sep not in str(caught.value), "the error tells where the server's files are"


def test_a_part_cut_short_before_it_is_opened_is_named_and_the_others_are_read(copied: Path) -> None:
    directory, manifest, name, hurt, sound = damaged_and_sound(copied)
    os.truncate(directory.spectra / name, 5000)
    store = ArrowStore(directory, manifest)
    refused(store, hurt, name)
    assert all(read_one(store, row).any() for row in sound)


def test_a_part_cut_short_while_it_is_served_is_an_error_and_not_a_crash(copied: Path) -> None:
    directory, manifest, name, hurt, sound = damaged_and_sound(copied)
    store = ArrowStore(directory, manifest)
    assert all(read_one(store, row).any() for row in hurt)
    os.truncate(directory.spectra / name, 0)
    refused(store, hurt, name)
    assert all(read_one(store, row).any() for row in sound)


def test_a_part_that_is_missing_is_named_and_the_others_are_read(copied: Path) -> None:
    directory, manifest, name, hurt, sound = damaged_and_sound(copied)
    (directory.spectra / name).unlink()
    store = ArrowStore(directory, manifest)
    refused(store, hurt, name)
    assert all(read_one(store, row).any() for row in sound)


def test_a_part_removed_while_it_is_served_is_read_to_the_end(copied: Path) -> None:
    directory, manifest, name, hurt, _ = damaged_and_sound(copied)
    store = ArrowStore(directory, manifest)
    before = [read_one(store, row).tobytes() for row in hurt]
    (directory.spectra / name).unlink()
    assert [read_one(store, row).tobytes() for row in hurt] == before


def test_a_part_that_the_manifest_does_not_know_is_named(copied: Path) -> None:
    directory, manifest, name, hurt, _ = damaged_and_sound(copied)
    store = ArrowStore(directory, manifest.model_copy(update={"parts": manifest.parts[1:]}))
    refused(store, hurt, name)


def test_an_index_that_points_outside_of_its_part_is_an_error(copied: Path) -> None:
    directory, manifest, _ = opened(copied, "sdss_dr16")
    path = index_path(directory, manifest)
    with pa.OSFile(str(path)) as file:
        index = pa.ipc.open_file(file).read_all()
    number = index.schema.get_field_index("offset")
    far = index.set_column(number, index.schema.field(number), pa.array([10**12] * len(index), pa.int64()))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, index.schema) as writer:
        writer.write_table(far)
    store = ArrowStore(directory, manifest)
    store.prefetch(np.arange(len(store.ids)), slice(0, len(STORED)))
    with pytest.raises(DamagedData, match="points outside of the part file"):
        read_one(store, 0)


@pytest.mark.parametrize("content", [b"", b"not Arrow at all" * 100])
def test_an_index_that_is_no_arrow_file_is_named(copied: Path, content: bytes) -> None:
    directory, manifest, _ = opened(copied, "sdss_dr16")
    index_path(directory, manifest).write_bytes(content)
    with pytest.raises(DamagedData, match=index_path(directory, manifest).name):
        ArrowStore(directory, manifest)


def test_an_index_that_is_missing_is_named_without_its_folder(copied: Path) -> None:
    directory, manifest, _ = opened(copied, "sdss_dr16")
    index_path(directory, manifest).unlink()
    with pytest.raises(DamagedData, match=index_path(directory, manifest).name) as caught:
        ArrowStore(directory, manifest)
    assert str(copied) not in str(caught.value)


def test_an_index_with_other_columns_is_named(copied: Path) -> None:
    directory, manifest, _ = opened(copied, "sdss_dr16")
    table = pa.table({"specobjid": pa.array([1], pa.uint64())})
    with (
        pa.OSFile(str(index_path(directory, manifest)), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table)
    with pytest.raises(DamagedData, match="has other columns"):
        ArrowStore(directory, manifest)


def test_the_original_comes_back_byte_for_byte(sim_data: Path, sim_truth: dict[str, dict[int, Path]]) -> None:
    _, _, store = opened(sim_data, "sdss_dr16")
    for row in (0, len(store.ids) - 1):
        path = sim_truth["sdss_dr16"][int(store.ids[row])]
        assert store.original(row) == (path.name, path.read_bytes())


def test_an_original_that_is_gone_is_named_without_its_folder(
    tmp_path: Path, make_spectrum: Callable[..., int]
) -> None:
    make_spectrum(tmp_path / "tree/gone.fits")
    ingest(tmp_path / "data", "odd", [tmp_path / "tree"], workers=1)
    (tmp_path / "tree/gone.fits").unlink()
    _, _, store = opened(tmp_path / "data", "odd")
    with pytest.raises(DamagedData, match=r"gone\.fits") as caught:
        store.original(0)
    assert str(tmp_path) not in str(caught.value)
    assert read_one(store, 0).any()
