from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from specflight.client import Client
from specflight.errors import DamagedData, InvalidRequest
from specflight.tools import benchcatalog, benchhttp, postgres
from specflight.tools.bench import GROUPS, Figure, Report, bench, show
from specflight.tools.benchsides import Sides, found_rows
from specflight.tools.cli import app
from specflight.tools.ingest import ingest
from specflight.tools.simulate import simulate

FILES, SPECTRA = 12, 11  # one of them is in both releases
CATALOG_ROWS, PLACES = 6000, 2
ALIGNED, STACKED, CLIENTS = 30, 60, 3
POSTGRESQL = shutil.which("initdb") is not None or any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))

GET = [
    "raw Flight",
    "arrow",
    "numpy",
    "raw Flight, aligned",
    "numpy, aligned",
    "raw Flight, flux",
    "arrow, flux",
    "memcpy",
    "np.load, a file each",
    "fitsio, HDU 1",
    "astropy, HDU 1",
]
ROWS = {
    "getSpec of 1": GET,
    f"getSpec of {SPECTRA}": GET,
    "latency of one": ["raw action", "health action", "raw Flight", "arrow", "numpy"],
    "clients at once": ["raw Flight, 1 client", "1 client", "raw Flight, 8 clients", "8 clients"],
    "memory of a client": ["iterSpec", "arrow", "numpy"],
    "ingest": ["fitsio, HDU 1 and 2", "ingest"],
    "HTTP, one spectrum": ["/ping", "/getSpec of one"],
    "HTTP, pictures": ["/ping", "/preview, new", "/preview, kept", "/plotGrid of 5 x 5, new"],
    "HTTP, a large array": ["a file of Python's server", f"/getSpec of {ALIGNED}, aligned"],
    "HTTP, a large image": ["the same fluxes through Flight", "/stackedImage"],
    "HTTP, many clients": ["one after another", f"{CLIENTS} at once"],
}
QUESTIONS = ["ids", "columns", "condition", "count"]
IN_PLACE = [name for what in QUESTIONS for name in (what, f"PostgreSQL, {what}", f"PostgreSQL, plan kept, {what}")]
CATALOG = {
    "taking in": ["ingest --catalog", "PostgreSQL"],
    **{f"cone of {radius}°": IN_PLACE for radius in ("0.01", "0.1", "1", "10")},
    **{f"{shape} of {size}°": IN_PLACE for size in (1, 10) for shape in ("triangle", "dart")},
    f"IN list of {CATALOG_ROWS:,} ids": ["columns", "PostgreSQL, IN", "PostgreSQL, = ANY"],
    f"rows of {CATALOG_ROWS:,} ids": ["match, ids", "match, columns", "PostgreSQL, = ANY"],
    "100 highest redshifts": ["columns", "PostgreSQL"],
    "100 highest redshifts, z indexed": ["columns", "PostgreSQL"],
    f"{CATALOG_ROWS:,} positions at 1 arcsec": ["match", "PostgreSQL, q3c_join"],
    "guard": ["a clause"],
}
OURS = {
    group: [name for name in names if "PostgreSQL" not in name]
    for group, names in CATALOG.items()
    if "indexed" not in group
}


@pytest.fixture(scope="module", autouse=True)
def _few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchcatalog, "PLACES", PLACES)
        for name, number in {"ALIGNED": ALIGNED, "STACKED": STACKED, "CLIENTS": CLIENTS}.items():
            patch.setattr(benchhttp, name, number)
        yield


@pytest.fixture(scope="module")
def report() -> Report:
    return bench(FILES, repeat=1, catalog_rows=CATALOG_ROWS)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    trees = simulate(tmp_path / "fits", 4)
    ingest(tmp_path / "data", "sdss_dr16", [trees["sdss_dr16"]], workers=1)
    return tmp_path / "data"


def test_every_row_is_there(report: Report) -> None:
    rows: dict[str, list[str]] = {}
    for figure in report.figures:
        rows.setdefault(figure.group, []).append(figure.name)
    assert rows == ROWS | (CATALOG if POSTGRESQL else OURS)


def test_figures_are_finite_and_positive(report: Report) -> None:
    for figure in report.figures:
        numbers = [figure.spectra, figure.seconds]
        numbers += [number for number in (figure.p99, figure.ratio) if number is not None]
        numbers += [figure.bytes] if figure.group in ROWS and "action" not in figure.name else []
        assert all(math.isfinite(number) and number > 0 for number in numbers), figure


def test_a_ratio_is_that_of_the_rates(report: Report) -> None:
    by_name = {(figure.group, figure.name): figure for figure in report.figures}
    compared = [figure for figure in report.figures if figure.limit]
    assert len(compared) > len(report.figures) // 2
    for figure in compared:
        limit = by_name[figure.group, str(figure.limit)]
        assert figure.ratio == pytest.approx(figure.spectra / figure.seconds * limit.seconds / limit.spectra)


def test_what_is_compared_has_the_same_bytes(report: Report) -> None:
    for size in (1, SPECTRA):
        for way in ("raw Flight all", "raw Flight flux", "raw Flight aligned"):
            assert f"{way} of {size} and arrow" in report.equal
        for way in ("arrow flux", "arrow loglam", "arrow or_mask", "aligned", "np.load", "fitsio", "astropy"):
            assert f"{way} of {size} and numpy" in report.equal


