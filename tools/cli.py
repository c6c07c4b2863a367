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

from specflight.errors import InvalidRequest, SpecflightError

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
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="FITS files or trees of them; with --catalog one table: FITS, CSV, Parquet, VOTable or ECSV.",
        ),
    ],
    data: Data,
    context: Annotated[str, typer.Option(help="Name of the context, such as sdss_dr17.")],
    workers: Workers = CORES,
    catalog: Annotated[
        str | None, typer.Option(metavar="SCHEMA.TABLE", help="Take a catalogue into this table, not spectra.")
    ] = None,
    ra: Annotated[str | None, typer.Option(help="The catalogue's column of right ascension, in degrees.")] = None,
    dec: Annotated[str | None, typer.Option(help="The catalogue's column of declination, in degrees.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="The catalogue's column of identifiers.")] = None,
    description: Annotated[str | None, typer.Option(help="What the catalogue is.")] = None,
) -> None:
    """Take FITS files, or a catalogue, into a context; the same command again resumes what was interrupted.

    Every file of spectra that is skipped is named with the reason; the exit status is 1 if there is any. The columns
    of a catalogue's positions and identifiers are found by their names, or named.
    """
    with _reported():
        given = {"ra": ra, "dec": dec, "id": id_column, "description": description}
        if catalog is None:
            for name in (name for name, value in given.items() if value is not None):
                raise InvalidRequest(f"{name}: --{name} goes with --catalog only")
            _ingest_spectra(data, context, paths, workers)
        elif len(paths) > 1:
            raise InvalidRequest(f"PATH: --catalog takes one file, and {paths[1]} is another")
        else:
            _ingest_catalog(data, context, catalog, paths[0], ra, dec, id_column, description or "")


def _ingest_spectra(data: Path, context: str, paths: list[Path], workers: int) -> None:
    from specflight.tools.ingest import ingest

    started = time.monotonic()
    with _interruptible("goes on from here"), _progress("files") as show:
        report = ingest(data, context, paths, workers, show)
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


def _ingest_catalog(
    data: Path,
    context: str,
    catalog: str,
    file: Path,
    ra: str | None,
    dec: str | None,
    id_column: str | None,
    description: str,
) -> None:
    from specflight.tools.ingestcatalog import ingest_catalog

    started = time.monotonic()
    with _interruptible("starts anew"), _progress("rows") as show:
        report = ingest_catalog(
            data, context, catalog, file, ra=ra, dec=dec, id_column=id_column, description=description, progress=show
        )
    print(
        f"ingested {_of(report.rows, 'row')} of {_of(report.columns, 'column')} into {catalog.lower()} "
        f"of context '{context}' in {time.monotonic() - started:.1f} s"
    )
    if report.ra is None:
        print("no positions: it cannot be searched by place; name their columns by --ra and --dec if it has any")
    else:
        print(f"{_having(report.positions)} a position: {report.ra}, {report.dec}")
    if report.unmatched:
        names = ", ".join(report.unmatched)
        print(
            f"no identifiers: they could not be looked up by {names}, because the context '{context}' has no spectra; "
            "ingest the table again after them"
        )
    elif report.id_column is None:
        print("no identifiers: its rows belong to no spectra; name their column by --id if it has any")
    else:
        print(f"{_having(report.ids)} an identifier: {report.id_column}{report.origin and f', {report.origin}'}")
    if report.primary is not None:
        verb = "is" if report.primary == 1 else "are"
        print(f"{_of(report.primary, 'row')} {verb} its primary view: {context}.specobj")


def _of(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _having(rows: int) -> str:
    return f"{_of(rows, 'row')} {'has' if rows == 1 else 'have'}"


@contextmanager
def _interruptible(again: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print(f"specflight: interrupted; the same command again {again}", file=sys.stderr)
        raise typer.Exit(130) from None


@contextmanager
def _progress(unit: str) -> Iterator[Callable[[int, int], None]]:
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
            bar.update(task, completed=done, total=total, rate=f"{rate:,.0f} {unit}/s", refresh=True)

        yield show


@app.command()
def serve(
    data: Data,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    flight_port: Annotated[int, typer.Option(help="Port of the first Flight worker; 0: any free one.")] = 8815,
    http_port: Annotated[int, typer.Option(help="Port for HTTP; 0: any free one.")] = 6998,
    workers: Annotated[int, typer.Option(min=1, help="Number of Flight workers.")] = 1,
) -> None:
    """Serve a data directory until SIGTERM or Ctrl-C.

    Prints one line starting with `ready`, with the URLs, when it accepts requests.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with _reported():
        from specflight.tools.serve import serve

        serve(data, host, flight_port, http_port, workers)


@app.command()
def token(
    user: Annotated[str, typer.Argument(metavar="USER", help="Name of the user: lower-case letters, digits, _ and -.")],
    data: Data,
    admin: Annotated[bool, typer.Option("--admin", help="The user may end the service, and log its requests.")] = False,
    days: Annotated[float, typer.Option(help="Time until the token expires, in days; may be a fraction.")] = 365.0,
) -> None:
    """Print a token that says who a user is.

    A service of the same data directory takes it as `X-DL-AuthToken` or `Authorization: Bearer`, on HTTP and Flight.
    """
    with _reported():
        from specflight.flight.tokens import TokenKey

        if not data.is_dir():
            raise InvalidRequest(f"data: there is no folder {data}")
        print(TokenKey(data).issue(user, admin, days))


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
        with _progress("files") as show:
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
def conformance(
    url: Annotated[str, typer.Argument(metavar="URL", help="The service.")] = "http://127.0.0.1:6998/spec",
    environment: Annotated[
        Path | None,
        typer.Option(help="Folder of the old client's Python environment; in a cache when not given."),
    ] = None,
    token: Annotated[str | None, typer.Option(help="Token of a user, for the calls of the virtual storage.")] = None,
    speed: Annotated[bool, typer.Option("--speed", help="Time the old client's calls instead, side by side.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="File to write the outcomes to.")] = None,
) -> None:
    """Make every known call of the old client, dl.specClient of astro-datalab 2.24.0, against a running service.

    Prints a table of what became of each; the exit status is 1 if one differs from what it should be.
    """
    with _reported():
        from specflight.tools.conformance import conformance
        from specflight.tools.legacyspeed import show_speed
        from specflight.tools.legacyspeed import speed as race

        say = Console(stderr=True, highlight=False).print
        if speed:
            print(show_speed(race(url, environment=environment, say=say)))
            return
        report = conformance(url, environment=environment, token=token, say=say)
        print(report.markdown())
        if json_file is not None:
            json_file.write_text(report.as_json())
        if report.differing:
            raise typer.Exit(1)


@app.command()
def bench(
    spectra: Annotated[int, typer.Option(min=1, help="FITS files to simulate, or spectra of --data to use.")] = 2500,
    data: Annotated[Path | None, typer.Option(help="Data directory to use, in place of simulated spectra.")] = None,
    context: Annotated[str | None, typer.Option(help="Context of --data.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds of the slow measurements; quick ones take more.")] = 5,
    only: Annotated[
        str | None, typer.Option(help="Group: get, latency, clients, memory, ingest, http or catalog.")
    ] = None,
    catalog_rows: Annotated[int, typer.Option(min=1000, help="Rows of the simulated catalogue.")] = 5_000_000,
    json_file: Annotated[Path | None, typer.Option("--json", help="File to write the figures to.")] = None,
) -> None:
    """Measure the service beside the raw limit of Flight and other ways to the same spectra."""
    with _reported():
        from specflight.tools.bench import bench, show

        say = Console(stderr=True, highlight=False).print
        report = bench(spectra, data, context, repeat, only, say, catalog_rows)
        show(report)
        if json_file is not None:
            json_file.write_text(json.dumps(asdict(report), indent=1) + "\n")


if __name__ == "__main__":
    app()
