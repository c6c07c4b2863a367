"""lsdb, in an environment of its own, opens the catalogues of a data directory and finds the same rows in them.

Run with ``pytest -m lsdb``. ``SPECFLIGHT_LSDB_PYTHON`` names a Python that has lsdb; without it, a virtual environment
is made once, in pytest's cache. Polygons are compared where lsst-sphgeom is installed as well: lsdb needs it for them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import specflight.catalog.hats as hats_module
from specflight.catalog.extract import write_table
from specflight.catalog.regions import Box, Cone, Polygon, Region
from specflight.catalog.table import index_table
from specflight.flight.datadir import ContextDirectory
from specflight.tools.ingest import ingest
from specflight.tools.publish import locked, publish_tables, table_entry

pytestmark = [pytest.mark.lsdb, pytest.mark.timeout(1200)]

CONTEXT = "sdss_dr16"
PACKAGES = ("lsdb>=0.11", "lsst-sphgeom", "hpgeom")

SCRIPT = """
import json, sys
import lsdb
from hats.io.validation import is_valid_catalog

def numbers(found, column):
    return sorted(int(i) for i in found[column].to_list())

if __name__ == "__main__":
    task = json.load(sys.stdin)
    path, column = task["path"], task["id"]
    catalog = lsdb.open_catalog(path)
    result = {"valid": is_valid_catalog(path, strict=True), "rows": len(catalog)}
    everything = catalog.compute()
    result["all"] = numbers(everything, column)
    result["columns"] = [everything.index.name, *everything.columns]
    result["types"] = {name: str(kind) for name, kind in everything.dtypes.items()}
    schema = catalog.hc_structure.original_schema
    result["units"] = {f.name: (f.metadata or {}).get(b"unit", b"").decode() for f in schema}
    result["orders"] = sorted({int(pixel.order) for pixel in catalog.get_healpix_pixels()})
    result["cones"] = [numbers(catalog.cone_search(ra, dec, 3600 * radius).compute(), column)
                       for ra, dec, radius in task["cones"]]
    result["boxes"] = [numbers(catalog.box_search(ra=(w, e), dec=(s, n)).compute(), column)
                       for w, e, s, n in task["boxes"]]
    try:
        result["polygons"] = [numbers(catalog.polygon_search([tuple(v) for v in vertices]).compute(), column)
                              for vertices in task["polygons"]]
    except ImportError:
        result["polygons"] = None
    json.dump(result, open(task["out"], "w"))
