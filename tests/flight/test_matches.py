from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from specflight.catalog.database import Cancellation
from specflight.errors import InvalidRequest, LimitExceeded, NotFound, QueryTimeout
from specflight.flight.answers import Answer
from specflight.flight.requests import MatchRequest, QueryRequest, SpectraRequest
from specflight.flight.service import Service


@pytest.fixture(scope="module")
def service(sim_served: Path) -> Iterator[Service]:
    with closing(Service(sim_served)) as opened:
        yield opened


def table(answer: Answer) -> pa.Table:
    return pa.Table.from_batches(list(answer.batches()), answer.schema)


@pytest.fixture(scope="module")
def rows(service: Service) -> pa.Table:
    """Ten rows of the catalogue."""
    request = QueryRequest(context="sdss_dr16", columns=("specobjid", "ra", "dec", "z", "class"), limit=10)
    return table(service.answer(request))


def match(service: Service, **fields: Any) -> pa.Table:  # noqa: ANN401
    return table(service.answer(MatchRequest(context="sdss_dr16", **fields)))


def test_the_nearest_row_comes_for_each_position_in_order(service: Service, rows: pa.Table) -> None:
    order = [7, 2, 2, 9]
    ra, dec = (rows[name].to_numpy()[order] for name in ("ra", "dec"))
    shifted = (dec + 0.5 / 3600).tolist()
    found = match(service, ra=ra.tolist(), dec=shifted, radius=1 / 3600, columns=("z", "class"))
    assert found.column_names == ["row", "separation", "status", "specobjid", "z", "class"]
    assert found["row"].to_pylist() == [0, 1, 2, 3]
    assert found["specobjid"].to_pylist() == rows["specobjid"].take(order).to_pylist()
    assert found["z"].to_pylist() == rows["z"].take(order).to_pylist()
    assert found["separation"].to_numpy() == pytest.approx(0.5 / 3600, rel=1e-6)
    assert found.schema.field("separation").metadata[b"unit"] == b"deg"


def test_positions_without_a_match_are_null_or_left_out_or_an_error(service: Service, rows: pa.Table) -> None:
    ra, dec = [200.0, rows["ra"][0].as_py(), 201.0], [-80.0, rows["dec"][0].as_py(), -80.0]
    null = match(service, ra=ra, dec=dec, radius=1 / 3600)
    assert null["status"].to_pylist() == ["missing", "ok", "missing"]
    assert null["specobjid"].to_pylist() == [None, rows["specobjid"][0].as_py(), None]
    assert null["separation"].to_pylist() == [None, 0.0, None]
    skip = match(service, ra=ra, dec=dec, radius=1 / 3600, missing="skip")
    assert skip["row"].to_pylist() == [1]
    with pytest.raises(NotFound, match="match: 2 of 3 entries have no match; the first is row 0"):
        match(service, ra=ra, dec=dec, radius=1 / 3600, missing="raise")
    nothing = match(service, ra=[200.0], dec=[-80.0], radius=1 / 3600, columns=("z",))
    assert nothing["z"].to_pylist() == [None]
    assert nothing.schema.field("z").type == rows.schema.field("z").type


def test_all_rows_within_the_radius_come_sorted_by_separation(service: Service, rows: pa.Table) -> None:
    ra, dec = rows["ra"][0].as_py(), rows["dec"][0].as_py()
    found = match(service, ra=[ra], dec=[dec], radius=1.0, nearest=False, catalog="specobjall")
    counted = QueryRequest(context="sdss_dr16", catalog="specobjall", cone=(ra, dec, 1.0))
    assert sorted(found["specobjid"].to_pylist()) == sorted(table(service.answer(counted))["specobjid"].to_pylist())
    separations = found["separation"].to_numpy()
    assert (np.diff(separations) >= 0).all()
    assert set(found["row"].to_pylist()) == {0}


def test_ids_bring_their_rows_of_the_catalogue(service: Service, rows: pa.Table) -> None:
    ids = rows["specobjid"].to_pylist()
    found = match(service, ids=[ids[3], str(ids[1]), 5, ids[3]], columns=("ra", "dec"))
    assert found.column_names == ["row", "status", "specobjid", "ra", "dec"]
    assert found["specobjid"].to_pylist() == [ids[3], ids[1], None, ids[3]]
    assert found["ra"].to_pylist() == [rows["ra"][n].as_py() if n is not None else None for n in (3, 1, None, 3)]


