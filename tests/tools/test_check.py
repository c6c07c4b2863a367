from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from specflight.catalog.hats import NO_POSITION_FILE, HatsWriter
from specflight.catalog.rows import RowStore
from specflight.catalog.sky import SkyIndex
from specflight.errors import NotFound
from specflight.flight.datadir import ContextDirectory, Manifest, TableEntry, adopt
from specflight.flight.store import INDEX_SCHEMA, read_index
from specflight.tools.check import MAX_ORIGINALS, check
from specflight.tools.cli import app
from specflight.tools.ingest import ingest
from specflight.tools.publish import table_entry

CONTEXT = "sdss_dr16"


@pytest.fixture
def data(sim_data: Path, tmp_path: Path) -> Path:
    """A data directory that may be spoilt."""
    return Path(shutil.copytree(sim_data, tmp_path / "data", symlinks=True))


def live(data: Path) -> tuple[ContextDirectory, Manifest]:
    directory = ContextDirectory(data, CONTEXT)
    manifest = directory.manifest()
    assert manifest is not None
    return directory, manifest


def live_paths(data: Path) -> list[Path]:
    directory, manifest = live(data)
    return [path for path, _ in directory.live_files(manifest)]


def faults(data: Path) -> list[tuple[str, str]]:
    return [(fault.path.name, fault.text) for fault in check(data).faults]


def with_index(data: Path, change: Callable[[pa.Table], pa.Table]) -> str:
    """Make another index live, which its checksum confirms."""
    directory, manifest = live(data)
    assert manifest.index is not None
    table = change(read_index(directory.spectra / manifest.index.name))
    temporary = directory.spectra / "new"
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, INDEX_SCHEMA) as writer:
        writer.write_table(table)
    index = adopt(temporary, "index", ".arrow", len(table))
    directory.switch(manifest.model_copy(update={"index": index}))
    link = directory.spectra / "index.arrow"
    link.unlink()
    link.symlink_to(index.name)
    return index.name


def put(table: pa.Table, name: str, values: object) -> pa.Table:
    number = table.column_names.index(name)
    return table.set_column(number, table.schema.field(number), pa.array(values, table.schema.field(number).type))


def test_what_ingest_wrote_is_well(sim_data: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check(sim_data, lambda done, total: seen.append((done, total)))
    assert (report.faults, report.notes) == ((), ())
    assert (report.contexts, report.spectra) == (2, 60)
    rebuilt = ("MANIFEST.json", "index.sky", "rows.arrow")
    files = [p for p in sim_data.rglob("*") if p.is_file() and not p.is_symlink() and p.name not in rebuilt]
    assert report.files == len(files)
    assert report.bytes == sum(path.stat().st_size for path in files)
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1] > report.files


