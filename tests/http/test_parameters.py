from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from specflight.errors import InvalidRequest, SpecflightError
from specflight.http.parameters import MissingParameter, Parameters, check_parameters, read_parameters


class Wanted(Parameters):
    id_list: str | list[int] = Field(description="ids")
    align: bool = False
    w0: float = 0.0
    out: str | None = None


def _app() -> FastAPI:
    app = FastAPI()

    @app.api_route("/", methods=["GET", "POST"])
    async def echo(request: Request) -> Response:
        try:
            return JSONResponse((await read_parameters(request, Wanted, 1000)).model_dump())
        except SpecflightError as error:
            return PlainTextResponse(f"{type(error).__name__}: {error}", error.http_status)

    return app


@pytest.fixture(scope="module")
def web() -> Iterator[httpx.Client]:
    server = uvicorn.Server(uvicorn.Config(_app(), log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=10) as client:
            yield client
        server.should_exit = True
        thread.join()


GIVEN = {"id_list": "[1, 2]", "align": "True", "w0": "3.58"}
READ = {"id_list": "[1, 2]", "align": True, "w0": 3.58, "out": None, "profile": "default", "debug": "", "verbose": ""}


@pytest.mark.parametrize(
    "how",
    [
        {"method": "GET", "params": GIVEN},
        {"method": "POST", "params": GIVEN},
        {"method": "POST", "data": GIVEN},
        {"method": "POST", "json": GIVEN},
        {"method": "POST", "json": GIVEN | {"align": True, "w0": 3.58}},
        {"method": "POST", "params": {"id_list": "[1, 2]"}, "data": {"align": "1", "w0": "3.58"}},
        {"method": "POST", "data": {"align": "true", "w0": "3.58"}, "files": {"id_list": ("ids.txt", "[1, 2]")}},
        {
            "method": "POST",
            "content": "id_list=%5B1%2C+2%5D&align=True&w0=3.58",
            "headers": {"content-type": "text/ascii"},
        },
        {"method": "POST", "content": "id_list=%5B1%2C+2%5D&align=True&w0=3.58"},
    ],
    ids=str,
)
def test_parameters_come_in_any_way(web: httpx.Client, how: dict[str, Any]) -> None:
    answer = web.request(url="/", **how)
    assert (answer.status_code, answer.json()) == (200, READ)


def test_json_keeps_its_types(web: httpx.Client) -> None:
    assert web.post("/", json={"id_list": [1, 2**63]}).json()["id_list"] == [1, 2**63]


@pytest.mark.parametrize("blank", ["", "None"])
def test_what_old_clients_write_for_nothing_is_nothing(web: httpx.Client, blank: str) -> None:
    answer = web.post("/", data={"id_list": "1", "w0": blank, "out": blank, "align": blank})
    assert (answer.json()["w0"], answer.json()["out"], answer.json()["align"]) == (0.0, None, False)
    assert web.post("/", json={"id_list": "1", "out": None}).json()["out"] is None


def test_a_parameter_that_is_needed_is_named_as_it_used_to_be(web: httpx.Client) -> None:
    with pytest.raises(MissingParameter) as error:
        check_parameters({}, Wanted)
    assert (str(error.value), error.value.http_status) == ("id_list", 400)
    assert web.post("/").status_code == 400


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"data": GIVEN | {"w0": "red"}}, "w0: Input should be a valid number.*'red'"),
        ({"data": GIVEN | {"w0": "nan"}}, "w0: .*finite"),
        ({"data": GIVEN | {"formt": "x"}}, "formt: is not a parameter here; there are .*id_list, align, w0, out"),
        ({"params": {"w0": "1"}, "data": GIVEN}, "w0: is given twice"),
        ({"content": "id_list=1&id_list=2"}, "id_list: is given twice"),
        ({"content": "[1]", "headers": {"content-type": "application/json"}}, "body: .* is not a JSON object"),
        ({"content": "{", "headers": {"content-type": "application/json"}}, "body: .* is not a JSON object"),
        ({"content": "[" * 900, "headers": {"content-type": "application/json"}}, "body: .* is not a JSON object"),
        ({"content": b"\xff\xfe=1"}, "body: is not text in UTF-8"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, "body: is not a form"),
        (
            {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a"}},
            "body: is not a form|id_list",
        ),
        ({"files": {"id_list": ("ids.txt", b"\xff\xfe")}}, "body: is not a form of texts"),
    ],
    ids=str,
)
def test_what_cannot_be_understood_is_named(web: httpx.Client, how: dict[str, Any], said: str) -> None:
    answer = web.post("/", **how)
    assert answer.status_code == 400
    assert httpx.codes.is_client_error(answer.status_code)
    with pytest.raises(InvalidRequest, match=said):
        raise InvalidRequest(answer.text)


def test_a_body_that_is_too_long_is_refused_whatever_it_says_of_its_length(web: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"id_list="
        for _ in range(200):
            yield b"1" * 10

    for content in (b"id_list=" + b"1" * 1000, pieces()):
        answer = web.post("/", content=content)
        assert (answer.status_code, answer.text) == (
            413,
            "LimitExceeded: body: is longer than the limit max_body = 1000",
        )
    assert web.post("/", content=b"id_list=" + b"1" * 992).status_code == 200


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.text(max_size=8), st.integers(), st.none(), st.booleans())))
def test_any_mapping_is_read_or_refused(given_fields: dict[str, Any]) -> None:
    with suppress(InvalidRequest):
        read = check_parameters(given_fields, Wanted)
        assert json.loads(read.model_dump_json())["id_list"] == given_fields["id_list"]
