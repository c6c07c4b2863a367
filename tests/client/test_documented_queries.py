"""Every query of the service's documentation and of the calls of its old client, on real tables.

The truth is read from the same files with astropy and computed with astropy and numpy alone.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from numpy.typing import NDArray

from specflight.client import Client
from specflight.errors import InvalidRequest, NotFound
from specflight.tools.ingest import ingest
from specflight.tools.ingestcatalog import ingest_catalog
from specflight.tools.serve import start

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def spall(real_data: Path) -> Rows:
    """Rows of a real spAll table: specobjid is told as signed there."""
    table = fits.getdata(real_data / "catalog/spAll-plate3655.fits", 1)
    names = ("ra", "dec", "z", "plate", "mjd", "fiberid", "run2d", "class", "zwarning", "thing_id")
    rows = [{name: table[name][n] for name in names} for n in range(len(table))]
    for n, row in enumerate(rows):
        row["specobjid"] = int(table["specobjid"][n]) % 2**64
        row["run2d"] = row["run2d"].strip()
    return rows


@pytest.fixture(scope="module")
def optical(real_data: Path) -> Rows:
    """Rows of a real optical search, run2d 26 and 104."""
    with (real_data / "catalog/optical_search_617515.csv").open(newline="") as file:
        head = file.readline().lstrip("#").strip().split(",")
        rows: Rows = [dict(zip(head, line, strict=True)) for line in csv.reader(file, quotechar="'")]
    for row in rows:
        row["specobjid"] = int(row["specobj_id"])
        row |= {name: float(row[name]) for name in ("ra", "dec", "z")}
    return rows


@pytest.fixture(scope="module")
def client(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Client of a server of the real trees and tables."""
    data = tmp_path_factory.mktemp("documented") / "data"
    for tree in sorted((real_data / "sas").iterdir()):
        ingest(data, f"sdss_{tree.name}", [tree.resolve()], workers=1)
    tables = real_data / "catalog"
    ingest_catalog(data, "sdss_dr16", "sdss_dr16.spall", tables / "spAll-plate3655.fits")
    ingest_catalog(data, "sdss_dr12", "sdss_dr12.opticalsearch", tables / "optical_search_617515.csv")
    ingest_catalog(data, "sdss_dr12", "sdss_dr12.dr12q", tables / "cat_boss_test1.fits.gz")
    ingest_catalog(data, "sdss_dr16", "sdss_dr16.spiders", tables / "spiders_quasar_features.csv")
    with start(data, "127.0.0.1", 0, 0, workers=1) as running, Client(running.flight[0]) as opened:
        yield opened


def separations(rows: Rows, ra: float, dec: float) -> NDArray[np.float64]:
    places = SkyCoord([row["ra"] for row in rows], [row["dec"] for row in rows], unit="deg")
    degrees: NDArray[np.float64] = places.separation(SkyCoord(ra, dec, unit="deg")).deg
    return degrees


def within(rows: Rows, ra: float, dec: float, size: float) -> list[int]:
    near = separations(rows, ra, dec) <= size
    return sorted(row["specobjid"] for row, inside in zip(rows, near, strict=True) if inside)


def centre(rows: Rows) -> tuple[float, float]:
    return float(np.median([row["ra"] for row in rows])), float(np.median([row["dec"] for row in rows]))


TABLES = ("sdss_dr16.spall", "sdss_dr12.opticalsearch")


@pytest.fixture(params=TABLES)
def table(request: pytest.FixtureRequest, spall: Rows, optical: Rows) -> tuple[str, Rows]:
    return request.param, spall if request.param == TABLES[0] else optical


@pytest.mark.parametrize("size", [0.01, 0.1, 1.0, 10.0])
def test_cones_by_position_and_by_coordinates(client: Client, table: tuple[str, Rows], size: float) -> None:
    name, rows = table
    ra, dec = centre(rows)
    expected = within(rows, ra, dec, size)
    assert expected or size < 1
    coord = SkyCoord(ra, dec, unit="deg")
    for found in (
        client.query(ra, dec, size, catalog=name),
        client.query(ra=ra, dec=dec, size=size, catalog=name),
        client.query(coord, size=size, catalog=name),
        client.query(coord.galactic, size, catalog=name),
        client.query(constraint=f"q3c_radial_query(ra,dec,{ra!r},{dec!r},{size})", catalog=name),
    ):
        assert sorted(found.tolist()) == expected