def test_the_command_says_what_it_checked_and_ends_with_status_0(sim_data: Path) -> None:
    result = CliRunner().invoke(app, ["check", "--data", str(sim_data)])
    assert result.exit_code == 0
    assert "checked 2 contexts" in result.output
    assert "60 spectra" in result.output
    assert "all is well" in result.output


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "bytes in place of"),
        (lambda path: os.truncate(path, 0), "has 0 bytes in place of"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes in place of"),
        (lambda path: path.write_bytes(b"\0" * path.stat().st_size), "its SHA-256 is not that of the manifest"),
    ],
)
def test_every_damaged_file_is_named_and_the_rest_is_checked(
    data: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    paths = live_paths(data)
    for path in paths:
        spoil(path)
    report = check(data)
    assert [fault.path for fault in report.faults] == paths
    assert all(reason in fault.text for fault in report.faults)
    assert report.contexts == 2
    result = CliRunner().invoke(app, ["check", "--data", str(data)])
    assert result.exit_code == 1
    for path in paths:
        assert sum(line.startswith(f"fault {path}: ") for line in result.output.splitlines()) == 1
    assert result.output.rstrip().endswith(f"{len(paths)} faults")


def test_one_flipped_bit_anywhere_is_found(data: Path) -> None:
    rng = np.random.default_rng(2)
    kinds = {re.split("[-=]", path.name)[0]: path for path in live_paths(data)}
    assert len(kinds) == 7
    for path in kinds.values():
        whole = path.read_bytes()
        broken = bytearray(whole)
        broken[int(rng.integers(len(broken)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        assert faults(data) == [(path.name, "is damaged: its SHA-256 is not that of the manifest")]
        path.write_bytes(whole)
    assert not faults(data)


def test_a_folder_in_place_of_a_file_is_a_fault(data: Path) -> None:
    path = live_paths(data)[-1]
    path.unlink()
    path.mkdir()
    assert faults(data) == [(path.name, "is not a file")]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"schema_version": 99}', b"\xff\xfe"])
def test_a_manifest_that_cannot_be_read_is_a_fault_and_other_contexts_are_checked(data: Path, text: bytes) -> None:
    (data / CONTEXT / "MANIFEST.json").write_bytes(text)
    report = check(data)
    assert [fault.path for fault in report.faults] == [data / CONTEXT / "MANIFEST.json"]
    assert report.contexts == 1
    assert report.spectra > 0


@pytest.mark.parametrize("without", [None, "spectra", "catalog"])
def test_a_manifest_that_is_gone_is_a_fault(data: Path, without: str | None) -> None:
    (data / CONTEXT / "MANIFEST.json").unlink()
    if without is not None:
        shutil.rmtree(data / CONTEXT / without)
    assert faults(data) == [("MANIFEST.json", "is missing, though something was ingested")]


def test_a_folder_that_is_no_context_does_not_disturb(data: Path) -> None:
    (data / "archive").mkdir()
    (data / "specflight.toml").write_text("")
    assert not faults(data)
    (data / "Not A Name").mkdir()
    shutil.copy(data / CONTEXT / "MANIFEST.json", data / "Not A Name")
    assert [name for name, _ in faults(data)] == ["MANIFEST.json"]


INDEX_FAULTS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "unsorted": (lambda t: t.take(pa.array(np.arange(len(t))[::-1])), "is not sorted by specobjid"),
    "twice": (lambda t: t.take(pa.array([0, 0, *range(2, len(t))])), "or has it twice"),
    "unknown part": (lambda t: put(t, "part", ["part-0.arrow"] * len(t)), "names the part file part-0.arrow"),
    "outside": (lambda t: put(t, "offset", pc.add(t["offset"], 10**9).to_pylist()), "points outside of part-"),
    "negative": (lambda t: put(t, "offset", pc.negate(t["offset"]).to_pylist()), "points outside of part-"),
    "huge": (lambda t: put(t, "length", [2**62] * len(t)), "points outside of part-"),
    "null": (lambda t: put(t, "npix", [None] * len(t)), "has rows without npix"),
}


@pytest.mark.parametrize("kind", INDEX_FAULTS)
def test_an_index_at_fault_is_named(data: Path, kind: str) -> None:
    change, reason = INDEX_FAULTS[kind]
    name = with_index(data, change)
    found = faults(data)
    assert [fault[0] for fault in found] == [name]
    assert reason in found[0][1]


PART_FAULTS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "shifted": (lambda t: put(t, "offset", pc.add(t["offset"], 8).to_pylist()), "has no spectrum at"),
    "shorter": (lambda t: put(t, "npix", pc.subtract(t["npix"], 1).to_pylist()), "pixels in place of"),
    "explicit": (lambda t: put(t, "k0", [None] * len(t)), "has the columns flux, ivar"),
    "begins late": (
        lambda t: put(
            put(t, "offset", pc.add(t["offset"], 80).to_pylist()), "length", pc.subtract(t["length"], 80).to_pylist()
        ),
        "has other values than the index points to",
    ),
}


@pytest.mark.parametrize("kind", PART_FAULTS)
def test_an_index_that_disagrees_with_the_batches_is_told_by_the_part(data: Path, kind: str) -> None:
    change, reason = PART_FAULTS[kind]
    with_index(data, change)
    found = faults(data)
    assert {name for name, _ in found} == {part.name for part in live(data)[1].parts}
    assert all(reason in text for _, text in found)


def test_a_part_with_other_batches_than_the_manifest_says_is_a_fault(data: Path) -> None:
    directory, manifest = live(data)
    first = manifest.parts[0]
    wrong = first.model_copy(update={"rows": first.rows + 1})
    directory.switch(manifest.model_copy(update={"parts": (wrong, *manifest.parts[1:])}))
    assert faults(data) == [(first.name, f"has {first.rows} spectra in place of {first.rows + 1}")]


def rows_of(data: Path, name: str) -> pa.Table:
    directory, manifest = live(data)
    return pa.concat_tables(pq.read_table(path) for path in directory.table_files(manifest, name))


def switch(data: Path, name: str, entry: TableEntry) -> Path:
    """Make another entry of a table live; its folder."""
    directory, manifest = live(data)
    directory.switch(manifest.model_copy(update={"tables": {**manifest.tables, name: entry}}))
    link = directory.catalog / name
    link.unlink()
    link.symlink_to(entry.folder)
    return directory.catalog / entry.folder


def with_table(data: Path, name: str, rows: pa.Table) -> Path:
    """Make a table of other rows live, which checksums confirm; its folder."""
    out = data / CONTEXT / "catalog"
    cells = rows["_healpix_29"].to_numpy()
    with HatsWriter(name, rows.schema, cells, out, ra="ra", dec="dec") as writer:
        writer.write(rows)
        return switch(data, name, table_entry(writer.finish()))


def test_tables_must_hold_the_specobjids_of_the_index(data: Path) -> None:
    everything, primary = rows_of(data, "specobjall"), rows_of(data, "specobj")
    first = with_table(data, "specobjall", everything.slice(1))
    second = with_table(data, "specobj", put(primary, "specobjid", range(len(primary))))
    assert [fault[0] for fault in faults(data)] == [first.name, second.name]
    assert "has other specobjids than the index, such as" in faults(data)[0][1]
    twice = put(primary, "specobjid", [primary["specobjid"][0].as_py()] * len(primary))
    third = with_table(data, "specobj", twice)
    assert faults(data)[1] == (third.name, "has a specobjid twice, or one that is not in the index")


def test_a_table_that_was_ingested_itself_may_hold_any_identifiers(data: Path) -> None:
    rows = rows_of(data, "specobj")
    with_table(data, "specobj", put(rows, "specobjid", [1] * len(rows)))
    entry = live(data)[1].tables["specobj"]
    switch(data, "specobj", entry.model_copy(update={"source": "specObj.fits"}))
    assert not faults(data)


def with_file(data: Path, change: Callable[[pa.Table], pa.Table], number: int = 0) -> str:
    """Change one Parquet file of specobj, which its checksum confirms; its name."""
    directory, manifest = live(data)
    entry = manifest.tables["specobj"]
    old = entry.files[number]
    path = directory.catalog / old.name
    pq.write_table(change(pq.read_table(path)), path)
    new = adopt(path, "x", "", old.rows)
    (directory.catalog / entry.folder / old.name.partition("/")[2]).with_name(new.name).rename(path)
    files = tuple(new.model_copy(update={"name": old.name}) if file is old else file for file in entry.files)
    switch(data, "specobj", entry.model_copy(update={"files": files}))
    return path.name


def moved(rows: pa.Table) -> pa.Table:
    return put(rows, "_healpix_29", (rows["_healpix_29"].to_numpy() + 1).tolist())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows.take(pa.array(np.arange(len(rows))[::-1])), "is not sorted by _healpix_29"),
        (lambda rows: rows.slice(1), " rows in place of "),
        (moved, "has a _healpix_29 that is not of its position, in row 0"),
        (lambda rows: rows.drop_columns("specobjid"), "specobjid"),
    ],
)
def test_a_parquet_file_at_fault_is_named(data: Path, change: Callable[[pa.Table], pa.Table], reason: str) -> None:
    sizes = [file.rows for file in live(data)[1].tables["specobj"].files]
    name = with_file(data, change, int(np.argmax(sizes)))
    found = [fault for fault in faults(data) if fault[0] == name]
    assert len(found) == 1
    assert reason in found[0][1]


