from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from specflight.errors import DamagedData
from specflight.flight.archive import FitsArchive, fits_files, newest
from specflight.flight.source import EXPLICIT, STORED, read_one

Vectors = dict[str, NDArray[Any]]


def assert_same_as_astropy(archive: FitsArchive, row: int, truth: Vectors) -> None:
    npix = int(archive.npix[row])
    assert npix == len(truth["flux"])
    for name, vector in zip(STORED, read_one(archive, row), strict=False):
        assert vector[:npix].tobytes() == truth[name].tobytes(), name


def test_words_are_bit_for_bit_what_astropy_reads(
    sim_tree: dict[str, Path],
    sim_truth: dict[str, dict[int, Path]],
    astropy_vectors: Callable[[Path], Vectors],
    tmp_path: Path,
) -> None:
    for context, files in sim_truth.items():
        archive = FitsArchive(sim_tree[context], tmp_path / context / "scan.arrow")
        assert archive.ids.tolist() == sorted(files)
        for row, specobjid in enumerate(archive.ids.tolist()):
            assert_same_as_astropy(archive, row, astropy_vectors(files[specobjid]))
            assert archive.original(row) == (files[specobjid].name, files[specobjid].read_bytes())


def test_files_are_found_by_what_they_hold_and_not_by_their_names(
    tmp_path: Path, make_spectrum: Callable[..., int], astropy_vectors: Callable[[Path], Vectors]
) -> None:
    loglam = np.log10(np.linspace(3600, 3640, 20)).astype(np.float32)
    odd = make_spectrum(tmp_path / "tree/spec-9999-99999-9999.fits", fiberid=5, npix=20, loglam=loglam)
    even = make_spectrum(tmp_path / "tree/deep/down/x.FIT", fiberid=7, npix=21)
    (tmp_path / "tree/deep/zipped.fits.gz").write_bytes(b"")
    zipped = make_spectrum(tmp_path / "elsewhere/y.fits", fiberid=9)
    (tmp_path / "tree/deep/zipped.fits.gz").write_bytes(gzip.compress((tmp_path / "elsewhere/y.fits").read_bytes()))
    (tmp_path / "tree/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree/notes.txt").write_text("no spectrum")
    archive = FitsArchive(tmp_path / "tree", tmp_path / "scan.arrow")
    assert archive.ids.tolist() == [odd, even, zipped]
    assert archive.k0.tolist() == [EXPLICIT, 35500, 35500]
    assert read_one(archive, 0)[len(STORED)].tobytes() == loglam.tobytes()
    assert_same_as_astropy(archive, 1, astropy_vectors(tmp_path / "tree/deep/down/x.FIT"))
    assert_same_as_astropy(archive, 2, astropy_vectors(tmp_path / "elsewhere/y.fits"))