def test_a_polygon_as_pairs_and_as_the_flat_list_of_old_clients(client: Client, table: tuple[str, Rows]) -> None:
    name, rows = table
    ra, dec = centre(rows)
    triangle = [(ra - 2, dec - 2), (ra + 2, dec - 2), (ra, dec + 2)]
    flat = [number for corner in triangle for number in corner]
    found = client.query(triangle, catalog=name)
    assert 0 < len(found) < len(rows)
    xyz = SkyCoord([row["ra"] for row in rows], [row["dec"] for row in rows], unit="deg").cartesian.xyz.value.T
    corners = SkyCoord(triangle, unit="deg").cartesian.xyz.value.T
    sides = np.array([xyz @ np.cross(corners[i], corners[(i + 1) % 3]) for i in range(3)])
    inside = np.asarray((sides >= 0).all(axis=0) | (sides <= 0).all(axis=0))
    expected = sorted(row["specobjid"] for row, there in zip(rows, inside, strict=True) if there)
    assert sorted(found.tolist()) == expected
    assert sorted(client.query(region=flat, catalog=name).tolist()) == expected
    q3c = f"q3c_poly_query(ra,dec,ARRAY{flat})"
    assert sorted(client.query(constraint=q3c, catalog=name).tolist()) == expected


def test_constraints_with_order_and_limit(client: Client, table: tuple[str, Rows]) -> None:
    name, rows = table
    by_z = sorted(rows, key=lambda row: float(row["z"]))
    least = 0.2 if name == TABLES[0] else 1e-4  # these are stars
    above = [row["specobjid"] for row in by_z if float(row["z"]) > least]
    assert len(above) > 5
    assert set(client.query(constraint=f"z > {least} limit 5", catalog=name).tolist()) <= set(above)
    assert len(client.query(constraint=f"z > {least} limit 5", catalog=name)) == 5
    assert len(client.query(constraint="limit 5", catalog=name)) == 5
    z_of = {row["specobjid"]: float(row["z"]) for row in rows}
    lowest = client.query(constraint=f"z>{least} order by z limit 5", catalog=name).tolist()
    assert [z_of[one] for one in lowest] == [z_of[one] for one in above[:5]]
    ra, dec = centre(rows)
    near = set(within(rows, ra, dec, 2))
    local = [row for row in by_z if row["specobjid"] in near]
    for constraint, expected in (
        (f"z>{least} order by z limit 5", [float(row["z"]) for row in local if float(row["z"]) > least][:5]),
        ("order by z limit 5", [float(row["z"]) for row in local][:5]),
    ):
        found = client.query(ra, dec, 2, constraint=constraint, catalog=name)
        assert [z_of[one] for one in found.tolist()] == expected
    reduction = rows[0]["run2d"]
    same = [float(row["z"]) for row in by_z if row["run2d"] == reduction][:5]
    cast = f"run2d='{reduction}'" if name == TABLES[0] else f"run2d={reduction}"
    found = client.query(constraint=f"{cast} order by z limit 5", catalog=name)
    assert [z_of[one] for one in found.tolist()] == same


def test_fields_and_tuples(client: Client, table: tuple[str, Rows]) -> None:
    name, rows = table
    by_id = {row["specobjid"]: row for row in rows}
    found = client.query(*centre(rows), 10.0, catalog=name, fields="specobjid,ra,dec,z")
    assert found.column_names == ["specobjid", "ra", "dec", "z"]
    assert len(found) > 5
    for specobjid, ra, dec, z in zip(*found.to_pydict().values(), strict=True):
        row = by_id[specobjid]
        assert (ra, dec) == (float(row["ra"]), float(row["dec"]))
        assert z == pytest.approx(float(row["z"]), rel=1e-7)
    tuples = client.query(*centre(rows), 10.0, catalog=name, fields="tuple")
    assert tuples == [
        (*(int(by_id[one][part]) for part in ("plate", "mjd", "fiberid")), by_id[one]["run2d"])
        for one in found["specobjid"].to_pylist()
    ]


