"""The command line."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from specflight.errors import SpecflightError

__all__ = ["app"]

app = typer.Typer(
    help="Survey spectra at the speed of memory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

CORES = os.cpu_count() or 1

Data = Annotated[Path, typer.Option(help="The data directory.")]
Workers = Annotated[int, typer.Option(min=1, help="Number of processes.")]


@contextmanager
def _reported() -> Iterator[None]:
    """What went wrong on purpose is one line; it needs no traceback."""
    try:
        yield
    except SpecflightError as error:
        print(f"specflight: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except ModuleNotFoundError as error:
        print(f"specflight: this needs the package {error.name}: install specflight[all]", file=sys.stderr)
        raise typer.Exit(2) from None


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="FITS files or trees of them.")],
    data: Data,
    context: Annotated[str, typer.Option(help="Name of the context, such as sdss_dr17.")],
    workers: Workers = CORES,
) -> None:
    """Take FITS files into a context; the same command again resumes what was interrupted.

    Every file that is skipped is named with the reason; the exit status is 1 if there is any.
    """
    with _reported():
        from specflight.tools.ingest import ingest

        started = time.monotonic()
        try:
            with _progress() as show:
                report = ingest(data, context, paths, workers, show)
        except KeyboardInterrupt:
            print("specflight: interrupted; the same command again goes on from here", file=sys.stderr)
            raise typer.Exit(130) from None
        seconds = time.monotonic() - started
        for skip in report.skipped:
            print(f"skipped {skip.path}: {skip.reason}")
        taken = report.added + report.replaced
        print(
            f"ingested {taken:,} spectra into context '{context}' in {seconds:.1f} s "
            f"({taken / seconds:,.0f} spectra/s): "
            f"{report.added:,} new, {report.replaced:,} replaced; {report.unchanged:,} files unchanged, "
            f"{len(report.skipped):,} skipped; {report.spectra:,} spectra in all"
        )
        if report.skipped:
            raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    # No thread of its own: ingest forks its workers while there is but one.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("reading", total=None, rate="")
        started = time.monotonic()
        before: list[int] = []

        def show(done: int, total: int) -> None:
            before.append(done)
            rate = (done - before[0]) / max(time.monotonic() - started, 1e-3)
            bar.update(task, completed=done, total=total, rate=f"{rate:,.0f} files/s", refresh=True)

        yield show


@app.command()
def serve(
    data: Data,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    flight_port: Annotated[int, typer.Option(help="Port of the first Flight worker; 0: any free one.")] = 8815,
    http_port: Annotated[int, typer.Option(help="Port for HTTP; 0: any free one.")] = 6998,
    workers: Workers = 1,
) -> None:
    """Serve a data directory until SIGTERM or Ctrl-C.

    Prints one line starting with `ready`, with the URLs, when it accepts requests.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with _reported():
        from specflight.tools.serve import serve

        serve(data, host, flight_port, http_port, workers)


@app.command()
def demo(
    data: Annotated[Path, typer.Option(help="Folder to make it in.")] = Path("specflight-demo"),
    once: Annotated[bool, typer.Option("--once", help="End after the show, rather than serve on.")] = False,
    spectra: Annotated[int, typer.Option(min=20, help="FITS files to simulate.")] = 600,
) -> None:
    """Make a small realistic data set, serve it, and show a query, a bulk read and a plot."""
    with _reported():
        from specflight.tools.demo import demo

        demo(data, spectra, once)


@app.command()
def check(data: Data) -> None:
    """Verify every file of a data directory against its manifest, and the index against the files.

    Prints one line for each fault, naming the file; the exit status is 1 if there is any. A note is no fault: an
    original that has moved, or something that sets itself right.
    """
    with _reported():
        from specflight.tools.check import check

        started = time.monotonic()
        with _progress() as show:
            report = check(data, show)
        for note in report.notes:
            print(f"note {note}")
        for fault in report.faults:
            print(f"fault {fault}")
        faults = len(report.faults)
        outcome = f"{faults:,} fault{'s' if faults > 1 else ''}" if faults else "all is well"
        print(
            f"checked {report.contexts:,} contexts, {report.files:,} files, {report.bytes / 1e6:,.0f} MB, "
            f"{report.spectra:,} spectra in {time.monotonic() - started:.1f} s: {outcome}"
        )
        if report.faults:
            raise typer.Exit(1)


@app.command()
def bench(
    spectra: Annotated[int, typer.Option(min=1, help="FITS files to simulate, or spectra of --data to use.")] = 2500,
    data: Annotated[Path | None, typer.Option(help="Data directory to use, in place of simulated spectra.")] = None,
    context: Annotated[str | None, typer.Option(help="Context of --data.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds of the slow measurements; quick ones take more.")] = 5,
    only: Annotated[str | None, typer.Option(help="Group: get, latency, clients, memory or ingest.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File to write the figures to.")] = None,
) -> None:
    """Measure the service beside the raw limit of Flight and other ways to the same spectra."""
    with _reported():
        from specflight.tools.bench import bench, show

        say = Console(stderr=True, highlight=False).print
        report = bench(spectra, data, context, repeat, only, say)
        show(report)
        if json_file is not None:
            json_file.write_text(json.dumps(asdict(report), indent=1) + "\n")


if __name__ == "__main__":
    app()