def test_http_is_told_with_memory_and_pings(report: Report) -> None:
    notes = {figure.name: figure.note for figure in report.figures}
    assert re.search(r"60 x \d,\d+ pixels; an HTTP process took \d+ MB, \d+ MB more", notes["/stackedImage"])
    assert re.search(r"20 aligned spectra each; /ping meanwhile: median [\d.]+ ms, p99", notes[f"{CLIENTS} at once"])
    assert {"getSpec of HTTP and numpy", "aligned getSpec of HTTP and numpy"} <= set(report.equal)


def test_latency_of_one_is_no_less_at_the_99th_percentile(report: Report) -> None:
    latencies = [figure for figure in report.figures if figure.group == "latency of one"]
    assert all(figure.p99 is not None and figure.p99 >= figure.seconds for figure in latencies)


def test_table_is_readable_when_piped(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    show(report)
    table = capsys.readouterr().out
    assert "\x1b" not in table
    assert report.machine in table
    for names in (ROWS | OURS).values():
        assert all(f"│ {name} " in table for name in names)


def test_one_group_of_a_data_directory_into_json(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    options = ["--data", str(data), "--context", "sdss_dr16", "--only", "latency", "--repeat", "1"]
    done = CliRunner().invoke(app, ["bench", *options, "--json", str(target)])
    assert done.exit_code == 0, done.output
    figures = [Figure(**figure) for figure in json.loads(target.read_text())["figures"]]
    assert [figure.name for figure in figures] == ROWS["latency of one"]
    assert {figure.group for figure in figures} == {"latency of one"}


@pytest.mark.skipif(not POSTGRESQL, reason="PostgreSQL is not installed")
def test_the_catalogue_and_postgresql_find_the_same_rows(report: Report) -> None:
    found = {what.partition(": ")[0]: what.partition(": ")[2] for what in report.equal if "PostgreSQL" in what}
    for group in CATALOG:
        if "°" not in group:
            continue
        for what in QUESTIONS:
            compared = [f"{group}, {what}, place {n} and PostgreSQL, {what}" for n in range(1, PLACES + 1)]
            assert all(int(found[name].split()[0].replace(",", "")) > 0 for name in compared)
    assert found[f"IN list of {CATALOG_ROWS:,} ids, columns and PostgreSQL, IN"] == f"{CATALOG_ROWS:,} rows"
    assert f"{CATALOG_ROWS:,} positions at 1 arcsec, match and PostgreSQL, q3c_join" in found
    planning = [figure.note for figure in report.figures if figure.name == "PostgreSQL, count"]
    assert all("server: planning " in note for note in planning)


def test_without_postgresql_the_catalogue_is_measured_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path)
    said: list[str] = []
    report = bench(only="catalog", repeat=1, catalog_rows=CATALOG_ROWS, say=said.append)
    rows: dict[str, list[str]] = {}
    for figure in report.figures:
        rows.setdefault(figure.group, []).append(figure.name)
    assert rows == OURS
    assert any("PostgreSQL is not installed" in what for what in said)


def test_rows_that_differ_from_those_of_postgresql_end_the_run() -> None:
    with Client("grpc://127.0.0.1:1") as client:
        both = Sides(client, None, pa.table({}), pa.schema([]), (), 1, print, [])
        both.same(
            "a cone",
            found_rows(pa.table({"specobjid": pa.array([2, 1], pa.uint64())})),
            found_rows(np.array([1, 2], np.uint64)),
        )
        with pytest.raises(DamagedData, match="a cone: the service finds 2 rows and PostgreSQL 2, not the same"):
            both.same(
                "a cone",
                found_rows(pa.table({"specobjid": pa.array([2, 1], pa.uint64())})),
                found_rows(np.array([1, 3], np.uint64)),
            )
    assert both.equal == ["a cone: 2 rows"]


def test_results_that_differ_end_the_run(data: Path) -> None:
    for path in (data.parent / "fits").rglob("*.fits"):
        with fits.open(path, mode="update") as hdus:
            hdus[1].data["flux"][100] += 1.0
    with pytest.raises(DamagedData, match="fitsio of 1 and numpy differ"):
        bench(data=data, context="sdss_dr16", repeat=1, only="get")


def test_missing_originals_are_named(data: Path) -> None:
    for path in (data.parent / "fits").rglob("*.fits"):
        path.unlink()
    with pytest.raises(InvalidRequest, match=r"the original file .*spec-.*\.fits is gone"):
        bench(data=data, context="sdss_dr16", only="get")


def test_unknown_group_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidRequest, match=f"only: 'speed' is not one of {', '.join(GROUPS)}, catalog"):
        bench(FILES, only="speed")


def test_context_without_data_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="data and context go together"):
        bench(context="sdss_dr16")


def test_catalogue_of_another_data_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"data: the group 'catalog' brings its own"):
        bench(data=tmp_path, context="sdss_dr9", only="catalog")


def test_context_that_was_never_ingested_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="nothing was ingested into 'sdss_dr9'"):
        bench(data=tmp_path, context="sdss_dr9")
