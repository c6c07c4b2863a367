from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest
from fixtures_http import app_served
from hypothesis import given as drawn
from hypothesis import strategies as st
from pydantic import Field
from webspectra import CONTEXT, arrays

from specflight.client import Client
from specflight.errors import InvalidRequest
from specflight.http.parameters import MissingParameter, Parameters, check_parameters
from specflight.tools.serve import Running


class Wanted(Parameters):
    id_list: str | list[int] = Field(description="ids")
    align: bool = False
    w0: float = 0.0
    out: str | None = None


def given(ids: list[int]) -> dict[str, str]:
    return {"id_list": str(ids[:3]), "align": "True", "w0": "3.5", "w1": "4.1", "context": CONTEXT}


def rest(fields: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name != "id_list"}


WAYS: dict[str, Callable[[dict[str, str]], dict[str, Any]]] = {
    "query string": lambda fields: {"method": "GET", "params": fields},
    "query string of a POST": lambda fields: {"method": "POST", "params": fields},
    "form": lambda fields: {"method": "POST", "data": fields},
    "JSON": lambda fields: {"method": "POST", "json": fields},
    "JSON with types": lambda fields: {
        "method": "POST",
        "json": fields | {"id_list": json.loads(fields["id_list"]), "align": True, "w0": 3.5, "w1": 4.1},
    },
    "query string and form": lambda fields: {
        "method": "POST",
        "params": {"id_list": fields["id_list"]},
        "data": rest(fields),
    },
    "form with a file": lambda fields: {
        "method": "POST",
        "data": rest(fields),
        "files": {"id_list": ("ids.txt", fields["id_list"])},
    },
    "form of another name": lambda fields: {
        "method": "POST",
        "content": urlencode(fields),
        "headers": {"content-type": "text/ascii"},
    },
    "form without a name": lambda fields: {"method": "POST", "content": urlencode(fields)},
}


@pytest.mark.parametrize("way", WAYS)
def test_parameters_come_in_any_way(web: httpx.Client, sim_client: Client, ids: list[int], way: str) -> None:
    answer = web.request(url="/getSpec", **WAYS[way](given(ids)))
    spectra = arrays(answer)
    assert spectra.shape == (3, 6001)
    assert np.array_equal(spectra["flux"], sim_client.getSpec(ids[:3], cutout=f"{10**3.5}-{10**4.1}")["flux"])


@pytest.mark.parametrize("blank", ["", "None", None])
def test_what_old_clients_write_for_nothing_is_nothing(web: httpx.Client, ids: list[int], blank: str | None) -> None:
    plain = web.post("/getSpec", json={"id_list": ids[0], "context": CONTEXT}).content
    nothing = dict.fromkeys(("w0", "w1", "out", "align", "cutout", "values", "format", "profile"), blank)
    assert web.post("/getSpec", json=nothing | {"id_list": ids[0], "context": CONTEXT}).content == plain
    if blank is not None:
        assert web.post("/getSpec", data=nothing | {"id_list": str(ids[0]), "context": CONTEXT}).content == plain


def test_a_parameter_that_is_needed_is_named_as_it_used_to_be(web: httpx.Client) -> None:
    with pytest.raises(MissingParameter) as error:
        check_parameters({}, Wanted)
    assert (str(error.value), error.value.http_status) == ("id_list", 400)
    for answer in (web.post("/getSpec"), web.get("/getSpec"), web.post("/getSpec", json={})):
        assert (answer.status_code, answer.text) == (400, "Param Error: 'id_list'")


GIVEN = {"id_list": "1"}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"data": GIVEN | {"w0": "red"}}, "w0: Input should be a valid number.*'red'"),
        ({"data": GIVEN | {"w0": "nan"}}, "w0: .*finite"),
        ({"data": GIVEN | {"formt": "x"}}, "formt: is not a parameter here; there are .*id_list, .*align, .*w0, .*out"),
        ({"params": {"w0": "1"}, "data": GIVEN | {"w0": "1"}}, "w0: is given twice"),
        ({"content": "id_list=1&id_list=2"}, "id_list: is given twice"),
        ({"content": "[1]", "headers": JSON}, "body: .* is not a JSON object"),
        ({"content": "{", "headers": JSON}, "body: .* is not a JSON object"),
        ({"content": "[" * 100_000, "headers": JSON}, "body: .* is not a JSON object"),
        ({"content": b"\xff\xfe=1"}, "body: is not text in UTF-8"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, "body: is not a form"),
        (
            {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a"}},
            "body: is not a form|id_list",
        ),
        ({"files": {"id_list": ("ids.txt", b"\xff\xfe")}}, "body: is not a form of texts"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_understood_is_named(web: httpx.Client, how: dict[str, Any], said: str) -> None:
    answer = web.post("/getSpec", **how)
    assert answer.status_code == 400
    assert re.match(f"(Param )?Error: '?({said})", answer.text), answer.text


def test_a_body_that_is_too_long_is_refused_whatever_it_says_of_its_length(
    sim_server: Running, sim_served: Path, tmp_path: Path
) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"id_list="
        for _ in range(200):
            yield b"1" * 10

    with app_served(sim_server, sim_served, tmp_path, max_body=1000) as app:
        for content in (b"id_list=" + b"1" * 993, pieces()):
            answer = app.web.post("/getSpec", content=content)
            told = (answer.status_code, answer.text)
            assert told == (413, "Error: body: is longer than the limit max_body = 1000")
        answer = app.web.post("/getSpec", content=b"id_list=" + b"1" * 992)
        assert (answer.status_code, "body" in answer.text) == (400, False)


@drawn(st.dictionaries(st.text(max_size=8), st.one_of(st.text(max_size=8), st.integers(), st.none(), st.booleans())))
def test_any_mapping_is_read_or_refused(given_fields: dict[str, Any]) -> None:
    with suppress(InvalidRequest):
        read = check_parameters(given_fields, Wanted)
        assert json.loads(read.model_dump_json())["id_list"] == given_fields["id_list"]