def test_rows_must_be_in_the_pixel_that_the_name_of_their_file_says(data: Path) -> None:
    directory, manifest = live(data)
    entry = manifest.tables["specobj"]
    assert len(entry.files) > 1
    names = [file.name for file in entry.files]
    for name, target in (*zip(names, ["a", *names], strict=False), ("a", names[-1])):
        (directory.catalog / name).rename(directory.catalog / target)
    turned = (*entry.files[1:], entry.files[0])
    files = tuple(file.model_copy(update={"name": name}) for name, file in zip(names, turned, strict=True))
    switch(data, "specobj", entry.model_copy(update={"files": files}))
    named = {path for path, reason in faults(data) if reason == "has rows outside of the pixel in its name"}
    assert named == {Path(name).name for name in names}


def test_the_files_of_a_table_must_be_in_the_order_of_the_sky_and_be_the_pixels_listed(data: Path) -> None:
    entry = live(data)[1].tables["specobj"]
    folder = switch(data, "specobj", entry.model_copy(update={"files": entry.files[::-1]}))
    found = faults(data)
    assert (folder.name, "has files that are not sorted by _healpix_29") in found
    assert ("partition_info.csv", "lists other pixels than the manifest has files") in found
    switch(data, "specobj", entry.model_copy(update={"hats": ()}))
    (folder / "partition_info.csv").unlink()
    assert faults(data) == [("partition_info.csv", "cannot be read: No such file or directory")]


def test_rows_without_a_position_are_in_their_own_file(data: Path) -> None:
    rows = rows_of(data, "specobj")
    unknown = rows.slice(0, 2)
    for name in ("ra", "dec"):
        unknown = put(unknown, name, [None] * 2)
    rows = pa.concat_tables([rows.slice(2), put(unknown, "_healpix_29", [2**63 - 1] * 2)])
    folder = with_table(data, "specobj", rows)
    assert (folder / NO_POSITION_FILE).exists()
    assert not faults(data)


