"""The small endpoints over HTTP: the texts of the old service, and objects."""

from __future__ import annotations

import csv
import io
import socket
from pathlib import Path

import httpx
import pytest
from fixtures_http import app_served

from specflight.client import Client

TEXT = "text/plain; charset=utf-8"


def said(answer: httpx.Response, status: int = 200, kind: str = TEXT) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (status, kind)
    return answer.text


@pytest.mark.parametrize("context", ["None", "", None])
def test_the_list_of_contexts_is_the_text_of_old(web: httpx.Client, context: str | None) -> None:
    given = {} if context is None else {"context": context}
    text = said(web.get("/contexts", params=given | {"format": "text"}))
    first, *others = text.splitlines(keepends=True)
    assert first == "         default   Default data context (default: sdss_dr16_fits)\n"
    assert any(line.startswith("       sdss_dr12   ") for line in others)
    assert said(web.get("/contexts", params=given)) == text


def test_a_context_is_an_object_whatever_the_format(web: httpx.Client) -> None:
    every = web.get("/contexts", params={"context": "None", "format": "json"}).json()
    assert next(iter(every)) == "default"
    for fmt in ("text", "json", "csv"):
        answer = web.get("/contexts", params={"context": "sdss_dr16", "format": fmt})
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == every["sdss_dr16"]
    one = every["sdss_dr16"]
    assert list(one)[:7] == ["description", "type", "catalog", "id_main", "redshift", "rest_frame", "catalogs"]
    assert (one["catalog"], one["id_main"], one["redshift"], one["rest_frame"]) == (
        "sdss_dr16.specobj",
        "specobjid",
        "z",
        "false",
    )


def test_profiles(web: httpx.Client) -> None:
    assert said(web.get("/profiles", params={"profile": "None", "format": "text"})) == (
        "         default   Default service\n"
    )
    one = {"description": "Default service", "type": "public", "vosRoot": ""}
    assert web.get("/profiles", params={"profile": "default"}).json() == one
    assert web.get("/profiles", params={"format": "json"}).json() == {"default": one}


@pytest.mark.parametrize(
    ("path", "heading"),
    [
        ("/contexts", "context_name"),
        ("/profiles", "profile_name"),
        ("/catalogs?context=sdss_dr16", "catalog_name"),
    ],
)
def test_lists_as_csv(web: httpx.Client, path: str, heading: str) -> None:
    text = said(web.get(f"{path}{'&' if '?' in path else '?'}format=csv"), kind="text/csv; charset=utf-8")
    header, *rows = csv.reader(io.StringIO(text))
    assert header == [heading, "description"]
    assert rows
    assert all(len(row) == 2 for row in rows)


def test_catalogues(web: httpx.Client, sim_client: Client) -> None:
    asked = {"context": "sdss_dr16", "profile": "default"}
    text = said(web.get("/catalogs", params=asked | {"format": "text"}))
    assert text.startswith("Catalogs used by 'sdss_dr16' context:\n\n             sdss_dr16.specobj   primary spectra")
    assert said(web.get("/catalogs")).startswith("Catalogs used by 'default' context:\n\n")
    told = web.get("/catalogs", params=asked | {"format": "json"}).json()
    assert told == sim_client.catalogs("sdss_dr16", "json")
    assert {"name": "ra", "type": "double", "unit": "deg"}.items() <= told[0]["columns"][1].items()


@pytest.mark.parametrize(
    ("what", "value", "answer"),
    [
        ("context", "sdss_dr16", "OK"),
        ("context", "default", "OK"),
        ("context", "nosuch", "Error"),
        ("context", "", "Error"),
        ("profile", "default", "OK"),
        ("profile", "nosuch", "Error"),
    ],
)
def test_validation_is_one_word(web: httpx.Client, what: str, value: str, answer: str) -> None:
    assert said(web.get("/validate", params={"what": what, "value": value})) == answer


def test_what_cannot_be_validated(web: httpx.Client) -> None:
    assert said(web.get("/validate", params={"what": "foo", "value": "x"}), 400) == 'Error: unknown validation "foo"'
    assert said(web.get("/validate", params={"value": "x"}), 400) == "Param Error: 'what'"
    assert said(web.get("/validate", params={"what": "context"}), 400) == "Param Error: 'value'"


@pytest.mark.parametrize(
    ("path", "params", "status", "words"),
    [
        ("/contexts", {"context": "nosuch"}, 404, "context: there is no context 'nosuch'"),
        ("/profiles", {"profile": "nosuch"}, 404, "profile: there is no profile 'nosuch'"),
        ("/catalogs", {"context": "nosuch"}, 404, "'nosuch'"),
        ("/catalogs", {"profile": "nosuch"}, 404, "profile: there is no profile 'nosuch'"),
        ("/contexts", {"format": "xml"}, 400, "format: 'xml' is not one of text, csv, json"),
        ("/profiles", {"format": "xml"}, 400, "format: 'xml' is not one of text, csv, json"),
        ("/catalogs", {"format": "xml"}, 400, "format: 'xml' is not one of text, csv, json"),
        ("/available", {"x": "1"}, 400, "x: is not a parameter here"),
    ],
)
def test_what_is_not_there_is_named(
    web: httpx.Client, path: str, params: dict[str, str], status: int, words: str
) -> None:
    text = said(web.get(path, params=params), status)
    assert text.startswith("Error: ")
    assert words in text


@pytest.mark.parametrize("path", ["/contexts", "/profiles", "/catalogs", "/validate", "/available"])
def test_they_answer_get_only(web: httpx.Client, path: str) -> None:
    assert web.post(path).status_code == 405


def test_the_service_is_available_while_flight_is(web: httpx.Client, sim_served: Path, tmp_path: Path) -> None:
    assert said(web.get("/available")) == "True"
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with app_served((f"grpc://127.0.0.1:{port}",), sim_served, tmp_path, flight_seconds=0.5) as alone:
        assert said(alone.web.get("/available")) == "False"
        assert said(alone.web.get("/contexts"), 503).startswith("Error: ")
