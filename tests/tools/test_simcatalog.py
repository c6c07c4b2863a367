from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from specflight.catalog.healpix import unit_vectors
from specflight.catalog.identifiers import pack_specobjid
from specflight.errors import InvalidRequest
from specflight.tools.simcatalog import MOST_ROWS, ROUND, ROUNDS, simulate_catalogue

ROWS = ROUNDS * ROUND + 20_000  # more than one chunk


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    path = tmp_path_factory.mktemp("simulated") / "specobj.parquet"
    simulate_catalogue(path, ROWS)
    return pq.read_table(path)


def values(table: pa.Table, name: str) -> NDArray[Any]:
    array: NDArray[Any] = table[name].to_numpy()
    return array


def test_it_has_the_columns_of_specobj_with_units(table: pa.Table) -> None:
    assert table.num_rows == ROWS
    assert len(table.schema) == 28
    assert table.schema.names[:8] == ["specobjid", "ra", "dec", "z", "zerr", "zwarning", "class", "subclass"]
    assert table.schema.field("specobjid").type == pa.uint64()
    assert table.schema.field("sn_median").type == pa.list_(pa.float32(), 5)
    units = {field.name: field.metadata[b"unit"] for field in table.schema if field.metadata}
    assert units["ra"] == units["dec"] == b"deg"
    assert units["spectroflux"] == b"nanomaggy"
    assert sum(column.null_count for column in table.columns) == 0


def test_identifiers_are_unique_packed_and_beyond_2_to_the_63(table: pa.Table) -> None:
    ids = values(table, "specobjid")
    packed = pack_specobjid(*(values(table, name) for name in ("plate", "mjd", "fiberid", "run2d")))
    np.testing.assert_array_equal(ids, packed)
    assert len(np.unique(ids)) == ROWS
    assert 0.1 < (ids >= 2**63).mean() < 0.4


def test_objects_stand_on_plates_of_the_size_of_the_field_of_view(table: pa.Table) -> None:
    assert values(table, "ra").min() >= 0
    assert values(table, "ra").max() < 360
    assert -15 < values(table, "dec").min() < values(table, "dec").max() < 75
    for plate in (266, 8192):
        chosen = values(table, "plate") == plate
        place = np.stack(unit_vectors(values(table, "ra")[chosen], values(table, "dec")[chosen]), axis=1)
        apart = np.degrees(np.arccos(np.clip(place @ place.T, -1, 1))).max()
        assert 2.5 < apart < 4.0


def test_some_objects_are_observed_twice_in_the_same_place(table: pa.Table) -> None:
    again = values(table, "specprimary") == 0
    assert 0.05 < again.mean() < 0.2
    thing, ra = values(table, "thing_id"), values(table, "ra")
    first = dict(zip(thing[~again].tolist(), ra[~again].tolist(), strict=True))
    assert [first[number] for number in thing[again].tolist()] == ra[again].tolist()
    z = dict(zip(thing[~again].tolist(), values(table, "z")[~again].tolist(), strict=True))
    apart = np.array([z[number] for number in thing[again].tolist()]) - values(table, "z")[again]
    assert 0 < np.median(np.abs(apart)) < 1e-3


def test_classes_have_their_redshifts_and_errors_grow_with_noise(table: pa.Table) -> None:
    kind, z = values(table, "class"), values(table, "z")
    assert {name: bool((kind == name).mean() > 0.1) for name in ("GALAXY", "QSO", "STAR")} == dict.fromkeys(
        ("GALAXY", "QSO", "STAR"), True
    )
    assert np.abs(z[kind == "STAR"]).max() < 0.01
    assert 0.2 < np.median(z[kind == "GALAXY"]) < 0.8
    assert 1.2 < np.median(z[kind == "QSO"]) < 2.6
    galaxies = kind == "GALAXY"
    sn, zerr = values(table, "sn_median_all")[galaxies], values(table, "zerr")[galaxies]
    assert np.median(zerr[sn < 2]) > 2 * np.median(zerr[sn > 20])
    assert 0.005 < (values(table, "zwarning") != 0).mean() < 0.15


def test_a_row_does_not_depend_on_how_many_there_are_but_on_the_seed(table: pa.Table, tmp_path: Path) -> None:
    simulate_catalogue(tmp_path / "few.parquet", 1000)
    assert pq.read_table(tmp_path / "few.parquet").equals(table.slice(0, 1000))
    simulate_catalogue(tmp_path / "other.parquet", 1000, seed=2)
    other = pq.read_table(tmp_path / "other.parquet")
    assert other["specobjid"].equals(table["specobjid"].slice(0, 1000))
    assert not other["ra"].equals(table["ra"].slice(0, 1000))


@pytest.mark.parametrize("rows", [0, -1, MOST_ROWS + 1])
def test_a_number_of_rows_that_cannot_be_is_refused(rows: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=f"rows: {rows} is not between 1 and {MOST_ROWS}"):
        simulate_catalogue(tmp_path / "none.parquet", rows)
    assert not list(tmp_path.iterdir())