REBUILT = ("index.sky", "rows.arrow")


@pytest.mark.parametrize("name", REBUILT)
@pytest.mark.parametrize("content", [None, b"", b"ARROW1 and nothing else"])
def test_a_derived_file_that_is_missing_or_stale_is_no_fault(data: Path, name: str, content: bytes | None) -> None:
    path = live(data)[0].table_folder(live(data)[1], "specobj") / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(app, ["check", "--data", str(data)])
    assert result.exit_code == 0
    assert f"note {path}: " in result.output.replace("\n", "")
    assert "rebuilt when served" in result.output


@pytest.mark.parametrize("name", REBUILT)
def test_a_derived_file_of_another_table_is_stale_and_one_with_other_rows_a_fault(data: Path, name: str) -> None:
    directory, manifest = live(data)
    files = directory.table_files(manifest, "specobj")
    path = directory.table_folder(manifest, "specobj") / name
    shutil.copy(data / "sdss_dr12" / "catalog" / "specobj" / name, path)
    assert [note.path for note in check(data).notes] == [path]
    sky, store = SkyIndex.build(files, path.with_name("index.sky")), RowStore.build(files, path.with_name("rows.arrow"))
    assert not check(data).notes
    z = store.take(np.arange(store.rows), ["z"])["z"].to_numpy()
    parts = {"index.sky": [sky.z, sky.cells, sky.by_id, sky.ids.to_numpy()], "rows.arrow": [z]}[name]
    whole = path.read_bytes()
    for part in parts:
        content = bytearray(whole)
        # in another place than the mapped file, which would change under the reader
        content[content.index(part.tobytes()) + 6] ^= 1
        path.unlink()
        path.write_bytes(content)
        assert faults(data) == [(name, "holds other rows than its Parquet files; remove it, to have it rebuilt")]


@pytest.mark.parametrize("target", [None, "specobj-0123456789ab"])
def test_links_must_point_to_the_live_table(data: Path, target: str | None) -> None:
    link = data / CONTEXT / "catalog" / "specobj"
    folder = link.readlink()
    link.unlink()
    if target is not None:
        link.symlink_to(target)
    assert faults(data) == [("specobj", f"does not point to {folder}, which is live")]
    (data / CONTEXT / ".staging").mkdir()
    report = check(data)
    assert not report.faults
    assert [note.path for note in report.notes] == [link]


@pytest.mark.parametrize("target", [None, "index-0.arrow", "../MANIFEST.json"])
def test_index_arrow_must_point_to_the_live_index(data: Path, target: str | None) -> None:
    link = data / CONTEXT / "spectra" / "index.arrow"
    link.unlink()
    if target is not None:
        link.symlink_to(target)
    assert [name for name, _ in faults(data)] == ["index.arrow"]
    # Between the switch and the end of an ingest it is behind.
    (data / CONTEXT / ".staging").mkdir()
    report = check(data)
    assert not report.faults
    assert [note.path for note in report.notes] == [link]


def test_originals_that_moved_or_changed_are_notes(sim_tree: dict[str, Path], tmp_path: Path) -> None:
    tree = Path(shutil.copytree(sim_tree[CONTEXT], tmp_path / "tree"))
    data = tmp_path / "data"
    ingest(data, CONTEXT, [tree], workers=1)
    paths = sorted(tree.rglob("*.fits"))
    os.truncate(paths[0], 100)
    os.utime(paths[1])
    paths[2].unlink()
    result = CliRunner().invoke(app, ["check", "--data", str(data)])
    assert result.exit_code == 0
    assert f"note {paths[0]}: the original has changed" in result.output
    assert str(paths[1]) not in result.output
    assert f"note {paths[2]}: the original is missing" in result.output
    assert "all is well" in result.output
    tree.rename(tmp_path / "moved")
    notes = check(data).notes
    assert len(notes) == MAX_ORIGINALS + 1
    assert notes[-1].text == f"{len(paths) - MAX_ORIGINALS} more originals are missing or have changed"


def test_nothing_in_the_data_directory_is_changed(data: Path) -> None:
    (data / CONTEXT / "catalog" / "specobj" / "index.sky").unlink()
    os.truncate(live_paths(data)[1], 1000)
    before = {path: path.lstat().st_mtime_ns for path in data.rglob("*")}
    check(data)
    assert {path: path.lstat().st_mtime_ns for path in data.rglob("*")} == before


def test_a_directory_without_contexts_is_well_and_one_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["check", "--data", str(tmp_path)]).exit_code == 0
    with pytest.raises(NotFound, match="there is no folder"):
        check(tmp_path / "no")
    result = CliRunner().invoke(app, ["check", "--data", str(tmp_path / "no")])
    assert result.exit_code == 2
    assert "data: there is no folder" in result.output
