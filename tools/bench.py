"""The benchmarks: the service, the limit that bare Flight sets, and other ways to the same spectra, side by side."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

import specflight
from specflight.client import Client
from specflight.errors import InvalidRequest
from specflight.flight.datadir import ContextDirectory
from specflight.flight.store import read_index
from specflight.tools.benchcatalog import bench_catalogue
from specflight.tools.benchhttp import bench_http
from specflight.tools.benchraces import GROUPS as RACES
from specflight.tools.ingest import ingest
from specflight.tools.race import Figure, Setting
from specflight.tools.rawflight import RawClient, raw_server
from specflight.tools.serve import start
from specflight.tools.simulate import simulate

__all__ = ["GROUPS", "Figure", "Report", "bench", "show"]

GROUPS = RACES | {"http": bench_http}
"""What can be measured, by the name that ``--only`` takes."""

CATALOG = "catalog"
"""The group of `specflight.tools.benchcatalog`, which brings its own data."""

WIDTH = 170
"""Columns of a table that does not go to a terminal."""


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of a run.

    Attributes
    ----------
    machine : str
        Versions, number of processors and their load before the run.
    figures : tuple of Figure
    equal : tuple of str
        Comparisons that found the same bytes or rows; one that does not ends the run.
    """

    machine: str
    figures: tuple[Figure, ...]
    equal: tuple[str, ...]


def bench(
    spectra: int = 2500,
    data: Path | None = None,
    context: str | None = None,
    repeat: int = 5,
    only: str | None = None,
    say: Callable[[str], None] = lambda what: None,
    catalog_rows: int = 5_000_000,
) -> Report:
    """Run the benchmarks.

    Parameters
    ----------
    spectra : int
        Files to simulate, some of which are the same spectrum in two releases; or spectra of `data` to use at most.
    data : Path or None
        Data directory to use in place of simulated spectra; the original files have to be there.
    context : str or None
        Context of `data`.
    repeat : int
        Rounds of the slow measurements; quick ones take more.
    only : str or None
        The one group to run: of `GROUPS`, or ``catalog``.
    say : callable
        Is told what goes on.
    catalog_rows : int
        Rows of the catalogue that the group ``catalog`` simulates; it is left out where `data` is given.

    Returns
    -------
    Report

    Raises
    ------
    InvalidRequest
        If there is no such group or context, or it has no spectra or no original files.
    DamagedData
        If two ways to the same spectra do not give the same bytes, or PostgreSQL finds other rows.
    """
    if only is not None and only not in (*GROUPS, CATALOG):
        raise InvalidRequest(f"only: '{only}' is not one of {', '.join((*GROUPS, CATALOG))}")
    if (data is None) != (context is None):
        raise InvalidRequest(f"context: data and context go together, got {data} and {context}")
    if data is not None and only == CATALOG:
        raise InvalidRequest(f"data: the group '{CATALOG}' brings its own, {data} cannot be used")
    load = os.getloadavg()[0]
    machine = (
        f"specflight {specflight.__version__}, Python {platform.python_version()}, pyarrow {pa.__version__}, "
        f"numpy {np.__version__}, {os.cpu_count()} cores, load {load:.1f}"
    )
    groups = [only] if only else [*GROUPS, *([] if data else [CATALOG])]
    figures: list[Figure] = []
    equal: list[str] = []
    with TemporaryDirectory(prefix="specflight-bench-") as folder:
        scratch = Path(folder)
        if groups != [CATALOG]:
            if data is None or context is None:
                data, context = _simulated(scratch, spectra, say)
            with _setting(data, context, spectra, repeat, scratch, say) as setting:
                figures += [figure for group in groups if group != CATALOG for figure in GROUPS[group](setting)]
                equal += setting.equal
        if CATALOG in groups:
            found, same = bench_catalogue(catalog_rows, scratch, repeat, say)
            figures, equal = figures + found, equal + same
    return Report(machine, tuple(figures), tuple(equal))


def _simulated(scratch: Path, spectra: int, say: Callable[[str], None]) -> tuple[Path, str]:
    say(f"simulating {spectra:,} spectra")
    roots = simulate(scratch / "fits", spectra)
    say("ingesting them")
    ingest(scratch / "data", "bench", list(roots.values()), os.cpu_count() or 1)
    return scratch / "data", "bench"


@contextmanager
def _setting(
    data: Path, context: str, spectra: int, repeat: int, scratch: Path, say: Callable[[str], None]
) -> Iterator[Setting]:
    directory = ContextDirectory(data, context)
    manifest = directory.manifest()
    if manifest is None:
        raise InvalidRequest(f"context: nothing was ingested into '{context}' of {data}")
    if manifest.index is None:
        raise InvalidRequest(f"context: there are catalogues in '{context}' of {data}, but no spectra")
    index = read_index(directory.spectra / manifest.index.name)
    chosen = np.random.default_rng(1).permutation(len(index))[:spectra]
    if not len(chosen):
        raise InvalidRequest(f"spectra: there are none to measure in '{context}' with at most {spectra}")
    files = [Path(name) for name in index["file"].take(chosen).to_pylist()]
    if gone := next((file for file in files if not file.exists()), None):
        raise InvalidRequest(f"data: the original file {gone} is gone, so that FITS readers cannot be compared")
    ids = index["specobjid"].to_numpy()[chosen]
    say("starting servers")
    with raw_server() as raw_url, start(data, "127.0.0.1", 0, 0, workers=1) as running:
        url = running.flight[0]
        with closing(RawClient(raw_url)) as raw, Client(url, context) as client:
            yield Setting(client, running, raw, raw_url, ids, files, scratch, repeat, say, [])


def show(report: Report) -> None:
    """Print a report as a table."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    table = Table(title=report.machine, title_justify="left", caption_justify="left")
    table.caption = (
        f"{len(report.equal)} comparisons of results found the same; × compares spectra, or rows, per second"
    )
    for name in ("", "median", "p99", "number", "per second", "MB/s"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    table.add_column("compared")
    table.add_column("note")
    group = ""
    for figure in report.figures:
        if figure.group != group:
            group = figure.group
            table.add_section()
            table.add_row(f"[bold]{group}[/bold]")
        table.add_row(
            figure.name,
            _duration(figure.seconds),
            _duration(figure.p99) if figure.p99 else "",
            f"{figure.spectra:,}",
            f"{figure.spectra / figure.seconds:,.0f}",
            f"{figure.bytes / figure.seconds / 1e6:,.0f}" if figure.bytes else "",
            f"{figure.ratio:.2f} × {figure.limit}" if figure.ratio else "",
            figure.note,
        )
    console.print(table)


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.{1 if seconds >= 0.1 else 2}f} ms"
