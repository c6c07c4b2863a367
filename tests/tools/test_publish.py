"""Tests of `specflight.tools.publish`: tables of the user's beside those of the spectra."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specflight.catalog.extract import write_table
from specflight.catalog.table import index_table
from specflight.errors import DamagedData, InvalidRequest
from specflight.flight.archive import fits_files
from specflight.flight.datadir import ContextDirectory, Manifest
from specflight.flight.store import read_index
from specflight.tools.check import check
from specflight.tools.ingest import ingest
from specflight.tools.publish import locked, publish_tables, table_entry, writing

CONTEXT = "sdss_dr16"


@pytest.fixture(scope="module")
def files(sim_tree: dict[str, Path]) -> list[Path]:
    return sorted(fits_files(sim_tree[CONTEXT]))


def publish(data: Path, name: str, count: int = 30, source: str = "own.csv") -> Manifest:
    """What an ingest of a catalogue does."""
    directory = ContextDirectory(data, CONTEXT)
    rng = np.random.default_rng(count)
    with writing(data), locked(directory):
        room = directory.staging / "catalog"
        room.mkdir(parents=True)
        rows = pa.table({"source": range(count), "ra": rng.random(count) * 360, "dec": rng.random(count) * 90})
        pq.write_table(rows, room / "0.parquet")
        columns = {"id_column": "source", "ra": "ra", "dec": "dec"}
        table = write_table(name, [room / "0.parquet"], directory.catalog, room, **columns)
        index_table(table.folder, table.files, **columns)
        entry = table_entry(table, **columns, description="of the user's own", source=source)
        return publish_tables(directory, {name: entry})


def live(data: Path) -> tuple[ContextDirectory, Manifest]:
    directory = ContextDirectory(data, CONTEXT)
    manifest = directory.manifest()
    assert manifest is not None
    return directory, manifest


def folders(data: Path) -> set[str]:
    return {path.name for path in (data / CONTEXT / "catalog").iterdir()}


def assert_well(data: Path) -> None:
    report = check(data)
    assert (report.faults, report.notes) == ((), ())


def test_a_context_may_have_catalogues_only(tmp_path: Path) -> None:
    manifest = publish(tmp_path, "vac.stars")
    assert live(tmp_path)[1] == manifest
    assert (manifest.index, manifest.parts, list(manifest.tables)) == (None, (), ["vac.stars"])
    entry = manifest.tables["vac.stars"]
    assert (entry.id, entry.source, entry.description) == ("source", "own.csv", "of the user's own")
    assert sum(file.rows for file in entry.files) == 30
    assert folders(tmp_path) == {"vac.stars", entry.folder}
    assert os.readlink(tmp_path / CONTEXT / "catalog" / "vac.stars") == entry.folder
    assert {path.name for path in (tmp_path / CONTEXT).iterdir()} == {"MANIFEST.json", "catalog"}
    assert_well(tmp_path)


def test_a_table_is_replaced_and_others_stay(tmp_path: Path) -> None:
    first = publish(tmp_path, "vac.stars")
    publish(tmp_path, "vac.dwarfs", 5)
    third = publish(tmp_path, "vac.stars", 40, "new.csv")
    assert {name: entry.source for name, entry in third.tables.items()} == {
        "vac.stars": "new.csv",
        "vac.dwarfs": "own.csv",
    }
    assert first.tables["vac.stars"].folder not in folders(tmp_path)
    assert folders(tmp_path) == {*third.tables, *(entry.folder for entry in third.tables.values())}
    assert_well(tmp_path)


@pytest.mark.parametrize("spectra_first", [True, False])
@pytest.mark.parametrize("name", ["vac.stars", "specobj", "specobjall"])
def test_tables_of_the_user_and_spectra_live_together_in_either_order(
    files: list[Path], tmp_path: Path, name: str, spectra_first: bool
) -> None:
    if spectra_first:
        ingest(tmp_path, CONTEXT, files[:3], 1)
    own = publish(tmp_path, name).tables[name]
    ingest(tmp_path, CONTEXT, files[:6], 1)
    replaced = ingest(tmp_path, CONTEXT, files[:9], 1)
    assert replaced.spectra == 9
    directory, manifest = live(tmp_path)
    assert manifest.tables[name] == own
    assert set(manifest.tables) == {name, "specobj", "specobjall"}
    everything = manifest.derived if name == "specobjall" else manifest.tables["specobjall"]
    assert everything is not None
    assert (manifest.derived is not None) == (name == "specobjall")
    assert everything.source is None
    rows = pa.concat_tables(pq.read_table(directory.catalog / file.name) for file in everything.files)
    assert (
        sorted(rows["specobjid"].to_pylist()) == read_index(directory.spectra / "index.arrow")["specobjid"].to_pylist()
    )
    wanted = {*manifest.tables, *(entry.folder for entry in manifest.entries)}
    assert folders(tmp_path) == wanted
    assert_well(tmp_path)


def test_derived_tables_are_the_same_whether_the_user_has_tables_or_not(files: list[Path], tmp_path: Path) -> None:
    publish(tmp_path / "a", "specobjall")
    for data in (tmp_path / "a", tmp_path / "b"):
        ingest(data, CONTEXT, files[:4], 1)
        ingest(data, CONTEXT, files[:7], 1)
    assert live(tmp_path / "a")[1].derived == live(tmp_path / "b")[1].tables["specobjall"]


def test_the_chunks_of_an_interrupted_ingest_outlive_a_catalogue(files: list[Path], tmp_path: Path) -> None:
    directory = ContextDirectory(tmp_path, CONTEXT)
    for folder in (directory.spectra, directory.staging):
        folder.mkdir(parents=True)
    (directory.spectra / "part-0.arrow").write_bytes(b"staged")
    (directory.spectra / "part-1.arrow").write_bytes(b"of nothing")
    (directory.staging / "00.json").write_text('{"parts": [{"name": "part-0.arrow"}], "files": {}, "skipped": []}')
    publish(tmp_path, "vac.stars")
    assert {path.name for path in directory.staging.iterdir()} == {"00.json"}
    assert {path.name for path in directory.spectra.iterdir()} == {"part-0.arrow"}
    ingest(tmp_path, CONTEXT, files[:2], 1)
    assert not directory.staging.exists()
    assert_well(tmp_path)


def test_one_ingest_of_a_context_at_a_time(tmp_path: Path) -> None:
    with (
        locked(ContextDirectory(tmp_path, CONTEXT)),
        pytest.raises(InvalidRequest, match="another ingest of 'sdss_dr16' is running"),
    ):
        publish(tmp_path, "vac.stars")
    publish(tmp_path, "vac.stars")


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(DamagedData, match=rf"data: {tmp_path}/data cannot be written: Not a directory"):
        publish(tmp_path / "data", "vac.stars")


def test_a_link_that_is_behind_is_set_right_by_the_next_ingest(sim_data: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(sim_data, tmp_path / "data", symlinks=True))
    link = data / CONTEXT / "catalog" / "specobj"
    link.unlink()
    link.symlink_to("specobj-0123456789ab")
    assert [fault.path for fault in check(data).faults] == [link]
    ingest(data, CONTEXT, [], 1)
    assert_well(data)
