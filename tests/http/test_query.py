"""``/query`` over HTTP, compared with the catalogue itself over Flight."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from astropy.io import ascii as astropy_ascii
from fixtures_http import Scratch
from starlette.requests import ClientDisconnect
from storageserver import Service, fetch
from webqueries import CONTEXT, EVERY, HUGE, MEDIA, ids, old, refused, rows

from specflight.catalog.identifiers import unpack_specobjid
from specflight.client import Client
from specflight.client._transport import Stream
from specflight.http.query import _response
from specflight.http.tables import FORMATS
from specflight.tools.serve import Running


@pytest.fixture(scope="module")
def web(catalogued: Scratch) -> httpx.Client:
    return catalogued.web


@pytest.fixture(scope="module")
def flight(scratch: Scratch) -> Iterator[Client]:
    with Client(scratch.running.flight, context=CONTEXT) as client:
        yield client


# --- the old client ---------------------------------------------------------------------------------------------------


def test_the_answer_of_the_old_service_to_the_byte(web: httpx.Client, flight: Client) -> None:
    cone = "q3c_radial_query(ra,dec,30.500000,0.000000,3.000000)"
    answer = web.get("/query", params=old(cond=cone))
    expected = flight.query(30.5, 0.0, 3.0, catalog=EVERY)
    assert len(expected) > 1
    assert answer.text == "specobjid\n" + "".join(f"{number}\n" for number in expected)
    assert answer.headers["content-type"] == MEDIA["csv"]
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_identifiers_are_unsigned(web: httpx.Client) -> None:
    answer = web.get("/query", params=old(catalog="vac.masses", cond="specobjid > 9223372036854775807 order by ra"))
    assert answer.text == f"specobjid\n{HUGE}\n{HUGE + 1}\n"


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        ("specobjid", "specobjid"),
        ("z", "specobjid,z"),
        ("ra, dec", "specobjid,ra,dec"),
        ("z,specobjid", "z,specobjid"),
        ("SPECOBJID,z", "specobjid,z"),
        ("plate,mjd,fiberid,run2d", "specobjid,plate,mjd,fiberid,run2d"),
        ("tuple", "specobjid,plate,mjd,fiberid,run2d"),
    ],
)
def test_the_identifier_comes_first_unless_it_is_among_the_fields(web: httpx.Client, fields: str, header: str) -> None:
    assert web.get("/query", params=old(fields, cond=" limit 0")).text == header + "\n"
    assert web.get("/query", params=old(fields, cond=" limit 2")).text.startswith(header + "\n")


def test_an_empty_result_is_the_header(web: httpx.Client) -> None:
    nothing = "q3c_radial_query(ra,dec,30.000000,89.000000,0.010000)"
    assert web.get("/query", params=old(cond=nothing)).text == "specobjid\n"


@pytest.mark.parametrize(
    "cond", [" order by z limit 5", "ORDER BY z LIMIT 5", " z > 0.2 limit 5", " limit 5", "z>0.2 order by z limit 5"]
)
def test_a_condition_may_begin_with_order_or_limit(web: httpx.Client, flight: Client, cond: str) -> None:
    found = ids(web.get("/query", params=old(cond=cond)))
    assert len(found) == 5
    assert found == flight.query(constraint=cond, catalog=EVERY).tolist()


def test_every_way_in_which_regions_are_printed(web: httpx.Client, flight: Client) -> None:
    region = [(30.0, -0.5), (31.0, -0.5), (31.0, 0.5), (30.0, 0.5)]
    expected = flight.query(region, catalog=EVERY).tolist()
    assert expected
    flat = [number for corner in region for number in corner]
    for printed in (region, flat, [list(corner) for corner in region], np.array(region)):
        cond = f"q3c_poly_query(ra,dec,ARRAY{printed}) AND z > -1"
        assert ids(web.get("/query", params=old(cond=cond))) == expected


def test_values_read_back_to_the_bit(web: httpx.Client, flight: Client) -> None:
    fields = "ra,dec,z,zerr,plate,class,specprimary"
    expected = flight.query(fields=fields, catalog=EVERY)
    assert len(expected) > 20
    text = web.get("/query", params=old(fields)).text
    found = astropy_ascii.read(text, format="csv", converters={"specobjid": [astropy_ascii.convert_numpy(np.uint64)]})
    assert found.colnames == expected.column_names
    for name in ("specobjid", "ra", "dec", "plate"):
        np.testing.assert_array_equal(found[name], expected[name].to_numpy())
    for name in ("z", "zerr"):
        np.testing.assert_array_equal(np.asarray(found[name], np.float32), expected[name].to_numpy())
    assert list(found["class"]) == expected["class"].to_pylist()
    assert [row[-1] for row in rows(text)[1:]] == [str(value) for value in expected["specprimary"].to_pylist()]


def test_missing_values_and_odd_texts_of_a_catalogue(web: httpx.Client) -> None:
    answer = web.get("/query", params=old("logmass,name", "vac.masses", "order by ra"))
    assert answer.text == (
        f'specobjid,logmass,name\n{HUGE},10.1,NGC 1\n{HUGE + 1},nan,"the ""odd"", one"\n299489677444933632,,\n,9.0,\n'
    )


# --- one spectrum -----------------------------------------------------------------------------------------------------


def test_one_spectrum_is_named_by_anything_that_is_one(web: httpx.Client, flight: Client) -> None:
    row = flight.query(catalog=EVERY, fields="z,plate,mjd,fiberid,run2d").to_pylist()[3]
    number, plate, mjd, fiberid = (row[name] for name in ("specobjid", "plate", "mjd", "fiberid"))
    z = float(np.float32(row["z"]))
    for spectrum in (number, f"[{number}]", f"({plate}, {mjd}, {fiberid})", f"{plate}-{mjd}-{fiberid}"):
        lines = web.get("/query", params=old("z", spectrum=str(spectrum))).text.split("\n")
        assert lines[0] == "z"
        assert np.float32(float(lines[1])) == z
        assert lines[2:] == [""]
    answer = web.get("/query", params=old("tuple", spectrum=str(number)))
    assert answer.text == f"plate,mjd,fiberid,run2d\n{plate},{mjd},{fiberid},{row['run2d']}\n"
    assert web.get("/query", params=old("specobjid,ra", spectrum=str(number))).text.startswith("specobjid,ra\n")
    assert web.post("/query", json={"id": number, "fields": ["z"], "catalog": EVERY}).status_code == 200
    assert web.get("/query", params=old("logmass", "vac.masses", spectrum=str(HUGE))).text == "logmass\n10.1\n"


def test_a_spectrum_that_is_not_there_is_404(web: httpx.Client) -> None:
    text = refused(web.get("/query", params=old("z", spectrum="123")), 404)
    assert text == f"Error: id: the catalogue '{EVERY}' has no spectrum 123"


def test_the_row_of_a_spectrum_of_another_release_is_found(web: httpx.Client, flight: Client) -> None:
    own = set(flight.query(primary=False).tolist())
    everything = flight.query(context="sdss_dr12", fields="z,plate,mjd,fiberid", primary=False).to_pylist()
    row = next(row for row in everything if row["specobjid"] not in own)
    expected = f"z\n{np.float32(row['z'])!s}\n"
    asked = {"fields": "z", "context": "default"}
    for spectrum in (row["specobjid"], "{plate}-{mjd}-{fiberid}".format(**row)):
        assert web.get("/query", params=asked | {"id": spectrum}).text == expected
    named = asked | {"id": row["specobjid"], "catalog": f"{CONTEXT}.specobj"}
    assert "has no spectrum" in refused(web.get("/query", params=named), 404)
    # The old client names a catalogue to plot any spectrum.
    assert web.get("/query", params=named, headers={"X-DL-ClientVersion": "v1.2.0"}).text == expected
    for missing in (asked | {"id": "123"}, asked | {"id": row["specobjid"], "context": "sdss_dr16_nosuch"}):
        refused(web.get("/query", params=missing), 404)


def test_the_row_of_a_repeated_observation_is_found(real_server: Running) -> None:
    with Client(real_server.flight, context=CONTEXT) as flight, httpx.Client(base_url=real_server.http) as web:
        every = flight.query(fields="z,class", primary=False)
        again = every.filter(~np.isin(every["specobjid"].to_numpy(), flight.query())).to_pylist()
        assert again
        for row in again:
            answer = web.get("/query", params={"id": row["specobjid"], "fields": "z,class", "context": CONTEXT})
            z, kind = rows(answer.text)[1]
            assert (np.float32(float(z)), kind) == (np.float32(row["z"]), row["class"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"id": "[1, 2]"}, "id: '[1, 2]' is not one spectrum"),
        ({"id": "(266, '*', 1)"}, "is not one spectrum"),
        ({"id": "(266,51630,'1-3')"}, "is not one spectrum"),
        ({"id": "(266,)"}, "is not one spectrum"),
        ({"id": "x"}, "'x'"),
        ({"id": "1", "cond": "z > 1"}, "cond: id names the row already"),
        ({"id": "1", "ra": "1", "dec": "1", "size": "1"}, "dec: id names the row already"),
    ],
)
def test_an_identifier_that_is_not_one_spectrum_is_refused(web: httpx.Client, more: dict[str, str], said: str) -> None:
    assert said in refused(web.get("/query", params={"catalog": EVERY, "fields": "z"} | more), 400)


def test_tuples_come_from_the_identifiers_where_a_catalogue_has_no_such_columns(web: httpx.Client) -> None:
    parts = unpack_specobjid([HUGE])
    expected = [str(HUGE), *(str(getattr(parts, name)[0]) for name in ("plate", "mjd", "fiberid", "run2d"))]
    for fields in ("tuple", "plate,mjd,fiberid,run2d"):
        header, *found = rows(web.get("/query", params=old(fields, "vac.masses", "order by ra")).text)
        assert header == ["specobjid", "plate", "mjd", "fiberid", "run2d"]
        assert found[0] == expected
        assert found[3] == [""] * 5
    assert "no column 'plate'" in refused(web.get("/query", params=old("plate,mjd", "vac.masses")), 400)


# --- ways to ask ------------------------------------------------------------------------------------------------------


CONE: dict[str, Any] = {"ra": 30.5, "dec": 0.0, "size": 3.0}
CORNERS = [(30.0, -0.5), (31.0, -0.5), (31.0, 0.5), (30.0, 0.5)]
FLAT = [number for corner in CORNERS for number in corner]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ({"ra": "30.5", "dec": "0", "size": "3"}, CONE),
        (CONE, CONE),
        ({"region": str(FLAT)[1:-1]}, {"region": CORNERS}),
        ({"region": str(CORNERS)}, {"region": CORNERS}),
        ({"region": str([list(corner) for corner in CORNERS])}, {"region": CORNERS}),
        ({"region": CORNERS}, {"region": CORNERS}),
        ({"region": FLAT}, {"region": CORNERS}),
        ({"box": "30, 31, -0.5, 0.5"}, {"box": (30, 31, -0.5, 0.5)}),
        ({"box": [30, 31, -0.5, 0.5]}, {"box": (30, 31, -0.5, 0.5)}),
        ({"where": "z > 0.2"}, {"constraint": "z > 0.2"}),
        (
            {"cond": "z > 0.2", "order_by": "z DESC", "limit": "7", "offset": "2"},
            {"constraint": "z > 0.2", "order_by": "z DESC", "limit": 7, "offset": 2},
        ),
        (
            {"ra": "30.5", "dec": "0", "size": "3", "cond": "z > -1 limit 1"},
            CONE | {"constraint": "z > -1 limit 1"},
        ),
        (
            {"ra": "157.8", "dec": "-58.0", "size": "3", "frame": "galactic"},
            {"ra": 157.8, "dec": -58.0, "size": 3.0, "frame": "galactic"},
        ),
    ],
)
def test_positions_and_conditions_mean_what_they_mean_to_the_client(
    web: httpx.Client, flight: Client, asked: dict[str, Any], meant: dict[str, Any]
) -> None:
    common = {"catalog": EVERY, "context": CONTEXT}
    expected = flight.query(catalog=EVERY, **meant).tolist()
    assert expected
    if all(isinstance(value, str) for value in asked.values()):
        assert ids(web.get("/query", params=asked | common)) == expected
        assert ids(web.post("/query", data=asked | common)) == expected
    assert ids(web.post("/query", json=asked | common)) == expected


def test_without_a_context_and_a_catalogue_it_is_the_default_one(web: httpx.Client, flight: Client) -> None:
    assert ids(web.get("/query", params={"fields": "specobjid"})) == flight.query(context="default").tolist()


def test_an_answer_can_go_to_the_storage(web: httpx.Client, scratch: Scratch, service: Service) -> None:
    headers = scratch.headers("alice")
    asked = {"fields": "z", "catalog": EVERY, "context": CONTEXT, "format": "parquet"}
    answer = web.get("/query", params=asked | {"out": "vos://found/z.parquet"}, headers=headers)
    assert (answer.status_code, answer.text) == (200, "OK")
    assert fetch(service, "vos://found/z.parquet") == web.get("/query", params=asked).content
    refused(web.get("/query", params=asked | {"out": "vos://z.parquet"}), 401)
    wrong = {"fields": "nothing", "out": "vos://never.csv"}
    assert "no column 'nothing'" in refused(web.get("/query", params=asked | wrong, headers=headers), 400)
    assert service.ask("/ls", name="vos://").text == "found,public"


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"cond": "z >"}, 400, "where"),
        ({"cond": "z > 1; drop table specobj"}, 400, "a second statement is refused"),
        ({"cond": "nosuch > 1"}, 400, "no column 'nosuch'"),
        ({"fields": "nosuch"}, 400, "there is no column 'nosuch'"),
        ({"fields": "z", "catalog": "sdss_dr16.nosuch"}, 404, "nosuch"),
        ({"fields": "z", "context": "nosuch"}, 404, "nosuch"),
        ({"fields": "z", "profile": "nosuch"}, 404, "there is no profile 'nosuch'"),
        ({"ra": "1", "dec": "2"}, 400, "ra do not make a region"),
        ({"ra": "x", "dec": "2", "size": "1"}, 400, "ra"),
        ({"ra": "nan", "dec": "2", "size": "1"}, 400, "ra"),
        ({"region": "1,2,x"}, 400, "region"),
        ({"region": "1,2,3"}, 400, "region"),
        ({"box": "1,2,3"}, 400, "box"),
        ({"ra": "1", "dec": "2", "size": "1", "box": "1,2,3,4"}, 400, "do not make a region"),
        ({"limit": "-1"}, 400, "limit"),
        ({"limit": "1", "cond": "limit 2"}, 400, "limit: it is given twice"),
        ({"frame": "flat", "limit": "1"}, 400, "frame"),
        ({"fields": "z", "nonsense": "1"}, 400, "nonsense: is not a parameter here"),
        ({"fields": "z", "out": "/etc/passwd"}, 400, "/etc/passwd"),
    ],
)
def test_a_refusal_is_a_sentence_with_its_status(
    web: httpx.Client, asked: dict[str, str], status: int, said: str
) -> None:
    text = refused(web.get("/query", params={"context": CONTEXT} | asked), status)
    assert text.startswith("Error: ")
    assert said in text
    assert "\n" not in text


def test_a_request_for_nothing_in_particular_misses_its_fields(web: httpx.Client) -> None:
    for nothing in ({}, {"format": "json", "catalog": EVERY}, {"id": "", "fields": "None", "cond": ""}):
        assert refused(web.get("/query", params=nothing), 400) == "Param Error: 'fields'"


def test_more_rows_than_the_limit_are_413(web: httpx.Client) -> None:
    asked = {"fields": "z", "catalog": "vac.many", "context": CONTEXT}
    assert "max_rows" in refused(web.get("/query", params=asked), 413)


@pytest.mark.parametrize(
    "body",
    [
        {"id": {"a": 1}},
        {"id": True},
        {"id": [[1, 2, [3]]]},
        {"id": [299489677444933632, [1]]},
        {"fields": 5},
        {"fields": ["z", 5]},
        {"fields": ""},
        {"fields": ["", ""]},
        {"region": [[1, 2], [3]]},
        {"region": [["a", 1], [2, 3], [4, 5]]},
        {"region": {"x": 1}},
        {"region": [[1, 2], 3, [4, 5]]},
        {"region": []},
        {"box": [1, 2, 3, 1e308]},
        {"box": "1,2,3,1e999"},
        {"limit": 1e300},
        {"limit": "many"},
        {"cond": ["z > 1"]},
        {"cond": "\ud800"},
        {"catalog": "\ud800", "fields": "z"},
        {"context": "a\0b", "fields": "z"},
        {"order_by": "z; drop table x"},
        {"format": ["csv"], "fields": "z"},
        {"out": 5, "fields": "z"},
    ],
)
def test_nonsense_in_a_json_body_is_refused(web: httpx.Client, body: dict[str, Any]) -> None:
    answer = web.post("/query", content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code in (400, 404), answer.text


def test_who_hangs_up_ends_the_stream() -> None:
    closed = False

    def endless() -> Iterator[pa.RecordBatch]:
        nonlocal closed
        try:
            while True:
                yield pa.record_batch({"specobjid": np.arange(100_000, dtype=np.uint64)})
        finally:
            closed = True

    stream = Stream(pa.schema({"specobjid": pa.uint64()}), endless())
    response = _response(FORMATS["csv"].write(stream), stream, "text/csv")
    sent = 0

    async def send(message: Any) -> None:  # noqa: ANN401 - of ASGI
        nonlocal sent
        sent += len(message.get("body", b""))
        if sent > 3_000_000:
            raise OSError

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(60)
        raise AssertionError

    scope = {"type": "http", "path": "/query", "asgi": {"spec_version": "2.4"}}
    with pytest.raises(ClientDisconnect):
        asyncio.run(response(scope, receive, send))
    assert closed
