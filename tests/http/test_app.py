from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest
from fixtures_http import Scratch, wait_for

import specflight
from specflight.client import Client
from specflight.flight.tokens import TokenKey
from specflight.http.app import ENDPOINTS
from specflight.tools.serve import Running


@pytest.mark.parametrize("prefix", ["", "/spec"])
def test_the_service_answers_at_both_places(web: httpx.Client, sim_server: Running, prefix: str) -> None:
    hello = web.get(f"{prefix}/")
    assert web.get(prefix or "/").text == hello.text
    assert hello.text.lower().startswith("hello world")
    assert (hello.status_code, hello.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert specflight.__version__ in hello.text
    assert web.get(f"{prefix}/ping").text == "OK"
    assert web.get(f"{prefix}/flight").json() == {"endpoints": list(sim_server.flight)}
    assert web.get(f"{prefix}/healthz").json() == {"status": "ok"}


def test_the_endpoints_that_it_names_are_the_flight_servers(web: httpx.Client) -> None:
    endpoints = web.get("/flight").json()["endpoints"]
    assert len(endpoints) == 2
    for endpoint in endpoints:
        with Client(endpoint, timeout=5) as client:
            assert client.isAlive()


@pytest.mark.parametrize("path", ["/", "/ping", "/flight", "/healthz", "/spec/ping"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_method_that_is_not_served_is_405(web: httpx.Client, path: str, method: str) -> None:
    assert web.request(method, path).status_code == 405


def test_a_path_that_is_not_there_is_404(web: httpx.Client) -> None:
    answer = web.get("/../../etc/passwd")
    assert answer.status_code == 404
    assert "root:" not in answer.text
    assert web.get("/nothing").text == "Error: there is no /nothing"


OWN = {"/", "/ping", "/flight", "/healthz", "/metrics"}


def test_openapi_describes_every_endpoint(web: httpx.Client) -> None:
    described = web.get("/openapi.json").json()
    assert set(described["paths"]) >= {*OWN, *(endpoint.path for endpoint in ENDPOINTS)}
    assert not [path for path in described["paths"] if path.startswith("/spec")]
    assert described["info"]["version"] == specflight.__version__
    assert set(described["paths"]["/healthz"]["get"]["responses"]) >= {"200", "503"}


def test_health_follows_the_flight_server(scratch: Scratch) -> None:
    (worker,) = scratch.running.worker_pids
    assert scratch.web.get("/healthz").status_code == 200
    os.kill(worker, signal.SIGSTOP)  # neither dead nor alive, so that nobody replaces it
    try:
        answer = scratch.web.get("/healthz")
        assert (answer.status_code, answer.json()) == (503, {"status": "down"})
        assert scratch.web.get("/ping").text == "OK"
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_for(lambda: scratch.web.get("/healthz").status_code == 200, seconds=20)


def test_what_is_told_to_one_caller_is_not_kept_for_others(web: httpx.Client, sim_served: Path) -> None:
    headers = {"X-DL-AuthToken": TokenKey(sim_served).issue("alice")}
    assert web.get("/storage/ls", headers=headers).headers["cache-control"] == "private, no-store"
    assert "cache-control" not in web.get("/contexts").headers


def test_operations_have_names_that_say_what_they_do(web: httpx.Client) -> None:
    paths = web.get("/openapi.json").json()["paths"]
    assert paths["/healthz"]["get"]["summary"] == "Ask a Flight server how it is"
    assert paths["/getSpec"]["post"]["summary"] == "Spectra of a list, in its order."
