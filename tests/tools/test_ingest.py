from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import fitsio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from typer.testing import CliRunner

from specflight.catalog.rows import RowStore
from specflight.catalog.sky import SkyIndex
from specflight.errors import DamagedData, InvalidRequest
from specflight.flight.archive import FitsArchive, fits_files
from specflight.flight.datadir import ContextDirectory, Manifest
from specflight.flight.protocol import grid_loglam
from specflight.flight.source import EXPLICIT, STORED, read_one
from specflight.flight.store import ArrowStore, read_index
from specflight.tools import chunks as chunks_module
from specflight.tools import ingest as ingest_module
from specflight.tools.check import check
from specflight.tools.chunks import Chunk, SourceFile, split, stage_chunk
from specflight.tools.cli import app
from specflight.tools.ingest import IngestReport, ingest

CONTEXT = "sdss_dr16"
OLD, NEW = "Sun Mar  2 16:31:14 2008", "Fri Mar 15 11:19:16 2019"
ROOT = os.geteuid() == 0


def take(data: Path, *paths: Path, context: str = CONTEXT, workers: int = 1) -> IngestReport:
    return ingest(data, context, paths, workers)


def command(data: Path, *paths: Path, context: str = CONTEXT) -> tuple[int, str]:
    arguments = ["ingest", "--data", str(data), "--context", context, "--workers", "1", *map(str, paths)]
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def live(data: Path, context: str = CONTEXT) -> tuple[ContextDirectory, Manifest]:
    directory = ContextDirectory(data, context)
    manifest = directory.manifest()
    assert manifest is not None
    return directory, manifest


def store(data: Path, context: str = CONTEXT) -> ArrowStore:
    return ArrowStore(*live(data, context))


def rows_of(data: Path, table: str, context: str = CONTEXT) -> pa.Table:
    directory, manifest = live(data, context)
    return pa.concat_tables(pq.read_table(path) for path in directory.table_files(manifest, table))


