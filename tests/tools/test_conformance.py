"""The old client against a real service; ``pytest -m legacy`` runs what needs the client itself.

``SPECFLIGHT_LEGACY_ENVIRONMENT`` names a virtual environment that has it; without it, one is made in pytest's cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from specflight.client import Client
from specflight.errors import InvalidRequest, ServiceUnavailable
from specflight.flight.tokens import TokenKey
from specflight.tools.conformance import CALLS, DIFFERS, LEFT_OUT, MENDED, Report, conformance, make_calls
from specflight.tools.ingest import ingest
from specflight.tools.legacycall import LegacyCall, own, refused
from specflight.tools.legacycalls import describe
from specflight.tools.legacychecks import equals, found, raises, spectra
from specflight.tools.legacyenv import ClientUnavailable, legacy_python
from specflight.tools.legacyflow import FLOW, STORAGE
from specflight.tools.legacyimages import grid, stack
from specflight.tools.legacyrun import run_calls
from specflight.tools.legacysample import Sample, find_sample
from specflight.tools.legacyspeed import show_speed, speed
from specflight.tools.legacytruth import Check, Result, Truth
from specflight.tools.serve import Running, start

legacy = [pytest.mark.legacy, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def environment(request: pytest.FixtureRequest) -> Path:
    """A virtual environment with the old client."""
    assert request.config.cache is not None
    given = os.environ.get("SPECFLIGHT_LEGACY_ENVIRONMENT")
    folder = Path(given) if given else request.config.cache.mkdir("legacy") / "venv"
    try:
        legacy_python(folder, print)
    except ClientUnavailable as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="module")
def service(
    sim_data: Path, sim_tree: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Running, str]]:
    """A service of the simulated contexts, one named sdss and one whose original files are gone; a user's token."""
    data = tmp_path_factory.mktemp("legacy") / "data"
    shutil.copytree(sim_data, data, symlinks=True)
    lost = tmp_path_factory.mktemp("lost") / "tree"
    shutil.copytree(sim_tree["sdss_dr12"], lost)
    ingest(data, "sdss", [sim_tree["sdss_dr16"]], workers=1)
    ingest(data, "sdss_dr8", [lost], workers=1)
    shutil.rmtree(lost)
    with start(data, "127.0.0.1", 0, 0, workers=1) as running:
        yield running, TokenKey(data).issue("alice", False, 1.0)