def test_a_broken_file_is_left_out_by_name_and_the_others_are_served(
    tmp_path: Path, make_spectrum: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    good = make_spectrum(tmp_path / "tree/good.fits")
    (tmp_path / "tree/half.fits").write_bytes((tmp_path / "tree/good.fits").read_bytes()[:6000])
    (tmp_path / "tree/empty.fits").touch()
    (tmp_path / "tree/vanished.fits").symlink_to(tmp_path / "nowhere.fits")
    archive = FitsArchive(tmp_path / "tree", tmp_path / "scan.arrow")
    assert archive.ids.tolist() == [good]
    for name in ("half.fits", "empty.fits", "vanished.fits"):
        assert name in caplog.text


def test_a_restart_reads_new_and_changed_files_only(tmp_path: Path, make_spectrum: Callable[..., int]) -> None:
    first = make_spectrum(tmp_path / "tree/a.fits", fiberid=1)
    FitsArchive(tmp_path / "tree", tmp_path / "made/scan.arrow")
    # Rubbish under the size and time that were seen before: who looked again would notice.
    path = tmp_path / "tree/a.fits"
    seen = path.stat()
    path.write_bytes(b"x" * seen.st_size)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    second = make_spectrum(tmp_path / "tree/b.fits", fiberid=2)
    archive = FitsArchive(tmp_path / "tree", tmp_path / "made/scan.arrow")
    assert archive.ids.tolist() == [first, second]
    with pytest.raises(DamagedData, match=r"a\.fits cannot be read any more"):
        read_one(archive, 0)
    (tmp_path / "tree/a.fits").unlink()
    assert FitsArchive(tmp_path / "tree", tmp_path / "made/scan.arrow").ids.tolist() == [second]


@pytest.mark.parametrize("content", [b"", b"rubbish" * 99])
def test_a_memory_that_is_damaged_is_made_again(
    tmp_path: Path, make_spectrum: Callable[..., int], content: bytes
) -> None:
    specobjid = make_spectrum(tmp_path / "tree/a.fits")
    (tmp_path / "scan.arrow").write_bytes(content)
    assert FitsArchive(tmp_path / "tree", tmp_path / "scan.arrow").ids.tolist() == [specobjid]


def test_a_memory_of_another_layout_is_made_again(tmp_path: Path, make_spectrum: Callable[..., int]) -> None:
    specobjid = make_spectrum(tmp_path / "tree/a.fits")
    table = pa.table({"specobjid": pa.array([3], pa.uint64())})
    with pa.OSFile(str(tmp_path / "scan.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    assert FitsArchive(tmp_path / "tree", tmp_path / "scan.arrow").ids.tolist() == [specobjid]


def test_a_file_that_changed_since_the_scan_is_an_error(tmp_path: Path, make_spectrum: Callable[..., int]) -> None:
    make_spectrum(tmp_path / "tree/a.fits", fiberid=1, npix=40)
    archive = FitsArchive(tmp_path / "tree", tmp_path / "scan.arrow")
    make_spectrum(tmp_path / "tree/a.fits", fiberid=1, npix=41)
    with pytest.raises(DamagedData, match=r"a\.fits has changed"):
        read_one(archive, 0)
    make_spectrum(tmp_path / "tree/a.fits", fiberid=2, npix=40)
    with pytest.raises(DamagedData, match=r"a\.fits has changed"):
        read_one(archive, 0)


def test_a_file_that_is_gone_is_an_error_that_keeps_its_folder_to_itself(
    tmp_path: Path, make_spectrum: Callable[..., int]
) -> None:
    make_spectrum(tmp_path / "tree/a.fits")
    archive = FitsArchive(tmp_path / "tree", tmp_path / "scan.arrow")
    (tmp_path / "tree/a.fits").unlink()
    for read in (partial(read_one, archive), archive.original):
        with pytest.raises(DamagedData, match=r"a\.fits") as caught:
            read(0)
        assert str(tmp_path) not in str(caught.value)


def test_of_two_files_of_a_spectrum_the_one_that_changed_last_is_served(
    tmp_path: Path, make_spectrum: Callable[..., int]
) -> None:
    for name, npix, when in (("a", 40, 3), ("b", 41, 9), ("c", 42, 5)):
        make_spectrum(tmp_path / f"tree/{name}.fits", npix=npix)
        os.utime(tmp_path / f"tree/{name}.fits", (when, when))
    archive = FitsArchive(tmp_path / "tree", tmp_path / "scan.arrow")
    assert archive.npix.tolist() == [41]


def test_a_tree_without_files_is_served_empty(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    archive = FitsArchive(tmp_path / "tree", tmp_path / "scan.arrow")
    assert archive.ids.dtype == np.uint64
    assert archive.ids.tolist() == []


def test_a_tree_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedData, match="nowhere is not a folder"):
        FitsArchive(tmp_path / "nowhere", tmp_path / "scan.arrow")


def test_a_scan_that_cannot_be_remembered_is_no_obstacle(tmp_path: Path, make_spectrum: Callable[..., int]) -> None:
    specobjid = make_spectrum(tmp_path / "tree/a.fits")
    (tmp_path / "blocked").write_text("a file where the memory's folder should be")
    archive = FitsArchive(tmp_path / "tree", tmp_path / "blocked" / "scan.arrow")
    assert archive.ids.tolist() == [specobjid]


def test_files_come_in_the_order_of_their_names_and_one_file_may_have_any(tmp_path: Path) -> None:
    for name in ("b/2.fits", "a/3.fit", "1.FITS.GZ", "b/1.fit.gz", "b/readme", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(path.relative_to(tmp_path)) for path in fits_files(tmp_path)]
    assert names == ["1.FITS.GZ", "a/3.fit", "b/1.fit.gz", "b/2.fits"]
    assert list(fits_files(tmp_path / "c.txt")) == [tmp_path / "c.txt"]


def test_the_newest_reduction_wins_then_the_last_change_then_the_last_name() -> None:
    table = pa.table(
        {
            "specobjid": pa.array([5, 5, 9, 9, 2**64 - 1, 2**64 - 1], pa.uint64()),
            "reduced": [2.0, 1.0, 0.0, 0.0, 7.0, 7.0],
            "mtime_ns": [1, 2, 4, 3, 8, 8],
            "file": ["a", "b", "c", "d", "z", "y"],
        }
    )
    assert newest(table).tolist() == [0, 2, 4]
    order = np.random.default_rng(1).permutation(6)
    assert table.take(order).take(newest(table.take(order)))["file"].to_pylist() == ["a", "c", "z"]


def test_copies_elsewhere_are_one_spectrum(tmp_path: Path, make_spectrum: Callable[..., int]) -> None:
    specobjid = make_spectrum(tmp_path / "tree/a.fits")
    shutil.copy2(tmp_path / "tree/a.fits", tmp_path / "tree/b.fits")
    assert FitsArchive(tmp_path / "tree", tmp_path / "scan.arrow").ids.tolist() == [specobjid]
