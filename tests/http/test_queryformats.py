"""``/query`` over HTTP in each of its formats, read by readers that are not ours."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import votable
from fixtures_http import MAX_ROWS, Scratch
from webqueries import CONTEXT, EVERY, MEDIA, refused, rows

from specflight.client import Client


@pytest.fixture(scope="module")
def web(catalogued: Scratch) -> httpx.Client:
    return catalogued.web


@pytest.fixture(scope="module")
def flight(scratch: Scratch) -> Iterator[Client]:
    with Client(scratch.running.flight, context=CONTEXT) as client:
        yield client


WIDE = "specobjid,ra,z,plate,class,specprimary"


def columns(name: str, content: bytes) -> dict[str, list[Any]]:
    """Columns of an answer, by a reader that is not ours."""
    if name == "csv":
        header, *found = rows(content.decode())
        return {column: list(values) for column, values in zip(header, zip(*found, strict=True), strict=True)}
    if name == "json":
        told = json.loads(content)
        header = [column["name"] for column in told["columns"]]
        return {column: list(values) for column, values in zip(header, zip(*told["rows"], strict=True), strict=True)}
    if name == "votable":
        array = votable.parse(io.BytesIO(content), verify="exception").get_first_table().array
        return {column: array[column].tolist() for column in array.dtype.names}
    table = pa.ipc.open_stream(content).read_all() if name == "arrow" else pq.read_table(io.BytesIO(content))
    found_columns: dict[str, list[Any]] = table.to_pydict()
    return found_columns


@pytest.mark.parametrize("name", MEDIA)
def test_every_format_holds_what_the_catalogue_does(web: httpx.Client, flight: Client, name: str) -> None:
    expected = flight.query(fields=WIDE, catalog=EVERY, order_by="specobjid")
    assert expected["specobjid"][-1].as_py() >= 2**63
    asked = {"fields": WIDE, "catalog": EVERY, "order_by": "specobjid", "context": CONTEXT}
    answer = web.get("/query", params=asked | {"format": name})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == MEDIA[name]
    assert answer.headers["vary"] == "accept"
    found = columns(name, answer.content)
    assert list(found) == WIDE.split(",")
    assert [int(value) for value in found["specobjid"]] == expected["specobjid"].to_pylist()
    for column in ("ra", "z"):
        numbers = expected[column].to_numpy()
        read = np.array([float(value) for value in found[column]]).astype(numbers.dtype)
        np.testing.assert_array_equal(read.view(np.uint8), numbers.view(np.uint8))
    assert [int(value) for value in found["plate"]] == expected["plate"].to_pylist()
    assert found["class"] == expected["class"].to_pylist()
    assert [str(value) for value in found["specprimary"]] == [str(v) for v in expected["specprimary"].to_pylist()]
    accepted = web.get("/query", params=asked, headers={"accept": MEDIA[name].partition(";")[0]})
    assert accepted.content == answer.content
    assert web.get("/query", params=asked | {"fmt": name}, headers={"accept": "image/png"}).content == answer.content


def test_units_are_told(web: httpx.Client) -> None:
    asked = {"fields": "ra,z", "limit": "1"}
    told = web.get("/query", params=asked | {"format": "json"}).json()
    assert [column["unit"] for column in told["columns"]] == ["", "deg", ""]
    assert [column["type"] for column in told["columns"]] == ["uint64", "double", "float"]
    file = votable.parse(io.BytesIO(web.get("/query", params=asked | {"format": "votable"}).content))
    assert str(file.get_first_table().get_field_by_id_or_name("ra").unit) == "deg"


def test_an_unknown_format_is_refused(web: httpx.Client) -> None:
    text = refused(web.get("/query", params={"limit": "1", "format": "xls"}), 400)
    assert text == "Error: format: 'xls' is not one of csv, json, arrow, parquet, votable"


@pytest.mark.parametrize("name", MEDIA)
def test_a_long_answer_is_sent_while_it_is_written(web: httpx.Client, flight: Client, name: str) -> None:
    expected = flight.query(fields="ra,dec,z", catalog="vac.many", limit=MAX_ROWS)
    assert len(expected) == MAX_ROWS
    asked = {"catalog": "vac.many", "fields": "ra,dec,z", "format": name, "context": CONTEXT, "limit": str(MAX_ROWS)}
    with web.stream("GET", "/query", params=asked) as answer:
        assert "content-length" not in answer.headers
        content = answer.read()
    found = columns(name, content)
    assert [int(value) for value in found["specobjid"]] == expected["specobjid"].to_pylist()
    np.testing.assert_array_equal(np.array(found["z"]).astype(np.float32), expected["z"].to_numpy())