@pytest.fixture(scope="module")
def real_service(real_trees: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service of the real files, all of whose contexts have catalogues."""
    data = tmp_path_factory.mktemp("legacy-real") / "data"
    for context, tree in real_trees.items():
        ingest(data, context, [tree], workers=1)
    with start(data, "127.0.0.1", 0, 0, workers=1) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: tuple[Running, str]) -> Iterator[Client]:
    """Client of the service's Flight server."""
    with Client(service[0].flight[0]) as client:
        yield client


@pytest.fixture(scope="module")
def sample(client: Client) -> Sample:
    """What is asked of the service."""
    return find_sample(client)


@pytest.fixture(scope="module")
def report(service: tuple[Running, str], environment: Path) -> Report:
    """All calls, made against the simulated data."""
    running, token = service
    return conformance(f"{running.http}/spec", environment=environment, token=token)


def complaints(report: Report) -> list[str]:
    return [f"{one.call}: {one.result}: {one.note}" for one in report.differing]


def test_every_call_of_the_table_has_its_row(real_data: Path) -> None:
    table = real_data.parent / "spec" / "legacy-client-calls.md"
    if not table.is_file():
        pytest.skip(f"no table of the calls at {table}")
    rows = []
    for line in table.read_text().splitlines():
        if line.startswith("| `"):
            name, was = line.removeprefix("| `").split("` | ", 1)
            rows.append((name, "FAIL" if was.startswith("**FAIL") else "!" if was.startswith("!") else "ok"))
    assert [(call.name, call.old) for call in CALLS] == rows


def test_there_are_177_calls_and_no_name_is_used_twice() -> None:
    assert len(CALLS) == len({call.name for call in CALLS}) == 177
    assert len(FLOW + STORAGE) == len({call.name for call in FLOW + STORAGE})


def test_who_is_to_blame_for_what_did_not_work_is_said() -> None:
    for call in CALLS:
        assert bool(call.why) == (call.whose != "service"), call.name
        assert call.whose == "service" or call.old != "ok", call.name


def test_a_service_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9/spec is not a specflight service"):
        conformance("http://127.0.0.1:9/spec")


def test_a_folder_of_something_else_is_not_made_an_environment(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InvalidRequest, match=r"environment: .* is a folder of something else"):
        legacy_python(tmp_path, print)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


# The checks themselves, on what a client would return that gets the data right, or nearly.


def judged(value: Any, check: Check, truth: Truth, tmp_path: Path) -> str | None:  # noqa: ANN401
    return check(Result(json.loads(json.dumps(describe(value, str(tmp_path / "x")))), tmp_path), truth)


@pytest.fixture
def truth(client: Client, sample: Sample) -> Truth:
    return Truth(client, sample, {})


def test_spectra_have_to_agree_in_every_bit(truth: Truth, tmp_path: Path) -> None:
    right = truth.spectra("ten")
    check = spectra("ten")
    assert judged(right, check, truth, tmp_path) is None
    for name in right.dtype.names or ():
        wrong = right.copy()
        wrong[name].view(np.int32)[7, -1] ^= 1
        assert judged(wrong, check, truth, tmp_path) == f"differs from Flight in {name}"
    assert "differs" in str(judged(right[::-1], check, truth, tmp_path))
    assert judged(right[::-1], spectra("ten", any_order=True), truth, tmp_path) is None
    assert "has shape" in str(judged(right[:9], check, truth, tmp_path))
    assert "has dtype" in str(
        judged(right[["flux", "loglam"]].astype([("flux", "<f4"), ("loglam", "<f4")]), check, truth, tmp_path)
    )
    assert judged(list(right), check, truth, tmp_path) == "is not ndarray"


def test_ids_have_to_be_those_of_the_query(truth: Truth, tmp_path: Path) -> None:
    query = {"ra": truth.sample.ra, "dec": truth.sample.dec, "size": truth.sample.size}
    right = np.array(truth.sample.cone)
    check = found(lambda s: query)
    assert judged(right, check, truth, tmp_path) is None
    assert judged(right.astype(float), check, truth, tmp_path) is not None
    assert judged(right[1:], check, truth, tmp_path) is not None
    assert judged(right[::-1], found(lambda s: query, order=True), truth, tmp_path) is not None


def test_a_stack_has_to_begin_at_the_bottom(truth: Truth, tmp_path: Path) -> None:
    flux = truth.spectra("ten", "flux")["flux"]
    low, high = np.percentile(flux, (1, 99))
    levels = (255 * np.clip((flux - low) / (high - low), 0, 1)).astype(np.uint8)

    def png(rows: Any) -> Image.Image:  # noqa: ANN401
        Image.fromarray(rows).save(tmp_path / "stack.png")
        return Image.open(tmp_path / "stack.png")

    assert judged(png(levels[::-1]), stack("ten"), truth, tmp_path) is None
    assert "bottom" in str(judged(png(levels), stack("ten"), truth, tmp_path))
    assert "bottom" in str(judged(png(255 - levels[::-1]), stack("ten"), truth, tmp_path))
    assert judged(png(255 - levels[::-1]), stack("ten", inverse=True), truth, tmp_path) is None
    assert "size" in str(judged(png(levels[:, 1:]), stack("ten"), truth, tmp_path))


def test_a_grid_may_have_no_empty_cell(truth: Truth, tmp_path: Path) -> None:
    cell = np.random.default_rng(1).integers(0, 255, (100, 400, 3), dtype=np.uint8)
    image = np.tile(cell, (2, 2, 1))

    def png(pixels: Any) -> Image.Image:  # noqa: ANN401
        Image.fromarray(pixels).save(tmp_path / "grid.png")
        return Image.open(tmp_path / "grid.png")

    assert judged(png(image), grid(4, 2), truth, tmp_path) is None
    image[100:, 400:] = 255
    assert judged(png(image), grid(3, 2), truth, tmp_path) is None
    assert judged(png(image), grid(4, 2), truth, tmp_path) == "has nothing in cell 3"


def test_the_sample_is_what_it_says(client: Client, sample: Sample) -> None:
    everything = {int(i) for i in client.query(primary=False)}
    for name, value in sample.values().items():
        if isinstance(value, list) and value and isinstance(value[0], int):
            assert set(value) <= everything, name
    assert sample.absent_id not in everything
    assert max(sample.ten) < 2**63 <= min(sample.big or [])
    assert len(sample.cone) > 2
    spectra = client.getSpec(sample.three)
    assert len({len(spectrum) for spectrum in spectra}) == 1
    assert sample.nofits is not None
    assert sample.nofits[1] == "sdss_dr8"
    assert sample.elsewhere is not None
    assert client.getSpec([sample.elsewhere[0]], context=sample.elsewhere[1], missing="skip") == []


class TestClient:
    pytestmark = legacy

    def test_every_call_does_what_it_should_on_simulated_data(self, report: Report) -> None:
        assert not report.differing, complaints(report)
        assert [one.call for one in report.outcomes if one.verdict == LEFT_OUT] == []
        spoiled = [call.name for call in CALLS if call.old != "ok" and call.whose == "service"]
        assert [one.call for one in report.calls if one.verdict == MENDED] == spoiled
        assert {one.verdict for one in report.flow} == {"ok"}

    def test_the_report_shows_every_call(self, report: Report) -> None:
        lines = report.markdown().splitlines()
        assert sum(line.startswith("| `") for line in lines) == len(report.outcomes)
        assert lines[-1] == report.summary
        assert "177 calls of the table" in report.summary
        assert len(json.loads(report.as_json())["calls"]) == 177

    def test_every_call_does_what_it_should_on_real_data(self, real_service: Running, environment: Path) -> None:
        report = conformance(f"{real_service.http}/spec", environment=environment)
        assert not report.differing, complaints(report)
        left_out = {one.call.split(" align")[0] for one in report.calls if one.verdict == LEFT_OUT}
        assert left_out == {
            "getSpec([('1962,1963','*',100)])",
            "getSpec(int without FITS, fmt='FITS')",
        }
        assert {one.verdict for one in report.storage} == {LEFT_OUT}  # no token was given

    def test_calls_that_come_back_otherwise_are_named(
        self, service: tuple[Running, str], environment: Path, client: Client, sample: Sample
    ) -> None:
        calls: tuple[LegacyCall, ...] = (
            replace(CALLS[0], name="wrong value", code="get_context()", check=equals("sdss_dr16")),
            own("no failure any more", "FAIL", "why", raises("TypeError"), "get_profile()"),
            refused("another failure", "why", raises("KeyError"), "absent_id / 0"),
            replace(CALLS[0], name="wrong ids", code="getSpec(ten[1:], align=True)", check=spectra("ten")),
            replace(CALLS[0], name="the end", code="os._exit(3)", check=equals(None)),
            replace(CALLS[0], name="after the end", code="get_context()", check=equals("default")),
        )
        outcomes = make_calls(environment / "bin" / "python", f"{service[0].http}/spec", calls, client, sample)
        assert {outcome.verdict for outcome in outcomes} == {DIFFERS}
        assert "before this call" in outcomes[-1].note

    def test_the_client_is_as_it_was_published(
        self, service: tuple[Running, str], environment: Path, tmp_path: Path
    ) -> None:
        script = (
            "import importlib.metadata as m, hashlib, base64\n"
            "for file in m.files('astro-datalab'):\n"
            "    if file.hash:\n"
            "        digest = hashlib.new(file.hash.mode, file.locate().read_bytes()).digest()\n"
            "        assert base64.urlsafe_b64encode(digest).decode().rstrip('=') == file.hash.value, file\n"
        )
        python = environment / "bin" / "python"
        assert subprocess.run([python, "-c", script]).returncode == 0
        asked = [("afterwards", "requests.get.__module__")]
        run = run_calls(python, tmp_path, f"{service[0].http}/spec", asked, {})
        assert run.results["afterwards"].value == "pycurl_requests.api"

    @pytest.mark.slow
    def test_without_a_package_index_it_says_that_it_cannot_be_installed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", "")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        with pytest.raises(ClientUnavailable, match=r"astro-datalab==2\.24\.0 "):
            legacy_python(tmp_path / "venv", print)

    @pytest.mark.slow
    def test_speed_is_measured_beside_the_bare_requests(self, service: tuple[Running, str], environment: Path) -> None:
        races = speed(f"{service[0].http}/spec", environment=environment, rounds=1)
        assert [race.spectra for race in races] == [1000, 1000, 1000, 300]
        assert all(race.ratio > 0 for race in races)
        assert show_speed(races).count("spectra/s") == 4
