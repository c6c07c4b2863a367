"""The client's queries, counts, matches and lists of spectra, over real sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from specflight.catalog.identifiers import unpack_specobjid
from specflight.client import Client
from specflight.errors import InvalidRequest, LimitExceeded, NotFound, QueryTimeout, UnknownSpectrum
from specflight.flight.requests import Query
from specflight.tools.serve import Running


@pytest.fixture(scope="module")
def table(sim_client: Client) -> pa.Table:
    """Every row of the catalogue of all observations."""
    found: pa.Table = sim_client.query(primary=False, fields="specobjid,ra,dec,z,plate,mjd,fiberid,run2d,class")
    return found


def brute_cone(table: pa.Table, ra: float, dec: float, radius: float) -> set[int]:
    centre = SkyCoord(ra, dec, unit="deg")
    near = SkyCoord(table["ra"].to_numpy(), table["dec"].to_numpy(), unit="deg").separation(centre).deg <= radius
    return set(np.array(table["specobjid"])[near].tolist())


# --- find -------------------------------------------------------------------------------------------------------------


def test_every_documented_way_to_say_a_place_finds_the_same(sim_client: Client, table: pa.Table) -> None:
    expected = brute_cone(table, 30.5, 0.0, 0.8)
    assert expected
    coord = SkyCoord(30.5, 0.0, unit="deg")
    for found in (
        sim_client.query(30.5, 0.0, 0.8, primary=False),
        sim_client.query(ra=30.5, dec=0.0, size=0.8, primary=False),
        sim_client.query(coord, 0.8, primary=False),
        sim_client.query(coord.galactic, size=48 * u.arcmin, primary=False),
        sim_client.query(coord.galactic.l, coord.galactic.b, 0.8, frame="galactic", primary=False),
        sim_client.query(constraint="q3c_radial_query(ra, dec, 30.5, 0, 0.8)", primary=False),
        sim_client.query(constraint="z > -9 and q3c_radial_query(ra,dec,30.500000,0.000000,48/60.)", primary=False),
        sim_client.query(constraint="not (not q3c_radial_query(ra, dec, 30.5, 0, 0.8) or z is null)", primary=False),
        sim_client.query(constraint="q3c_dist(ra, dec, 30.5, 0) <= 0.8", primary=False),
    ):
        assert set(found.tolist()) == expected


def test_regions_as_pairs_flat_lists_sky_coordinates_and_boxes(sim_client: Client, table: pa.Table) -> None:
    corners = [(30.0, -0.5), (31.0, -0.5), (31.0, 0.5), (30.0, 0.5)]
    flat = [number for corner in corners for number in corner]
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    inside = (ra >= 30.0) & (ra <= 31.0) & (np.abs(dec) <= 0.5)
    expected = set(table["specobjid"].to_numpy()[inside].tolist())
    assert expected
    text = ", ".join(map(str, flat))
    for found in (
        sim_client.query(corners, primary=False),
        sim_client.query(corners[::-1], primary=False),
        sim_client.query(region=flat, primary=False),
        sim_client.query(region=SkyCoord(corners, unit="deg"), primary=False),
        sim_client.query(box=(30.0, 31.0, -0.5, 0.5), primary=False),
        sim_client.query(constraint=f"q3c_poly_query(ra, dec, ARRAY[{text}])", primary=False),
    ):
        assert set(found.tolist()) == expected


def test_tuples_are_those_of_the_ids(sim_client: Client, table: pa.Table) -> None:
    expected = list(zip(*(table[name].to_pylist() for name in ("plate", "mjd", "fiberid", "run2d")), strict=True))
    assert sim_client.query(primary=False, fields="tuple") == expected


def test_profile_and_timeout_are_those_of_the_documentation(sim_client: Client, sim_served: Path) -> None:
    expected = sim_client.query(30.5, 0.0, 0.8).tolist()
    assert sim_client.query(30.5, 0.0, 0.8, profile="default", timeout=30).tolist() == expected
    with pytest.raises(NotFound, match="there is no profile 'nosuch'"):
        sim_client.query(30.5, 0.0, 0.8, profile="nosuch")
    with pytest.raises(InvalidRequest, match="timeout: 0 is not"):
        sim_client.query(30.5, 0.0, 0.8, timeout=0)
    with Client(f"file://{sim_served}", context="sdss_dr16") as local:
        assert local.query(30.5, 0.0, 0.8, timeout=30).tolist() == expected
        with pytest.raises(QueryTimeout):
            local.query(30.5, 0.0, 0.8, constraint="z > 0.1", timeout=1e-9)


def test_names_of_columns_may_have_any_case(sim_client: Client) -> None:
    assert sim_client.query(fields="SPECOBJID,Z", limit=2).column_names == ["specobjid", "z"]
    assert sim_client.match(ids=[5], fields="SPECOBJID,Z").column_names == ["row", "status", "specobjid", "z"]


def test_a_query_counts_explains_and_fetches_the_same_number(sim_client: Client) -> None:
    for asked in ((), (30.5, 0.0, 0.8), ([(30.0, -0.5), (31.0, -0.5), (30.5, 0.5)],)):
        for constraint in ("", "z > 0.1", "z > 0.1 limit 5", "order by z", "limit 3"):
            found = sim_client.query(*asked, constraint=constraint)
            assert sim_client.count(*asked, constraint=constraint) == len(found)
            told = sim_client.query(*asked, constraint=constraint, explain=True)
            assert (told["rows"], told["exact"]) == (len(found), True)
            assert told["bytes"] == 8 * len(found)


def test_a_result_goes_to_a_file(sim_client: Client, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"constraint": "z > 0.1", "fields": "ra,z,class"}
    expected = sim_client.query(**asked)
    for name in ("a.csv", "a.parquet", "a.arrow"):
        assert sim_client.query(**asked, out=tmp_path / name) == "OK"
    assert pq.read_table(tmp_path / "a.parquet").equals(expected)
    assert pa.ipc.open_file(tmp_path / "a.arrow").read_all().equals(expected)
    types = pyarrow.csv.ConvertOptions(column_types={"specobjid": pa.uint64()})
    read = pyarrow.csv.read_csv(tmp_path / "a.csv", convert_options=types)
    assert read["specobjid"].to_pylist() == expected["specobjid"].to_pylist()
    assert sim_client.query(fields="tuple", limit=2, out=str(tmp_path / "t.csv")) == "OK"
    assert (tmp_path / "t.csv").read_text().startswith('"plate","mjd","fiberid","run2d"\n')
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.arrow", "a.csv", "a.parquet", "t.csv"]
    for out, named in (("a.txt", "does not end in"), ("no/such/a.csv", "no folder"), ("s3://a.csv", "local")):
        with pytest.raises(InvalidRequest, match=named):
            sim_client.query(limit=1, out=out if "://" in out else tmp_path / out)
    with pytest.raises(InvalidRequest, match="CSV cannot hold the vector column 'spectroflux'"):
        sim_client.query(limit=1, fields="spectroflux", out=tmp_path / "v.csv")
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ({"constraint": "zz > 1"}, "zz.*did you mean 'z'"),
        ({"constraint": "z > 1; drop table x"}, "second statement"),
        ({"constraint": 'class = "QSO"'}, "text is written in single quotes|did you mean"),
        ({"constraint": 5}, "constraint: 5 is not a text"),
        ({"order_by": "z, nosuch"}, "order_by at character 4: there is no column 'nosuch'"),
        ({"fields": "nosuch"}, "nosuch"),
        ({"fields": 5}, "fields: 5 is neither names"),
        ({"ra": 1.0, "dec": 1.0, "radius": 1.0}, "the size of a cone is called size"),
        ({"box": (1, 2, 3)}, "box"),
        ({"box": (1, 2, 80, 100)}, "100"),
        ({"box": (1, 2, 3, 4), "ra": 3.0}, "box, ra do not make a region"),
        ({"ra": 1.0, "dec": 1.0, "size": 1.0, "frame": "b1950"}, "frame"),
        ({"box": (1, 2, 3, 4), "frame": "galactic"}, "box"),
    ],
)
def test_a_query_at_fault_is_refused_by_name(sim_client: Client, call: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        sim_client.query(**call)


# --- name -------------------------------------------------------------------------------------------------------------


def test_every_way_to_name_spectra_gives_the_same(sim_client: Client, table: pa.Table, tmp_path: Path) -> None:
    three = table.slice(0, 3)
    ids = three["specobjid"].to_pylist()
    parts = unpack_specobjid(ids)
    tuples = list(
        zip(parts.plate.tolist(), parts.mjd.tolist(), parts.fiberid.tolist(), parts.run2d.tolist(), strict=True)
    )
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(map(str, ids)) + "\n")
    expected = sim_client.getSpec(ids, fmt="arrow", columns="flux")
    assert expected["specobjid"].to_pylist() == ids
    for named in (
        [str(one) for one in ids],
        np.array(ids, np.uint64),
        [np.uint64(one) for one in ids],
        tuples,
        [one[:3] for one in tuples],
        [tuples[0], ids[1], str(ids[2])],
        str(ids),
        str(tuples),
        "\n".join("-".join(map(str, one[:3])) for one in tuples),
        str(path),
        path,
        three,
        three.to_pandas(),
        three.select(["plate", "mjd", "fiberid"]),
        three.to_pandas()["specobjid"],
    ):
        assert sim_client.getSpec(named, fmt="arrow", columns="flux").equals(expected), repr(named)[:60]


def test_one_tuple_is_one_spectrum_and_a_wildcard_is_a_list(sim_client: Client, table: pa.Table) -> None:
    plate, mjd, fiberid = (table[name][0].as_py() for name in ("plate", "mjd", "fiberid"))
    one = sim_client.getSpec((plate, mjd, fiberid))
    assert one.tobytes() == sim_client.getSpec(table["specobjid"][0].as_py()).tobytes()
    assert isinstance(sim_client.getSpec((plate, mjd, fiberid), fmt="FITS"), bytes)
    whole = sim_client.getSpec([(plate, mjd, "*")], fmt="arrow", columns="flux")
    same = np.array(table["plate"]) == plate
    assert sorted(whole["specobjid"].to_pylist()) == sorted(table["specobjid"].to_numpy()[same].tolist())
    aligned = sim_client.getSpec([(plate, mjd, "*")], align=True)
    assert aligned.shape[0] == len(whole)
    with pytest.raises(UnknownSpectrum, match="plate 1, mjd 2, fiberid 3"):
        sim_client.getSpec((1, 2, 3))
    nothing = sim_client.getSpec([(1, 2, 3), (plate, mjd, fiberid)], missing="null")
    assert nothing[0] is None
    assert nothing[1].tobytes() == one.tobytes()


def test_getspec_explains_before_it_transfers(sim_client: Client, table: pa.Table) -> None:
    ids = table["specobjid"].to_pylist()[:5]
    told = sim_client.getSpec([*ids, 7], columns="flux", explain=True)
    assert (told["rows"], told["exact"], told["missing"]) == (6, True, 1)
    flux = sim_client.getSpec(ids, fmt="arrow", columns="flux")["flux"]
    assert told["bytes"] == 4 * sum(len(one) for one in flux)
    assert sim_client.getSpec(Query(limit=3, catalog="specobjall"), explain=True)["rows"] == 3
    assert sim_client.getSpec([("*",)], explain=True)["rows"] == len(table)
    assert sim_client.getSpec([*ids, 7], fmt="FITS", explain=True)["missing"] == 1


# --- match ------------------------------------------------------------------------------------------------------------


def test_positions_are_matched_in_order_whatever_their_form(sim_client: Client, table: pa.Table) -> None:
    ra, dec = table["ra"].to_numpy()[:20], table["dec"].to_numpy()[:20]
    coordinates = SkyCoord(ra, dec, unit="deg")
    expected = sim_client.match(ra, dec, 1 / 3600, catalog="specobjall", fields="z")
    assert expected["row"].to_pylist() == list(range(20))
    assert (expected["separation"].to_numpy() <= 1 / 3600).all()
    near = SkyCoord(table["ra"].to_numpy(), table["dec"].to_numpy(), unit="deg")
    nearest, separation, _ = coordinates.match_to_catalog_sky(near)
    assert expected["separation"].to_numpy() == pytest.approx(separation.deg, abs=1e-12)
    assert set(expected["z"].to_pylist()) <= set(table["z"].to_numpy()[nearest].tolist()) | set(table["z"].to_pylist())
    for found in (
        sim_client.match(coordinates, radius=1 / 3600, catalog="specobjall", fields="z"),
        sim_client.match(coordinates, 1 * u.arcsec, catalog="specobjall", fields="z"),
        sim_client.match(list(ra), list(dec), 1 / 3600, catalog="specobjall", fields=["z"]),
        sim_client.match(ra * u.deg, dec * u.deg, 1 / 3600, catalog="specobjall", fields="z"),
        sim_client.match(coordinates.fk5, radius=1 / 3600, catalog="specobjall", fields="z"),
    ):
        assert found["specobjid"].to_pylist() == expected["specobjid"].to_pylist()


def test_a_list_too_long_for_a_ticket_is_matched_alike(sim_client: Client, table: pa.Table) -> None:
    picks = np.random.default_rng(1).integers(0, len(table), 25_000)
    ra, dec = table["ra"].to_numpy()[picks], table["dec"].to_numpy()[picks]
    found = sim_client.match(ra, dec, 1 / 3600, catalog="specobjall", fields="ra,dec")
    assert found["row"].to_pylist() == list(range(len(picks)))
    assert np.abs(found["dec"].to_numpy() - dec).max() < 1 / 3600
    by_id = sim_client.match(ids=table["specobjid"].to_numpy()[picks], catalog="specobjall", fields="ra")
    assert by_id["ra"].to_numpy().tobytes() == ra.tobytes()


def test_vectors_come_with_the_match(sim_client: Client, table: pa.Table) -> None:
    ids = table["specobjid"].to_pylist()[:4]
    found = sim_client.match(ids=[*ids, 5], catalog="specobjall", fields="z", vectors="flux,ivar")
    spectra = sim_client.getSpec(ids, fmt="arrow", columns="flux,ivar")
    assert found["status"].to_pylist() == ["ok"] * 4 + ["missing"]
    assert found["flux"].to_pylist() == [*spectra["flux"].to_pylist(), None]
    assert found["z"].to_pylist() == [*table["z"].to_pylist()[:4], None]


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        ({"ra": [1.0]}, InvalidRequest, "dec: a match needs positions"),
        ({"ra": [1.0, 2.0], "dec": [1.0], "radius": 1}, InvalidRequest, "ra, dec: their shapes"),
        ({"ra": ["x"], "dec": [1.0], "radius": 1}, InvalidRequest, "ra: .*is not a list of degrees"),
        ({"ra": [1.0], "dec": [1.0], "ids": [1]}, InvalidRequest, "ids: give positions or ids, not both"),
        ({"ids": [(1, 2, 3)]}, InvalidRequest, "ids: a match takes specobjids"),
        ({"ra": [1.0], "dec": [1.0], "radius": -1}, InvalidRequest, "radius"),
        ({"ids": [5], "missing": "raise"}, NotFound, "1 of 1"),
        ({"ids": [5], "catalog": "nosuch"}, NotFound, "nosuch"),
    ],
)
def test_a_match_at_fault_is_refused_by_name(
    sim_client: Client, call: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        sim_client.match(**call)


def test_an_upload_beyond_the_limit_is_refused(sim_server: Running, table: pa.Table) -> None:
    with Client(sim_server.flight[0], context="sdss_dr16") as client, pytest.raises(LimitExceeded, match="max_ids"):
        client.match(ids=np.arange(1, 1_000_100, dtype=np.uint64))
