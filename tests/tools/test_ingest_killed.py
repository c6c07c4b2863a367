"""A killed ingest: what it leaves is the old state or the new one, and the same command again ends as undisturbed."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from specflight.flight.archive import fits_files
from specflight.flight.service import Service
from specflight.flight.source import read_one
from specflight.tools.check import check
from specflight.tools.ingest import ingest
from specflight.tools.simulate import simulate

CONTEXT = "sdss_dr16"
SPECTRA = 900
"""Spectra of both releases; the context has more than half of them, enough for worker processes."""

LONG = (pytest.mark.slow, pytest.mark.timeout(1800))
MOMENTS = [pytest.param(3, id="some"), pytest.param(20, id="twenty", marks=LONG)]

Spectra = dict[int, tuple[int, NDArray[np.uint32]]]


def snapshot(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): os.readlink(path)
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def run(data: Path, tree: Path) -> subprocess.Popen[bytes]:
    arguments = ["ingest", "--data", str(data), "--context", CONTEXT, "--workers", "2", str(tree)]
    with data.with_name("output").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "specflight.tools.cli", *arguments], stdout=output, stderr=subprocess.STDOUT
        )


def begun(process: subprocess.Popen[bytes], data: Path) -> float:
    """When an ingest begins to write."""
    while process.poll() is None and not (data / CONTEXT / ".staging").is_dir():
        time.sleep(0.002)
    return time.monotonic()


def undisturbed(data: Path, tree: Path) -> float:
    """Ingest to the end; how long the writing took."""
    process = run(data, tree)
    start = begun(process, data)
    assert process.wait(120) == 0, data.with_name("output").read_text()
    return time.monotonic() - start


def killed(data: Path, tree: Path, delay: float) -> bool:
    """Kill an ingest some time after it began to write; if it was still running then. Its workers end by themselves."""
    process = run(data, tree)
    begun(process, data)
    time.sleep(delay)
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    status = process.wait(10)
    _, orphans = psutil.wait_procs(family, timeout=10)
    assert not orphans
    assert status in (0, -signal.SIGKILL), data.with_name("output").read_text()
    return status != 0


def served(data: Path) -> Spectra:
    """Every spectrum that a server gives: its first pixel and its words."""
    service = Service(data)
    try:
        context = service.contexts.get(CONTEXT)
        source = context.source
        rows = {int(source.ids[row]): row for row in range(len(source.ids))}
        assert context.tables["specobjall"].rows == len(rows)
        found = context.tables["specobjall"].query(columns=["specobjid"])["specobjid"].to_pylist()
        assert set(found) == set(rows)
        return {
            i: (int(source.k0[row]), read_one(source, row)[:, : source.npix[row]].copy()) for i, row in rows.items()
        }
    finally:
        service.close()


def assert_same(left: Spectra, right: Spectra) -> None:
    assert left.keys() == right.keys()
    for key, (k0, words) in left.items():
        assert k0 == right[key][0]
        np.testing.assert_array_equal(words, right[key][1])


def spread(count: int, duration: float) -> Iterator[float]:
    """Random moments, one in each of as many equal parts of a time."""
    yield from (duration * (number + random.random()) / count for number in range(count))


@dataclass(frozen=True)
class Scene:
    """An ingest that nothing disturbs, from a state of the data directory to the next."""

    tree: Path
    before: Path | None
    duration: float
    after: dict[str, str]
    old: Spectra | None
    new: Spectra

    def assert_killing_shows_nothing_half_written(self, tmp_path: Path, count: int) -> None:
        for number, delay in enumerate(spread(count, self.duration)):
            data = tmp_path / str(number)
            self.begin(data)
            while not killed(data, self.tree, delay):
                # It was faster than the undisturbed one, on a machine that does other things as well.
                delay *= 0.8
                shutil.rmtree(data)
                self.begin(data)
            self.assert_old_or_new(data)
            self.assert_resumed(data)
            shutil.rmtree(data)

    def begin(self, data: Path) -> None:
        if self.before is None:
            data.mkdir()
        else:
            shutil.copytree(self.before, data, symlinks=True)

    def assert_old_or_new(self, data: Path) -> None:
        assert check(data).faults == ()
        if (data / CONTEXT / "MANIFEST.json").exists():
            now = served(data)
            assert_same(now, self.new if self.old is None or now.keys() != self.old.keys() else self.old)
        else:
            assert self.before is None

    def assert_resumed(self, data: Path) -> None:
        ingest(data, CONTEXT, [self.tree], workers=1)
        assert snapshot(data) == self.after


def scene(tree: Path, before: Path | None, room: Path) -> Scene:
    data = room / "undisturbed"
    if before is not None:
        shutil.copytree(before, data, symlinks=True)
    duration = undisturbed(data, tree)
    old = None if before is None else served(before)
    return Scene(tree, before, duration, snapshot(data), old, served(data))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The first ingest of a context."""
    room = tmp_path_factory.mktemp("first")
    return scene(simulate(room / "sas", SPECTRA)[CONTEXT], None, room)