def test_the_spectra_come_in_the_same_stream(service: Service, rows: pa.Table) -> None:
    ids = rows["specobjid"].to_pylist()
    found = match(service, ids=[ids[4], 5, ids[0]], columns=("z",), vectors=("flux", "loglam"))
    assert found.column_names == ["row", "status", "specobjid", "z", "flux", "loglam"]
    assert found["status"].to_pylist() == ["ok", "missing", "ok"]
    alone = SpectraRequest(context="sdss_dr16", ids=[ids[4], ids[0]], columns=("flux", "loglam"))
    spectra = table(service.answer(alone))
    assert found["flux"].to_pylist() == [spectra["flux"][0].as_py(), None, spectra["flux"][1].as_py()]
    assert found.schema.field("flux").metadata == spectra.schema.field("flux").metadata
    assert found.schema.metadata == spectra.schema.metadata
    rest = match(service, ids=[ids[4], 5, ids[0]], columns=("z",), vectors=("flux", "loglam"), start=2)
    assert rest.equals(found.slice(2))


def test_a_match_resumes_where_it_broke(service: Service, rows: pa.Table) -> None:
    ids = rows["specobjid"].to_pylist()
    assert match(service, ids=ids, start=7).equals(match(service, ids=ids).slice(7))


def test_positions_may_be_in_another_frame(service: Service, rows: pa.Table) -> None:
    from astropy.coordinates import SkyCoord

    ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    galactic = SkyCoord(ra, dec, unit="deg").galactic
    found = match(
        service, ra=galactic.l.deg.tolist(), dec=galactic.b.deg.tolist(), radius=1e-3 / 3600, frame="galactic"
    )
    assert found["specobjid"].to_pylist() == rows["specobjid"].to_pylist()


def test_an_uploaded_table_stands_in_for_the_list(service: Service, rows: pa.Table) -> None:
    request = MatchRequest(context="sdss_dr16", radius=1 / 3600)
    found = table(service.answer(request, rows.select(["z", "ra", "dec"])))
    assert found["specobjid"].to_pylist() == rows["specobjid"].to_pylist()
    by_id = table(service.answer(MatchRequest(context="sdss_dr16"), rows.select(["specobjid"])))
    assert by_id["specobjid"].to_pylist() == rows["specobjid"].to_pylist()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"radius": 0.1}, "ra: the list to match is empty"),
        ({"ids": []}, "ids: the list to match is empty"),
        ({"ra": [1.0], "dec": [1.0]}, "radius: a match of positions needs one"),
        ({"ids": [1], "radius": 0.1}, "radius: 0.1 has no meaning for ids"),
        ({"ra": [1.0], "dec": [91.0], "radius": 0.1}, "91"),
        ({"ra": [1.0], "dec": [1.0], "radius": 170.0}, "radius"),
        ({"ids": ["M31"]}, "M31"),
        ({"ids": [1], "columns": ("nosuch",)}, "nosuch"),
        ({"ids": [1], "columns": ("status",)}, "columns: 'status' is another column"),
        ({"ids": [1], "columns": ("STATUS",)}, "columns: 'status' is another column"),
        ({"ids": [1], "columns": ("flux",), "vectors": ("flux",)}, "columns: 'flux' is another column"),
        ({"ids": [1], "vectors": ("z",)}, "columns: 'z' is not one of flux"),
    ],
)
def test_a_match_at_fault_is_refused_by_name(service: Service, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        match(service, **fields)


@pytest.mark.parametrize(
    ("upload", "named"),
    [
        (pa.table({"ra": [1.0]}), "dec: the table has no such column"),
        (pa.table({"ra": ["1:2:3"], "dec": [1.0]}), "ra: the column holds string, not degrees"),
        (pa.table({"ra": [1.0], "dec": pa.array([None], pa.float64())}), "dec: 1 of 1 values are null"),
    ],
)
def test_an_uploaded_table_at_fault_is_refused_by_name(service: Service, upload: pa.Table, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        service.answer(MatchRequest(radius=0.1, context="sdss_dr16"), upload)


def test_too_long_a_list_or_an_answer_is_an_error_that_names_the_limit(
    sim_served: Path, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECFLIGHT_MAX_IDS", "5")
    monkeypatch.setenv("SPECFLIGHT_MAX_ROWS", "3")
    with closing(Service(sim_served)) as limited:
        with pytest.raises(LimitExceeded, match="ids: 10 entries are more than the limit max_ids = 5"):
            match(limited, ids=rows["specobjid"].to_pylist())
        with pytest.raises(LimitExceeded, match="3"):
            match(limited, ids=rows["specobjid"].to_pylist()[:4])
        with pytest.raises(LimitExceeded, match="3"):
            match(limited, ra=[30.5], dec=[0.0], radius=2.0, nearest=False)


def test_a_match_ends_with_the_time_of_a_query(sim_served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECFLIGHT_QUERY_SECONDS", "1e-9")
    with closing(Service(sim_served)) as hurried, pytest.raises(QueryTimeout, match="1e-09 s"):
        match(hurried, ra=[30.5], dec=[0.0], radius=2.0, nearest=False)


def test_a_cancelled_match_ends(service: Service) -> None:
    request = MatchRequest(context="sdss_dr16", ra=[30.5], dec=[0.0], radius=2.0)
    with pytest.raises(QueryTimeout, match="cancelled"):
        service.answer(request, cancellation=Cancellation(lambda: True))