def snapshot(root: Path) -> dict[str, str]:
    """Bytes of a tree: checksums of its files and targets of its links, by path."""
    return {
        str(path.relative_to(root)): os.readlink(path)
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def times(root: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in root.rglob("*") if path.is_symlink() or path.is_file()}


def astropy_words(path: Path) -> tuple[int, NDArray[np.uint32], NDArray[np.uint32]]:
    """Identifier, the columns `STORED` and loglam of a file as astropy reads them.

    The identifier is read by fitsio: the wide table that it stands in takes astropy ten times as long as all else.
    """
    with fits.open(path, memmap=False) as hdus:
        kinds = {name: "<i4" if "mask" in name else "<f4" for name in (*STORED, "loglam")}
        columns = [hdus[1].data[name].astype(kind).view(np.uint32) for name, kind in kinds.items()]
    specobjid = int(fitsio.read(path, ext=2, columns=["SPECOBJID"])["SPECOBJID"][0])
    return specobjid % 2**64, np.stack(columns[:-1]), columns[-1]


def assert_same_as_files(data: Path, context: str, tree: Path) -> int:
    served = store(data, context)
    paths = sorted(fits_files(tree))
    for path in paths:
        specobjid, words, loglam = astropy_words(path)
        row = int(np.searchsorted(served.ids, np.uint64(specobjid)))
        assert served.ids[row] == specobjid
        npix = int(served.npix[row])
        np.testing.assert_array_equal(read_one(served, row)[:, :npix], words)
        np.testing.assert_array_equal(grid_loglam(int(served.k0[row]), npix).view(np.uint32), loglam)
    assert len(served.ids) == len(paths)
    return len(paths)


def changed(source: Path, target: Path, reduced: str | None = None, level: float = 0.0, mtime: int = 10**9) -> Path:
    """Another reduction of a spectrum: its date, what is added to its flux, and when the file changed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with fits.open(source, memmap=False) as hdus:
        if reduced is not None:
            hdus[0].header["SPCOADD"] = reduced
        hdus[1].data["flux"] += np.float32(level)
        hdus.writeto(target, overwrite=True)
    os.utime(target, (mtime, mtime))
    return target


def flux_of(data: Path) -> NDArray[np.float32]:
    """Flux of the only spectrum of a context."""
    served = store(data)
    assert len(served.ids) == 1
    flux: NDArray[np.float32] = read_one(served, 0)[0, : served.npix[0]].view(np.float32)
    return flux


@pytest.fixture(scope="module")
def files(sim_tree: dict[str, Path]) -> list[Path]:
    return sorted(fits_files(sim_tree[CONTEXT]))


def test_the_layout_is_that_of_the_architecture(sim_data: Path) -> None:
    for context in ("sdss_dr12", CONTEXT):
        directory, manifest = live(sim_data, context)
        assert manifest.index is not None
        assert sorted(p.name for p in directory.root.iterdir()) == ["MANIFEST.json", "catalog", "spectra"]
        spectra = {manifest.index.name, "index.arrow", *(part.name for part in manifest.parts)}
        assert {path.name for path in directory.spectra.iterdir()} == spectra
        assert os.readlink(directory.spectra / "index.arrow") == manifest.index.name
        assert set(manifest.tables) == {"specobj", "specobjall"}
        folders = {name: directory.table_folder(manifest, name) for name in manifest.tables}
        assert {path.name for path in directory.catalog.iterdir()} == {*folders, *(f.name for f in folders.values())}
        for name, folder in folders.items():
            assert re.fullmatch(rf"{name}-[0-9a-f]{{12}}", folder.name)
            assert os.readlink(directory.catalog / name) == folder.name
            entry = manifest.tables[name]
            listed = {directory.catalog / file.name for file in (*entry.files, *entry.hats)}
            found = {path for path in folder.rglob("*") if path.is_file()}
            assert found == listed | {folder / "index.sky", folder / "rows.arrow"}
            assert (entry.id, entry.ra, entry.dec, entry.source) == ("specobjid", "ra", "dec", None)
            files = directory.table_files(manifest, name)
            assert SkyIndex.open(folder / "index.sky", files) is not None
            assert RowStore.open(folder / "rows.arrow", files) is not None
        for path, file in directory.live_files(manifest):
            assert path.stat().st_size == file.bytes
            assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
            assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444 & ~_umask()
        index = read_index(directory.spectra / "index.arrow")
        assert all(a < b for a, b in pairwise(index["specobjid"].to_pylist()))
        assert manifest.index.rows == sum(part.rows for part in manifest.parts) == len(index)
        for file, size, digest in zip(*(index[n].to_pylist() for n in ("file", "size", "sha256")), strict=True):
            assert Path(file).stat().st_size == size
            assert hashlib.sha256(Path(file).read_bytes()).digest() == digest
        everything = rows_of(sim_data, "specobjall", context)
        assert sorted(everything["specobjid"].to_pylist()) == index["specobjid"].to_pylist()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_every_spectrum_is_bit_identical_to_what_astropy_reads(sim_data: Path, sim_tree: dict[str, Path]) -> None:
    assert sum(assert_same_as_files(sim_data, context, tree) for context, tree in sim_tree.items()) == 60


def test_every_real_spectrum_is_bit_identical_to_what_astropy_reads(real_data: Path, tmp_path: Path) -> None:
    for tree in sorted((real_data / "sas").iterdir()):
        context = f"sdss_{tree.name}"
        report = take(tmp_path, tree, context=context)
        assert not report.skipped
        assert assert_same_as_files(tmp_path, context, tree) == report.added
    assert not check(tmp_path).faults


def test_the_same_command_again_changes_nothing_and_says_so(
    sim_data: Path, sim_tree: dict[str, Path], tmp_path: Path
) -> None:
    data = Path(shutil.copytree(sim_data, tmp_path / "data", symlinks=True))
    before = snapshot(data), times(data)
    count = len(store(data).ids)
    status, output = command(data, sim_tree[CONTEXT])
    assert status == 0
    assert "0 new, 0 replaced" in output
    assert f"{count} files unchanged, 0 skipped; {count} spectra in all" in output
    assert (snapshot(data), times(data)) == before


def test_the_first_run_says_how_many_it_took(files: list[Path], tmp_path: Path) -> None:
    status, output = command(tmp_path / "data", *files[:3])
    assert status == 0
    assert f"ingested 3 spectra into context '{CONTEXT}'" in output
    assert "3 new, 0 replaced; 0 files unchanged, 0 skipped; 3 spectra in all" in output


def test_a_copy_under_another_name_is_the_same_spectrum(files: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copy(files[0], tmp_path / "copy.fits"))
    data = tmp_path / "data"
    assert take(data, files[0], copy) == IngestReport(1, 0, 1, (), 1)
    before = snapshot(data)
    again = Path(shutil.copy(files[0], tmp_path / "again.fits"))
    assert take(data, copy, again) == IngestReport(0, 0, 2, (), 1)
    assert snapshot(data) == before


def test_one_path_given_twice_is_one_file(files: list[Path], tmp_path: Path) -> None:
    assert take(tmp_path / "data", files[0], files[0].parent / "." / files[0].name) == IngestReport(1, 0, 0, (), 1)


@pytest.mark.parametrize("newer_first", [False, True])
@pytest.mark.parametrize("runs", [1, 2])
def test_the_newer_reduction_is_taken_whichever_comes_first(
    files: list[Path], tmp_path: Path, newer_first: bool, runs: int
) -> None:
    # Names and times of the files say the opposite.
    newer = changed(files[0], tmp_path / "a.fits", NEW, level=7, mtime=10**9)
    older = changed(files[0], tmp_path / "b.fits", OLD, level=3, mtime=2 * 10**9)
    order = [newer, older] if newer_first else [older, newer]
    data = tmp_path / "data"
    if runs == 1:
        assert take(data, *order) == IngestReport(1, 0, 1, (), 1)
    else:
        assert take(data, order[0]) == IngestReport(1, 0, 0, (), 1)
        assert take(data, order[1]) == IngestReport(0, 0 if newer_first else 1, int(newer_first), (), 1)
    np.testing.assert_array_equal(flux_of(data), fits.getdata(newer, 1)["flux"])
    directory, manifest = live(data)
    assert len(manifest.parts) == 1
    assert {path.name for path in directory.spectra.glob("part-*")} == {manifest.parts[0].name}
    assert read_index(directory.spectra / "index.arrow")["file"].to_pylist() == [str(newer)]
    assert not check(data).faults


@pytest.mark.parametrize("reduced", [NEW, ""])
@pytest.mark.parametrize("later_first", [False, True])
def test_of_one_date_of_reduction_the_file_that_changed_later_is_taken(
    files: list[Path], tmp_path: Path, later_first: bool, reduced: str
) -> None:
    later = changed(files[0], tmp_path / "a.fits", reduced, level=7, mtime=2 * 10**9)
    earlier = changed(files[0], tmp_path / "b.fits", reduced, level=3, mtime=10**9)
    for path in (later, earlier) if later_first else (earlier, later):
        take(tmp_path / "data", path)
    np.testing.assert_array_equal(flux_of(tmp_path / "data"), fits.getdata(later, 1)["flux"])


def test_a_replaced_spectrum_has_its_new_row_in_the_catalogue_and_others_keep_theirs(
    files: list[Path], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    take(data, *files[:4])
    before = rows_of(data, "specobjall")
    newer = changed(files[1], tmp_path / "newer.fits", "Sat Mar 16 11:19:16 2030")
    with fits.open(newer, mode="update") as hdus:
        hdus[2].data["Z"] = 1.25
    assert take(data, newer) == IngestReport(0, 1, 0, (), 4)
    after = rows_of(data, "specobjall")
    assert after.schema.equals(before.schema, check_metadata=True)
    old, new = ({row["specobjid"]: row for row in table.to_pylist()} for table in (before, after))
    differing = [key for key in old if old[key] != new[key]]
    assert [new[key]["z"] for key in differing] == [1.25]


def renamed(content: bytes) -> bytes:
    at = content.lower().index(b"'flux")
    return content[: at + 1] + b"flox" + content[at + 5 :]


def edited(path: Path, change: Callable[[fits.HDUList], None]) -> bytes:
    target = path.with_name("edited")
    with fits.open(path, memmap=False) as hdus:
        change(hdus)
        hdus.writeto(target, overwrite=True)
    content = target.read_bytes()
    target.unlink()
    return content


def nan_wavelength(hdus: fits.HDUList) -> None:
    hdus[1].data["loglam"][5] = np.nan


def no_rows(hdus: fits.HDUList) -> None:
    hdus[1].data = hdus[1].data[:0]


BROKEN: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty.fits": (lambda path: b"", "empty"),
    "text.fits": (lambda path: b"SIMPLE is what this is not\n" * 200, "not"),
    "header.fits": (lambda path: path.read_bytes()[:1000], "truncated"),
    "truncated.fits": (lambda path: path.read_bytes()[:40_000], "truncated"),
    "lacking.fit": (lambda path: renamed(path.read_bytes()), "HDU 1 has no column flux"),
    "nan.FITS": (lambda path: edited(path, nan_wavelength), "NaN"),
    "zero.fits": (lambda path: edited(path, no_rows), "zero rows"),
    "cut.fits.gz": (lambda path: gzip.compress(path.read_bytes())[:5000], "truncated or damaged gzip"),
    "odd.fits.gz": (lambda path: b"\x1f\x8b and no more", "gzip"),
}


def test_broken_files_are_named_with_the_reason_and_the_rest_goes_on(files: list[Path], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    good = Path(shutil.copy(files[0], tree / "good.fits"))
    for name, (make, _) in BROKEN.items():
        (tree / "deep" / name).write_bytes(make(good))
    (tree / "gone.fits").symlink_to("nowhere.fits")
    os.mkfifo(tree / "pipe.fits")
    (tree / "notes.txt").write_text("not looked at")
    expected = {str(tree / "deep" / name): reason for name, (_, reason) in BROKEN.items()}
    expected |= {str(tree / "gone.fits"): "No such file", str(tree / "pipe.fits"): "not a regular file"}
    for run in range(2):
        status, output = command(tmp_path / "data", tree)
        assert status == 1
        lines = [line for line in output.splitlines() if line.startswith("skipped ")]
        assert len(lines) == len(expected)
        for path, reason in expected.items():
            (line,) = (line for line in lines if line.startswith(f"skipped {path}: "))
            assert reason.lower() in line.lower()
        assert ("1 new", "1 files unchanged")[run] in output
        assert f"{len(expected)} skipped; 1 spectra in all" in output
    np.testing.assert_array_equal(flux_of(tmp_path / "data"), fits.getdata(good, 1)["flux"])


def test_broken_files_alone_make_no_context(tmp_path: Path) -> None:
    (tmp_path / "text.fits").write_text("text")
    status, output = command(tmp_path / "data", tmp_path / "text.fits")
    assert status == 1
    assert "ingested 0 spectra" in output
    assert live_or_none(tmp_path / "data") is None


def live_or_none(data: Path) -> Manifest | None:
    return ContextDirectory(data, CONTEXT).manifest()


def test_other_formats_of_real_files_are_named(real_data: Path, tmp_path: Path) -> None:
    others = [*(real_data / "other").iterdir(), *(real_data / "desi").iterdir()]
    report = take(tmp_path / "data", *others)
    assert report.added == 0
    assert {skip.path for skip in report.skipped} == {os.path.abspath(path) for path in others}
    reasons = {Path(skip.path).name: skip.reason for skip in report.skipped}
    assert "spSpec format is not supported" in next(r for n, r in reasons.items() if n.startswith("spSpec"))
    assert all("not supported" in reason for reason in reasons.values())


@pytest.mark.skipif(ROOT, reason="root may read everything")
def test_files_and_folders_that_may_not_be_read_are_named(files: list[Path], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "closed").mkdir(parents=True)
    for name in ("good.fits", "shut.fits", "closed/unseen.fits"):
        shutil.copy(files[0], tree / name)
    (tree / "shut.fits").chmod(0)
    (tree / "closed").chmod(0)
    try:
        report = take(tmp_path / "data", tree)
    finally:
        (tree / "closed").chmod(0o755)
    reasons = {Path(skip.path).name: skip.reason for skip in report.skipped}
    assert reasons == {
        "shut.fits": "the file cannot be read: Permission denied",
        "closed": "the folder cannot be read",
    }
    assert report.added == 1


@pytest.mark.parametrize("name", ["spectrum", "spec 1.dat", "-x", "spéc-α.fits.bak", "a\nb.txt"])
def test_a_file_of_any_name_is_taken_when_it_is_given_itself(files: list[Path], tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(files[0], tmp_path / name))
    assert command(tmp_path / "data", path)[0] == 0
    assert read_index(live(tmp_path / "data")[0].spectra / "index.arrow")["file"].to_pylist() == [str(path)]


def test_a_name_that_is_not_utf_8_is_skipped_and_can_be_printed(files: list[Path], tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.fits")
    shutil.copy(files[0], odd)
    shutil.copy(files[1], tmp_path / "good.fits")
    status, output = command(tmp_path / "data", tmp_path)
    assert status == 1
    assert f"skipped {tmp_path}/caf\\xe9.fits: the file's name is not UTF-8" in output
    assert "1 new" in output
    assert len(FitsArchive(tmp_path, tmp_path / "archive.arrow").ids) == 1


def test_links_are_followed_and_loops_of_them_end(files: list[Path], tmp_path: Path) -> None:
    for name in ("tree/a", "tree/b", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tree/a/up").symlink_to(tmp_path / "tree")
    (tmp_path / "tree/b/up").symlink_to(tmp_path / "tree")
    (tmp_path / "tree/a/there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree/b/linked.fits").symlink_to(files[0])
    shutil.copy(files[1], tmp_path / "elsewhere/spec.fits")
    assert take(tmp_path / "data", tmp_path / "tree") == IngestReport(2, 0, 0, (), 2)


def test_a_gzipped_file_is_taken_and_its_size_and_checksum_are_of_the_file_itself(
    files: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "spec.fits.gz"
    path.write_bytes(gzip.compress(files[0].read_bytes(), mtime=0))
    take(tmp_path / "data", tmp_path)
    np.testing.assert_array_equal(flux_of(tmp_path / "data"), fits.getdata(files[0], 1)["flux"])
    (row,) = read_index(live(tmp_path / "data")[0].spectra / "index.arrow").to_pylist()
    assert (row["file"], row["size"], row["mtime_ns"]) == (str(path), path.stat().st_size, path.stat().st_mtime_ns)
    assert row["sha256"] == hashlib.sha256(path.read_bytes()).digest()
    assert store(tmp_path / "data").original(0) == (path.name, path.read_bytes())
    assert not check(tmp_path / "data").notes


def test_contexts_do_not_disturb_each_other(files: list[Path], sim_tree: dict[str, Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    take(data, *files[:5], context="one")
    before = snapshot(data / "one"), times(data / "one")
    take(data, sim_tree["sdss_dr12"], context="two")
    take(data, *files[2:8], context="three")
    assert (snapshot(data / "one"), times(data / "one")) == before
    report = check(data)
    assert (report.contexts, report.faults, report.notes) == (3, (), ())


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few files, however the folder of the files is called."""
    monkeypatch.setattr(chunks_module, "MEAN_CHUNK", 4)


@pytest.mark.usefixtures("small_chunks")
def test_several_workers_give_the_same_bytes_as_one(
    sim_tree: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(tmp_path / "one", sim_tree[CONTEXT])
    monkeypatch.setattr(ingest_module, "INLINE", 0)
    seen: list[tuple[int, int]] = []
    ingest(tmp_path / "two", CONTEXT, [sim_tree[CONTEXT]], 2, lambda done, total: seen.append((done, total)))
    assert snapshot(tmp_path / "two") == snapshot(tmp_path / "one")
    assert len(live(tmp_path / "two")[1].parts) > 1
    count = len(store(tmp_path / "two").ids)
    assert (seen[0], seen[-1]) == ((0, count), (count, count))
    assert all(a <= b for a, b in pairwise(done for done, _ in seen))


def test_a_second_ingest_of_a_context_at_once_is_refused_and_the_first_goes_on(
    files: list[Path], tmp_path: Path
) -> None:
    refusals = []

    def meanwhile(done: int, total: int) -> None:
        with pytest.raises(InvalidRequest) as caught:
            take(tmp_path, *files[3:6])
        refusals.append(str(caught.value))
        assert take(tmp_path, files[done], context=f"other{len(refusals)}").added == 1

    assert ingest(tmp_path, CONTEXT, files[:3], 1, meanwhile).added == 3
    assert set(refusals) == {f"context: another ingest of '{CONTEXT}' is running"}
    assert take(tmp_path, *files[3:6]).added == 3


def test_a_path_that_does_not_exist_is_an_error_before_anything_is_done(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    for wrong in (tmp_path / "no.fits", tmp_path / "link"):
        status, output = command(tmp_path / "data", files[0], wrong)
        assert status == 2
        assert f"PATH: there is no file or folder {wrong}" in output
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["", "SDSS", "a-b", "../up", "a/b", "_x", "default", "archive", "x" * 65, "é"])
def test_a_name_that_no_context_can_have_is_an_error(files: list[Path], tmp_path: Path, name: str) -> None:
    status, output = command(tmp_path / "data", files[0], context=name)
    assert status == 2
    reason = (
        "is reserved"
        if name in ("default", "archive")
        else "is not a name of lower-case letters, digits and underscores"
    )
    assert "context: " in output
    assert f"'{name}' {reason}" in output
    assert not (tmp_path / "data").exists()


def test_an_ingest_that_takes_nothing_leaves_no_folder_of_the_context(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/odd.fits").write_bytes(b"no FITS")
    status, output = command(tmp_path / "data", tmp_path / "tree", context="odd")
    assert status == 1
    assert "odd.fits" in output
    assert list((tmp_path / "data").iterdir()) == []


def off_grid(hdus: fits.HDUList) -> None:
    rows = len(hdus[1].data)
    hdus[1].data["loglam"] = np.log10(3600 + 0.8 * np.arange(rows)).astype(np.float32)


def test_spectra_off_the_grid_keep_their_own_wavelengths(files: list[Path], tmp_path: Path) -> None:
    odd = [tmp_path / f"odd{n}.fits" for n in range(3)]
    for path, source in zip(odd, files, strict=False):
        shutil.copy(source, path)
        path.write_bytes(edited(path, off_grid))
    take(tmp_path / "data", *odd, *files[3:6])
    served = store(tmp_path / "data")
    for path in odd:
        specobjid, words, loglam = astropy_words(path)
        row = int(np.searchsorted(served.ids, np.uint64(specobjid)))
        assert served.k0[row] == EXPLICIT
        np.testing.assert_array_equal(read_one(served, row)[:, : served.npix[row]], np.vstack([words, loglam]))
    assert (served.k0 != EXPLICIT).sum() == 3
    assert not check(tmp_path / "data").faults


def test_a_data_directory_that_cannot_be_made_is_an_error(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, output = command(tmp_path / "file", files[0])
    assert status == 2
    assert f"data: {tmp_path / 'file'} cannot be written: Not a directory" in output


@pytest.mark.skipif(ROOT, reason="root may write everywhere")
def test_a_data_directory_that_may_not_be_written_is_an_error(
    sim_data: Path, files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir(mode=0o555)
    status, output = command(tmp_path / "data", files[0])
    assert status == 2
    assert f"data: {tmp_path / 'data'} cannot be written: Permission denied" in output


def test_a_full_disk_is_an_error_and_later_the_same_command_goes_on(
    sim_tree: dict[str, Path], sim_data: Path, tmp_path: Path
) -> None:
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)); "
    limited += "from specflight.tools.cli import app; app(sys.argv[1:])"
    arguments = ["ingest", "--data", str(tmp_path), "--context", CONTEXT, str(sim_tree[CONTEXT])]
    ran = subprocess.run([sys.executable, "-c", limited, *arguments], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert f"data: {tmp_path} cannot be written: File too large" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert live_or_none(tmp_path) is None
    take(tmp_path, sim_tree[CONTEXT])
    assert snapshot(tmp_path / CONTEXT) == snapshot(sim_data / CONTEXT)


def test_originals_that_moved_are_found_again_by_an_ingest_of_their_new_place(
    files: list[Path], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    changed(files[0], tmp_path / "old/one.fits")
    changed(files[1], tmp_path / "old/two.fits")
    take(data, tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(DamagedData):
        store(data).original(0)
    assert take(data, tmp_path / "new") == IngestReport(0, 2, 0, (), 2)
    assert {store(data).original(row)[0] for row in range(2)} == {"one.fits", "two.fits"}
    assert check(data).notes == ()


def staged(data: Path, paths: list[Path]) -> tuple[ContextDirectory, list[Chunk]]:
    """The chunks of some files; the first one is finished, as a killed ingest leaves it."""
    directory = ContextDirectory(data, CONTEXT)
    directory.spectra.mkdir(parents=True)
    directory.staging.mkdir()
    status = {path: path.stat() for path in paths}
    sources = [SourceFile(str(p), s.st_size, s.st_mtime_ns) for p, s in sorted(status.items())]
    chunks = [Chunk(data, CONTEXT, files) for files in split(sources)]
    stage_chunk(chunks[0])
    return directory, chunks


@pytest.mark.usefixtures("small_chunks")
def test_a_chunk_that_was_finished_is_not_done_again(files: list[Path], tmp_path: Path) -> None:
    take(tmp_path / "undisturbed", *files)
    directory, chunks = staged(tmp_path / "data", files)
    assert len(chunks) > 1
    before = {path.name: path.stat().st_ino for path in directory.spectra.iterdir()}
    seen: list[int] = []
    ingest(tmp_path / "data", CONTEXT, files, 1, lambda done, total: seen.append(done))
    assert seen[0] == len(chunks[0].files)
    assert {name: (directory.spectra / name).stat().st_ino for name in before} == before
    assert snapshot(tmp_path / "data") == snapshot(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        *((suffix, content) for suffix in (".json", ".arrow", ".parquet", "part") for content in (b"", None)),
        *((".json", content) for content in (b"\0" * 100, b"null", b'{"parts": []}')),
    ],
)
def test_what_a_loss_of_power_cut_short_is_done_again(
    files: list[Path], sim_data: Path, tmp_path: Path, suffix: str, content: bytes | None
) -> None:
    directory, chunks = staged(tmp_path, files)
    victim = directory.staging / f"{chunks[0].key}{suffix}"
    if suffix == "part":
        (victim,) = directory.spectra.iterdir()
    victim.unlink() if content is None else victim.write_bytes(content)
    (directory.staging / "extract-abc").mkdir()
    (directory.staging / "extract-abc" / "0.arrow").write_bytes(b"left")
    (directory.root / ".MANIFEST.json.123.tmp").write_bytes(b"left")
    for name in ("specobj-0123456789ab", ".specobjall.123.tmp"):
        (directory.catalog / name / "dataset").mkdir(parents=True)
        (directory.catalog / name / "dataset" / "_metadata").write_bytes(b"left")
    (directory.catalog / "specobj").symlink_to("specobj-0123456789ab")
    (directory.catalog / ".specobj.123.tmp").symlink_to("specobj-0123456789ab")
    ingest(tmp_path, CONTEXT, files, 1)
    assert snapshot(directory.root) == snapshot(sim_data / CONTEXT)
    assert not directory.staging.exists()


@pytest.mark.parametrize("which", ["index", "specobjall", "manifest"])
def test_an_ingest_into_a_damaged_context_names_the_file_and_changes_nothing(
    sim_data: Path, sim_tree: dict[str, Path], tmp_path: Path, which: str
) -> None:
    data = Path(shutil.copytree(sim_data, tmp_path / "data", symlinks=True))
    directory, manifest = live(data)
    assert manifest.index is not None
    victim = {
        "index": directory.spectra / manifest.index.name,
        "specobjall": directory.table_files(manifest, "specobjall")[0],
        "manifest": directory.manifest_path,
    }[which]
    victim.write_bytes(victim.read_bytes()[:100])
    before = victim.read_bytes()
    status, output = command(data, sim_tree["sdss_dr12"])
    assert status == 2
    assert victim.name in output.replace("\n", "")
    assert victim.read_bytes() == before