@pytest.fixture(scope="module")
def second(first: Scene, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The same tree on top of an older state."""
    room = tmp_path_factory.mktemp("second")
    return scene(first.tree, older(first.tree, room), room)


def older(tree: Path, room: Path) -> Path:
    """A data directory with a sixth of the spectra, half of them in an older reduction."""
    (room / "older").mkdir()
    for number, path in enumerate(sorted(fits_files(tree))[::6]):
        with fits.open(path, memmap=False) as hdus:
            if number % 2:
                hdus[0].header["SPCOADD"] = "Sun Mar  2 16:31:14 2003"
                hdus[1].data["flux"] += 1
            hdus.writeto(room / "older" / path.name)
    ingest(room / "before", CONTEXT, [room / "older"], workers=1)
    return room / "before"


def test_the_scenes_use_worker_processes_and_replace_spectra(first: Scene, second: Scene) -> None:
    assert len(first.new) > 450
    assert second.old is not None
    assert len(second.old) < len(second.new) == len(first.new)
    replaced = [key for key, (_, words) in second.old.items() if not np.array_equal(words, second.new[key][1])]
    assert len(replaced) == len(second.old) // 2
    assert_same(second.new, first.new)


@pytest.mark.parametrize("count", MOMENTS)
def test_a_killed_first_ingest_shows_no_half_written_state_and_resumes_to_the_same_bytes(
    first: Scene, tmp_path: Path, count: int
) -> None:
    first.assert_killing_shows_nothing_half_written(tmp_path, count)


@pytest.mark.parametrize("count", MOMENTS)
def test_a_killed_second_ingest_leaves_the_old_state_live_and_resumes_to_the_same_bytes(
    second: Scene, tmp_path: Path, count: int
) -> None:
    second.assert_killing_shows_nothing_half_written(tmp_path, count)


def test_an_ingest_killed_again_and_again_ends_with_the_same_bytes(first: Scene, tmp_path: Path) -> None:
    data = tmp_path / "data"
    first.begin(data)
    for delay in spread(3, first.duration):
        killed(data, first.tree, delay)
        assert check(data).faults == ()
    first.assert_resumed(data)


def test_a_worker_that_is_ended_from_outside_is_an_error_that_says_how_to_go_on(first: Scene, tmp_path: Path) -> None:
    data = tmp_path / "data"
    process = run(data, first.tree)
    writing: list[Path] = []
    while process.poll() is None and not writing:
        writing = list((data / CONTEXT / "spectra").glob(".part-*.tmp"))
    worker = int(writing[0].name.split(".")[-2])
    assert worker != process.pid
    os.kill(worker, signal.SIGKILL)
    assert process.wait(60) == 2
    output = data.with_name("output").read_text()
    assert "workers: a process was ended from outside; the same command goes on from here" in output
    assert "Traceback" not in output
    assert not (data / CONTEXT / "MANIFEST.json").exists()
    first.assert_resumed(data)


AT_STEP = """
import os, signal, sys
data, tree, step = sys.argv[1], sys.argv[2], int(sys.argv[3])
from specflight.catalog import extract, table
from specflight.tools.ingest import ingest
from pathlib import Path
steps = 0
def watch(event, arguments):
    global steps
    if event in ("os.rename", "os.remove", "os.symlink", "os.rmdir", "os.mkdir") or (
        event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    ):
        if os.fspath(arguments[1 if event == "os.symlink" else 0]).startswith(data):
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
ingest(Path(data), "sdss_dr16", [Path(tree)], 1)
print(steps)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fresh", [True, False])
def test_an_ingest_killed_before_any_of_its_steps_shows_no_half_written_state(
    sim_tree: dict[str, Path], tmp_path: Path, fresh: bool
) -> None:
    tree = sim_tree[CONTEXT]
    small = scene(tree, None if fresh else older(tree, tmp_path), tmp_path)

    def step(data: Path, number: int) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-c", AT_STEP, str(data), str(tree), str(number)]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=120)

    small.begin(tmp_path / "all")
    steps = int(step(tmp_path / "all", 0).stdout)
    assert steps > 25  # how many chunks there are depends on the names of the folders
    for number in range(1, steps + 1):
        data = tmp_path / str(number)
        small.begin(data)
        assert step(data, number).returncode == -signal.SIGKILL
        small.assert_old_or_new(data)
        small.assert_resumed(data)
        shutil.rmtree(data)