"""

Found = dict[str, Any]


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> Path:
    """A Python that has lsdb."""
    if given := os.environ.get("SPECFLIGHT_LSDB_PYTHON"):
        return Path(given)
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("lsdb") / "venv"
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if subprocess.run([python, "-c", "import lsdb"], capture_output=True).returncode if python.exists() else True:
        venv.create(folder, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *PACKAGES]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            pytest.skip(f"lsdb cannot be installed: {ran.stderr.strip().splitlines()[-1]}")
    return python


def ask(python: Path, room: Path, path: Path, id_column: str, searches: dict[str, list[Any]]) -> Found:
    """What lsdb finds in a catalogue."""
    script = room / "ask.py"
    script.write_text(SCRIPT)
    task = {"path": str(path), "id": id_column, "out": str(room / "found.json"), **searches}
    ran = subprocess.run([python, script], input=json.dumps(task), capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found: Found = json.loads((room / "found.json").read_text())
    return found


def compare(python: Path, room: Path, data: Path, name: str, searches: dict[str, list[Any]]) -> Found:
    """Let lsdb open a live catalogue by its link, and compare what it finds with our own index."""
    from specflight.catalog.sky import SkyIndex

    directory = ContextDirectory(data, CONTEXT)
    manifest = directory.manifest()
    assert manifest is not None
    entry = manifest.tables[name]
    assert entry.id is not None
    sky = SkyIndex.open(directory.table_folder(manifest, name) / "index.sky", directory.table_files(manifest, name))
    assert sky is not None
    ids = sky.ids.to_numpy()

    def own(region: Region) -> list[int]:
        return sorted(ids[sky.search(region)].tolist())

    found = ask(python, room, directory.catalog / name, entry.id, searches)
    assert found["valid"]
    placed = sorted(ids[sky.cells < 12 << 58].tolist())
    assert (found["rows"], found["all"]) == (len(placed), placed)
    assert found["cones"] == [own(Cone(*cone)) for cone in searches["cones"]]
    assert found["boxes"] == [own(Box(*box)) for box in searches["boxes"]]
    if found["polygons"] is not None:
        assert found["polygons"] == [own(Polygon(vertices)) for vertices in searches["polygons"]]
    assert all(found["cones"])
    assert all(found["boxes"])
    return found


def test_lsdb_opens_a_large_catalogue_of_uneven_density_and_finds_the_same_rows(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hats_module, "ROWS_PER_FILE", 5_000)
    rng = np.random.default_rng(1)
    ra, dec = rng.random(60_000) * 360, np.degrees(np.arcsin(rng.random(60_000) * 2 - 1))
    ra[:20_000], dec[:20_000] = 358.5 + 3 * rng.random(20_000), 3 * rng.random(20_000) - 1.5
    about = {b"unit": b"mag"}
    rows = pa.table(
        [
            pa.array(rng.permutation(60_000).astype(np.uint64) + np.uint64(2**63)),
            pa.array(ra % 360, mask=np.arange(60_000) % 1000 == 999),
            pa.array(dec),
            pa.array(list(rng.random((60_000, 5), np.float32)), pa.list_(pa.float32(), 5)),
        ],
        pa.schema(
            [
                ("star", pa.uint64()),
                ("raj2000", pa.float64()),
                ("dej2000", pa.float64()),
                pa.field("mag", pa.list_(pa.float32(), 5), metadata=about),
            ]
        ),
    )
    pq.write_table(rows, tmp_path / "rows.parquet")
    directory = ContextDirectory(tmp_path / "data", CONTEXT)
    columns = {"id_column": "star", "ra": "raj2000", "dec": "dej2000"}
    with locked(directory):
        table = write_table("vac.stars", [tmp_path / "rows.parquet"], directory.catalog, tmp_path, **columns)
        index_table(table.folder, table.files, **columns)
        publish_tables(directory, {"vac.stars": table_entry(table, **columns, source="rows.parquet")})
    searches: dict[str, list[Any]] = {
        "cones": [(0.1, 0.2, 0.5), (180, 89.5, 4), (200, -90, 5), (120, 30, 10), (359.9, -1, 2)],
        "boxes": [(350, 10, -5, 5), (100, 130, 20, 40), (0, 359, 80, 90)],
        "polygons": [[(10, 10), (30, 10), (30, 30), (10, 30)], [(359, -1), (1, -1), (0, 1)]],
    }
    found = compare(python, tmp_path, tmp_path / "data", "vac.stars", searches)
    assert len(found["orders"]) > 2
    assert found["rows"] == 60_000 - 60
    assert found["columns"] == ["_healpix_29", "star", "raj2000", "dej2000", "mag"]
    assert found["types"]["star"] == "uint64[pyarrow]"
    assert found["units"]["mag"] == "mag"


def around(data: Path, name: str) -> dict[str, list[Any]]:
    """Searches near the first spectra of a table."""
    directory = ContextDirectory(data, CONTEXT)
    manifest = directory.manifest()
    assert manifest is not None
    first = pq.read_table(directory.table_files(manifest, name)[0], columns=["ra", "dec"]).slice(0, 3).to_pylist()
    places = [(row["ra"], row["dec"]) for row in first]
    return {
        "cones": [(ra, dec, radius) for ra, dec in places for radius in (0.001, 1, 60)],
        "boxes": [(ra - 5, ra + 5, max(dec - 5, -90), min(dec + 5, 90)) for ra, dec in places],
        "polygons": [[(ra - 3, dec - 3), (ra + 3, dec - 3), (ra, dec + 3)] for ra, dec in places],
    }


@pytest.mark.parametrize("name", ["specobj", "specobjall"])
def test_lsdb_opens_the_catalogue_of_simulated_spectra(python: Path, sim_data: Path, tmp_path: Path, name: str) -> None:
    compare(python, tmp_path, sim_data, name, around(sim_data, name))


def test_lsdb_opens_the_catalogue_of_real_spectra(python: Path, real_data: Path, tmp_path: Path) -> None:
    ingest(tmp_path, CONTEXT, [real_data / "sas"], workers=1)
    found = compare(python, tmp_path, tmp_path, "specobjall", around(tmp_path, "specobjall"))
    assert found["types"]["specobjid"] == "uint64[pyarrow]"
    assert {"class", "z", "plate", "zwarning"} <= set(found["columns"])