def test_the_fourth_example_of_the_documentation(client: Client, real_data: Path) -> None:
    """A value-added table of an earlier release, around a place, as tuples; the ids come from the spectra."""
    table = fits.getdata(real_data / "catalog/cat_boss_test1.fits.gz", 1)
    keys = ("plate", "mjd", "fiberid")
    expected = sorted(tuple(int(table[name][n]) for name in keys) for n in range(len(table)))
    ra, dec = float(np.median(table["ra"])), float(np.median(table["dec"]))
    found = client.query(ra, dec, 10.0, catalog="sdss_dr12.dr12q", fields="plate,mjd,fiberid")
    assert sorted(zip(*(found[name].to_pylist() for name in keys), strict=True)) == expected
    known = client.query(ra, dec, 10.0, catalog="sdss_dr12.dr12q", constraint="specobjid is not null", fields="tuple")
    assert known
    assert {one[:3] for one in known} <= set(expected)
    # What was found is what getSpec takes.
    assert len(client.getSpec(known[:3], columns="flux", context="sdss_dr12")) == min(3, len(known))


def test_an_empty_result_and_faults(client: Client) -> None:
    assert client.query(30, 89, 0.01, catalog=TABLES[0]).tolist() == []
    assert client.query(30, 89, 0.01, catalog=TABLES[0]).dtype == np.uint64
    faults: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
        ({"constraint": "z >> 'x' bad"}, InvalidRequest, "where"),
        ({"context": "desi"}, NotFound, "there is no context 'desi'"),
        ({"catalog": "sdss_dr16.nosuch"}, NotFound, "no catalogue 'nosuch'"),
        ({"fields": "bestobjid"}, InvalidRequest, "bestobjid"),
    )
    for call, error, named in faults:
        with pytest.raises(error, match=named):
            client.query(**{"catalog": TABLES[0], **call})


def test_ids_beyond_int64_are_exact(client: Client, spall: Rows) -> None:
    huge = sorted(row["specobjid"] for row in spall if row["specobjid"] >= 2**63)
    assert len(huge) == 11
    assert sorted(client.query(constraint="plate >= 8192", catalog=TABLES[0]).tolist()) == huge
    text = ",".join(map(str, huge))
    assert sorted(client.query(constraint=f"specobjid in ({text})", catalog=TABLES[0]).tolist()) == huge
    assert client.query(constraint=f"specobjid = {huge[0]}", catalog=TABLES[0]).tolist() == huge[:1]


def test_a_table_without_positions_or_ids_is_queried_by_condition(client: Client, real_data: Path) -> None:
    with (real_data / "catalog/spiders_quasar_features.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = sorted(row["name"] for row in rows if 0.3 < float(row["redshift"]) < 0.31)
    assert expected
    between = "redshift > 0.3 and redshift < 0.31"
    found = client.query(constraint=between, catalog="sdss_dr16.spiders", fields="name,redshift")
    assert sorted(found["name"].to_pylist()) == expected
    assert found["specobjid"].null_count == len(expected)
    assert client.count(constraint=between, catalog="sdss_dr16.spiders") == len(expected)
    faults: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: client.match([1.0], [1.0], 0.1, catalog="sdss_dr16.spiders"), "position"),
        (lambda: client.match(ids=[5], catalog="sdss_dr16.spiders"), "specobjid"),
        (lambda: client.query(1.0, 1.0, 0.1, catalog="sdss_dr16.spiders"), "position"),
        (lambda: client.query(constraint=between, catalog="sdss_dr16.spiders"), "none of the 98 rows has a specobjid"),
    )
    for ask, named in faults:
        with pytest.raises(InvalidRequest, match=named):
            ask()


def test_the_tables_are_listed_with_what_their_files_say(client: Client) -> None:
    tables = {table["name"]: table for table in client.catalogs("sdss_dr12", fmt="json")}
    columns = {column["name"]: column for column in tables["sdss_dr12.dr12q"]["columns"]}
    assert tables["sdss_dr12.dr12q"]["rows"] == 140
    assert columns["psfflux"]["unit"] == "nanomaggies"
    assert columns["psfflux"]["type"].startswith("list<")
    assert columns["ra"]["unit"] == "deg"
