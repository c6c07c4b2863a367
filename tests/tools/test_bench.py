from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from astropy.io import fits
from typer.testing import CliRunner

from specflight.errors import DamagedData, InvalidRequest
from specflight.tools.bench import Report, bench, show
from specflight.tools.benchraces import GROUPS, Figure
from specflight.tools.cli import app
from specflight.tools.ingest import ingest
from specflight.tools.simulate import simulate

FILES, SPECTRA = 12, 11  # one of them is in both releases

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
}


@pytest.fixture(scope="module")
def report() -> Report:
    return bench(FILES, repeat=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    trees = simulate(tmp_path / "fits", 4)
    ingest(tmp_path / "data", "sdss_dr16", [trees["sdss_dr16"]], workers=1)
    return tmp_path / "data"


def test_every_row_is_there(report: Report) -> None:
    rows: dict[str, list[str]] = {}
    for figure in report.figures:
        rows.setdefault(figure.group, []).append(figure.name)
    assert rows == ROWS


def test_figures_are_finite_and_positive(report: Report) -> None:
    for figure in report.figures:
        numbers = [figure.spectra, figure.seconds]
        numbers += [number for number in (figure.p99, figure.ratio) if number is not None]
        numbers += [] if "action" in figure.name else [figure.bytes]
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


def test_latency_of_one_is_no_less_at_the_99th_percentile(report: Report) -> None:
    latencies = [figure for figure in report.figures if figure.group == "latency of one"]
    assert all(figure.p99 is not None and figure.p99 >= figure.seconds for figure in latencies)


def test_table_is_readable_when_piped(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    show(report)
    table = capsys.readouterr().out
    assert "\x1b" not in table
    assert report.machine in table
    for names in ROWS.values():
        assert all(f"│ {name} " in table for name in names)


def test_one_group_of_a_data_directory_into_json(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    options = ["--data", str(data), "--context", "sdss_dr16", "--only", "latency", "--repeat", "1"]
    done = CliRunner().invoke(app, ["bench", *options, "--json", str(target)])
    assert done.exit_code == 0, done.output
    figures = [Figure(**figure) for figure in json.loads(target.read_text())["figures"]]
    assert [figure.name for figure in figures] == ROWS["latency of one"]
    assert {figure.group for figure in figures} == {"latency of one"}


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
    with pytest.raises(InvalidRequest, match=f"only: 'speed' is not one of {', '.join(GROUPS)}"):
        bench(FILES, only="speed")


def test_context_without_data_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="data and context go together"):
        bench(context="sdss_dr16")


def test_context_that_was_never_ingested_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="nothing was ingested into 'sdss_dr9'"):
        bench(data=tmp_path, context="sdss_dr9")
