"""The main job in a minute: make data, ingest, serve, query, read in bulk, and draw a plot."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specflight.client import Client
from specflight.errors import InvalidRequest
from specflight.flight.lines import LINES
from specflight.tools.ingest import ingest
from specflight.tools.serve import start, stop_event
from specflight.tools.simulate import simulate

__all__ = ["demo", "draw_spectra"]

SETTINGS = """\
[contexts.sdss_dr12]
description = "Simulated SDSS DR12 spectra, ingested"
release = "DR12"
archive = "archive/dr12"

[contexts.sdss_dr12_fits]
description = "The same DR12 files, served from their FITS tree"
release = "DR12"
archive = "archive/dr12"

[contexts.sdss_dr16]
description = "Simulated SDSS DR16 spectra, ingested"
release = "DR16"
archive = "archive/dr16"
"""

# A line for each class and a few that a reader knows at sight; the rest would only crowd the plot.
SHOWN = {
    "GALAXY": ("[O II] 3727", "Ca II K", "Ca II H", "G band", "Hβ", "[O III] 5007", "Mg b", "Na D", "Hα"),
    "QSO": ("Lyα", "C IV 1549", "C III] 1908", "Mg II 2799", "Hγ", "Hβ", "[O III] 5007", "Hα"),
    "STAR": ("Ca II K", "Ca II H", "Hδ", "Hγ", "Hβ", "Mg b", "Na D", "Hα", "Ca II 8542"),
}


def prepare(data: Path, spectra: int) -> None:
    """Make the demo's data directory, unless it is there already.

    Raises
    ------
    InvalidRequest
        If the folder holds something else.
    """
    settings = data / "specflight.toml"
    done = data / "archive" / ".complete"
    ours = settings.exists() and settings.read_text() == SETTINGS
    if data.exists() and not ours and (not data.is_dir() or any(data.iterdir())):
        raise InvalidRequest(f"data: {data} is not a folder of the demo; name another one")
    if done.exists() and done.read_text() == str(spectra):
        return
    if data.exists():
        shutil.rmtree(data)
    data.mkdir(parents=True)
    settings.write_text(SETTINGS)
    simulate(data / "archive", spectra)
    done.write_text(str(spectra))


def demo(data: Path, spectra: int, once: bool) -> None:
    """Show the main job on simulated data, with the rates measured on the way.

    Parameters
    ----------
    data : Path
        Folder to make it in; used again if it is one of the demo's.
    spectra : int
        FITS files to simulate.
    once : bool
        End after the show, rather than serve on.

    Raises
    ------
    InvalidRequest
        If the folder holds something else.
    """
    data = data.absolute()
    seconds, _ = _timed(lambda: prepare(data, spectra))
    print(f"1. {spectra:,} SDSS FITS files simulated under {data / 'archive'} ({seconds:.1f} s)")
    for context, tree in (("sdss_dr12", "dr12"), ("sdss_dr16", "dr16")):
        seconds, report = _timed(partial(ingest, data, context, [data / "archive" / tree], 2))
        print(
            f"2. context {context}: {report.added:,} spectra ingested, {report.unchanged:,} files were there already "
            f"({(report.added + report.unchanged) / seconds:,.0f} spectra/s)"
        )
    stop = stop_event()
    ports = (0, 0) if once else (8815, 6998)
    with start(data, "127.0.0.1", *ports, workers=1) as running, Client(running.flight[0]) as client:
        print(f"3. serving {running.flight[0]} (Arrow Flight) and {running.http}")
        picture = _show(client, data)
        print(f"6. plot: {picture}")
        if not once:
            print("ready", *running.flight, running.http, "- Ctrl-C ends it", flush=True)
            stop.wait()


def _show(client: Client, data: Path) -> Path:
    seconds, near = _timed(lambda: client.query(30.5, 0.0, 1.0))
    print(f"4. query(30.5, 0.0, 1.0): {len(near)} spectra within 1 degree ({1e3 * seconds:.1f} ms)")
    condition = "class = 'GALAXY' and z between 0.1 and 0.3 and zwarning = 0"
    seconds, galaxies = _timed(lambda: client.query(constraint=condition))
    print(f"   query(constraint={condition!r}): {len(galaxies)} spectra ({1e3 * seconds:.1f} ms)")
    ids = client.query(primary=False)
    many = np.random.default_rng(1).choice(ids, 2000)
    asked: dict[str, dict[str, Any]] = {
        "fmt='arrow'": {"fmt": "arrow"},
        "fmt='numpy'": {"fmt": "numpy"},
        "fmt='numpy', align=True": {"align": True},
        "fmt='arrow', columns='flux'": {"fmt": "arrow", "columns": "flux"},
    }
    client.getSpec(many[:100])
    print("5. getSpec of 2,000 spectra in random order:")
    for call, arguments in asked.items():
        seconds, answer = _timed(partial(client.getSpec, many, **arguments))
        size = answer.nbytes if hasattr(answer, "nbytes") else sum(one.nbytes for one in answer)
        print(f"   {call:<29} {2000 / seconds:>7,.0f} spectra/s {size / seconds / 1e6:>7,.0f} MB/s")
    seconds, _ = _timed(lambda: client.getSpec(int(many[0])))
    print(f"   one spectrum: {1e3 * seconds:.1f} ms")
    clear = "zwarning = 0 and sn_median_all > 8 order by specobjid"
    table = client.query(constraint=clear, fields="z,class,subclass")
    chosen = _examples(table.to_pylist())
    picture = data / "demo.png"
    draw_spectra(chosen, client.getSpec([row["specobjid"] for row in chosen]), picture)
    return picture


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def _examples(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two spectra of each class: a nearby and a distant one, or a hot and a cool one."""
    chosen = []
    for kind in SHOWN:
        members = [row for row in rows if row["class"] == kind]
        members.sort(key=lambda row: row["subclass"] or "" if kind == "STAR" else row["z"])
        picks = {len(members) // 4, 3 * len(members) // 4} if members else set()
        chosen += [members[pick] for pick in sorted(picks)]
    return chosen


def draw_spectra(rows: Sequence[dict[str, Any]], spectra: Sequence[Any], path: Path) -> None:
    """Draw spectra one above the other, with model and lines, as PNG.

    Parameters
    ----------
    rows : sequence of dict
        specobjid, class, subclass and z of each.
    spectra : sequence of ndarray
        Structured arrays of shape (npix,) with flux, loglam, ivar and model.
    path : Path
        The picture.
    """
    figure = Figure(figsize=(11, 2.1 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axis, row, spectrum in zip(axes, rows, spectra, strict=True):
        _draw(axis, row, spectrum)
    axes[-1].set_xlabel("vacuum wavelength [Å]")
    figure.supylabel(r"$f_\lambda$ [$10^{-17}$ erg s$^{-1}$ cm$^{-2}$ Å$^{-1}$]")
    figure.savefig(path, dpi=110)


def _draw(axis: Axes, row: dict[str, Any], spectrum: Any) -> None:  # noqa: ANN401 - a structured array
    good = spectrum["ivar"] > 0
    wavelength = 10.0 ** spectrum["loglam"].astype(float)
    flux = np.where(good, spectrum["flux"], np.nan)
    axis.plot(wavelength, flux, color="0.45", lw=0.5, label="flux")
    axis.plot(wavelength, spectrum["model"], color="C3", lw=0.9, label="model")
    low, high = np.nanpercentile(flux, [0.5, 99.7])
    top = max(high, float(np.percentile(spectrum["model"], 99.9)))
    axis.set_ylim(min(0.0, low), top * 1.3)
    axis.set_xlim(3600, 10400)
    for line in LINES:
        where = line.wavelength * (1 + row["z"])
        if line.name in SHOWN[row["class"]] and wavelength[0] < where < wavelength[-1]:
            axis.axvline(where, color="C0", lw=0.7, ls=":", ymax=0.84)
            side = {"Ca II K": "right", "Ca II H": "left"}.get(line.name, "center")
            box: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}
            label: dict[str, Any] = {"rotation": 90, "fontsize": 6, "ha": side, "va": "top", "color": "C0", "bbox": box}
            axis.text(where, top * 1.27, line.name, **label)
    title = f"specobjid {row['specobjid']}   {row['class']} {row['subclass'] or ''}   z = {row['z']:.4f}"
    axis.set_title(title, fontsize=8, loc="left", pad=3)
    axis.tick_params(labelsize=7)
