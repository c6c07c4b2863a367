from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from specflight.catalog.database import Cancellation
from specflight.errors import Forbidden, InvalidRequest, LimitExceeded, NotFound, QueryTimeout, Unauthenticated
from specflight.flight.actions import ACTIONS, REQUESTS, Host, act
from specflight.flight.service import Service
from specflight.flight.tokens import ANONYMOUS, Identity


@pytest.fixture(scope="module")
def service(sim_served: Path) -> Iterator[Service]:
    opened = Service(sim_served)
    yield opened
    opened.close()


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_health_names_contexts_and_endpoints(service: Service) -> None:
    health = act(service, "health", b"", Host(["grpc://a:1"]))
    assert (health["status"], health["endpoints"]) == ("ok", ["grpc://a:1"])
    assert health["contexts"] == ["sdss_dr12", "sdss_dr12_fits", "sdss_dr16", "sdss_dr16_fits"]


def test_contexts_are_told_with_where_their_spectra_come_from(service: Service) -> None:
    spectra = len(service.contexts.get("sdss_dr16").source.ids)
    service.contexts.get("sdss_dr16_fits")
    contexts = act(service, "contexts", b"")
    assert list(contexts) == ["default", *service.contexts.names()]
    assert contexts["default"]["description"] == "Default data context (default: sdss_dr16_fits)"
    stored, files = contexts["sdss_dr16"], contexts["sdss_dr16_fits"]
    assert (stored["spectra"], stored["data"], stored["release"]) == (spectra, "store", "DR16")
    assert (files["spectra"], files["data"], files["catalogs"]) == (spectra, "archive", {})
    assert list(stored["catalogs"]) == ["sdss_dr16.specobj", "sdss_dr16.specobjall"]
    assert act(service, "contexts", body(context="sdss_dr16", format="text")) == stored


def test_catalogues_are_told_with_rows_and_columns(service: Service) -> None:
    catalogs = act(service, "catalogs", body(context="sdss_dr16"))
    assert [catalog["name"] for catalog in catalogs] == ["sdss_dr16.specobj", "sdss_dr16.specobjall"]
    columns = {column["name"]: column for column in catalogs[1]["columns"]}
    assert columns["specobjid"]["type"] == "uint64"
    assert columns["ra"]["type"] == "double"
    assert columns["ra"]["unit"] == "deg"
    assert catalogs[1]["rows"] == len(service.contexts.get("sdss_dr16").source.ids)


def test_profiles_and_formats(service: Service) -> None:
    assert act(service, "profiles", body(format="csv")) == "profile_name,description\ndefault,Default service\n"
    assert act(service, "profiles", body(profile="default"))["description"] == "Default service"
    assert act(service, "catalogs", body(format="csv")).startswith("catalog_name,description\n")
    with pytest.raises(NotFound, match="nosuch"):
        act(service, "profiles", body(profile="nosuch"))


@pytest.mark.parametrize(
    ("what", "value", "answer"),
    [
        ("context", "default", "OK"),
        ("context", "sdss_dr16", "OK"),
        ("context", "nope", "Error"),
        ("profile", "default", "OK"),
        ("profile", "nope", "Error"),
    ],
)
def test_validate_says_ok_or_error(service: Service, what: str, value: str, answer: str) -> None:
    assert act(service, "validate", body(what=what, value=value)) == answer


def test_span_gives_the_wavelength_limits(service: Service) -> None:
    source = service.contexts.get("sdss_dr16").source
    limits = act(service, "span", body(what="span", context="sdss_dr16", ids=[str(source.ids[0])]))
    assert limits["w0"] == pytest.approx(source.k0[0] * 1e-4, abs=1e-6)
    assert limits["w1"] == pytest.approx((source.k0[0] + source.npix[0] - 1) * 1e-4, abs=1e-6)


def test_count_counts_what_a_query_finds(service: Service) -> None:
    for asked in ({}, {"cone": [30.5, 0.0, 0.8]}, {"where": "z > 0.1"}, {"cone": [30.5, 0.0, 0.8], "where": "z > 0.1"}):
        request = {"what": "query", "context": "sdss_dr16", "catalog": "specobjall", **asked}
        rows = act(service, "count", body(**request))
        # A limit far above leaves the rows as they are.
        table = act(service, "explain", body(**request, limit=10**6))
        assert table["rows"] == rows > 0
        assert act(service, "count", body(**request, limit=3, offset=rows - 2)) == 2
        assert act(service, "count", body(**request, limit=1)) == 1
        assert act(service, "count", body(**request, offset=rows + 5)) == 0
    with pytest.raises(InvalidRequest, match="count takes a query request, not 'span'"):
        act(service, "count", body(what="span", ids=[1]))


def test_explain_tells_rows_bytes_and_seconds_and_what_is_missing(service: Service) -> None:
    source = service.contexts.get("sdss_dr16").source
    ids = [int(specobjid) for specobjid in source.ids[:5]]
    told = act(service, "explain", body(what="spectra", context="sdss_dr16", ids=[*ids, 7], columns=["flux", "ivar"]))
    assert (told["rows"], told["exact"], told["missing"]) == (6, True, 1)
    assert told["bytes"] == 2 * 4 * int(source.npix[:5].sum())
    assert 0 < told["seconds"] < 10
    query = {"what": "query", "context": "sdss_dr16", "columns": ["specobjid", "ra", "dec"], "where": "z >= 0"}
    told = act(service, "explain", body(**query))
    assert told["rows"] == act(service, "count", body(**query))
    assert told["bytes"] == 24 * told["rows"]
    found = {"cone": [30.5, 0.0, 0.8], "catalog": "specobjall"}
    told = act(service, "explain", body(what="spectra", context="sdss_dr16", query=found, columns=["flux"]))
    assert told["rows"] == act(service, "count", body(what="query", context="sdss_dr16", **found))
    assert told["bytes"] > 4 * 3000 * told["rows"]


def test_explain_is_cancelled_and_keeps_the_limits(service: Service) -> None:
    query = body(what="query", context="sdss_dr16", where="z > 0")
    with pytest.raises(QueryTimeout, match="cancelled"):
        act(service, "explain", query, cancellation=Cancellation(lambda: True))
    many = [0.0] * 1_000_001
    with pytest.raises(LimitExceeded, match="1000001 entries are more than the limit max_ids"):
        act(service, "explain", body(what="match", ra=many, dec=many, radius=1.0))


def test_explain_of_a_match_says_what_it_will_be_at_most(service: Service) -> None:
    told = act(service, "explain", body(what="match", ra=[1.0, 2.0], dec=[0.0, 0.0], radius=0.1))
    assert (told["rows"], told["exact"]) == (2, False)


def test_the_list_of_actions_is_complete(service: Service) -> None:
    assert list(ACTIONS)[:5] == ["health", "contexts", "profiles", "catalogs", "validate"]
    assert list(ACTIONS)[5:] == ["span", "count", "explain", "whoami", "debug", "shutdown"]


@pytest.mark.parametrize("name", ["", "None"])
def test_what_old_clients_write_for_no_context_is_the_default(service: Service, name: str) -> None:
    assert act(service, "catalogs", body(context=name, format="text")).startswith("Catalogs used by 'default' context")


@pytest.mark.parametrize(
    ("name", "fields", "named"),
    [
        ("reboot", b"", "action: 'reboot' is not one of health, contexts"),
        ("catalogs", b"[]", "body: .* is not a JSON object"),
        ("catalogs", b"{", "body: .* is not a JSON object"),
        ("catalogs", b"[" * 200_000, "body: .* is not a JSON object"),
        ("catalogs", b'{"context": 3}', "context: expected a text, got 3"),
        ("catalogs", b'{"contxt": "x"}', "body: 'contxt' is not one of context, format"),
        ("contexts", b'{"format": "xml"}', "format: 'xml'"),
        ("validate", b"", "what: expected a text, got None"),
        ("validate", b'{"what": "user", "value": "x"}', "what: 'user' cannot be validated"),
        ("validate", b'{"what": "context"}', "value: expected a text"),
        ("span", b"", "request"),
        ("span", b'{"what": "spectra", "ids": [1]}', "what: the action span takes a span request, not 'spectra'"),
        ("count", b'{"what": "query", "context": "sdss_dr16", "where": "zz > 1"}', "zz"),
    ],
)
def test_an_action_at_fault_is_refused_by_name(service: Service, name: str, fields: bytes, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        act(service, name, fields)


HOUR = 3600
ADMIN, USER = Identity("root", True, time.time() + HOUR), Identity("alice", False, time.time() + HOUR)


def test_a_caller_is_told_who_they_are(service: Service) -> None:
    assert act(service, "whoami", b"") == {"name": "anonymous", "admin": False, "seconds": None}
    told = act(service, "whoami", b"", caller=ADMIN)
    assert (told["name"], told["admin"]) == ("root", True)
    assert 0 < told["seconds"] <= HOUR


@pytest.mark.parametrize("name", ["shutdown", "debug"])
def test_some_actions_are_for_administrators(service: Service, name: str) -> None:
    ended: list[str] = []
    host = Host(shutdown=lambda: ended.append("now"))
    with pytest.raises(Unauthenticated, match=f"{name} needs the token of an administrator"):
        act(service, name, b"", host, caller=ANONYMOUS)
    with pytest.raises(Forbidden, match=f"'alice' is no administrator, whom {name} needs"):
        act(service, name, b"", host, caller=USER)
    assert not ended


def test_an_administrator_ends_the_service_where_there_is_one(service: Service) -> None:
    ended: list[str] = []
    host = Host(shutdown=lambda: ended.append("now"))
    assert "shutting down" in act(service, "shutdown", b"", host, caller=ADMIN)
    assert ended == ["now"]
    with pytest.raises(InvalidRequest, match="no service to end here"):
        act(service, "shutdown", b"", caller=ADMIN)


def test_debug_logs_requests_and_stops_doing_so(service: Service) -> None:
    assert not REQUESTS.isEnabledFor(logging.DEBUG)
    assert [act(service, "debug", b"", caller=ADMIN) for _ in range(2)] == [True, False]
    assert act(service, "debug", body(on="true"), caller=ADMIN) is True
    assert REQUESTS.isEnabledFor(logging.DEBUG)
    assert act(service, "debug", body(on="false"), caller=ADMIN) is False
    assert not REQUESTS.isEnabledFor(logging.DEBUG)
    with pytest.raises(InvalidRequest, match="on: 'maybe' is neither true nor false"):
        act(service, "debug", body(on="maybe"), caller=ADMIN)


def test_a_survey_stands_for_its_newest_release(service: Service) -> None:
    assert act(service, "validate", body(what="context", value="sdss")) == "OK"
    assert act(service, "validate", body(what="context", value="desi")) == "Error"
    newest = act(service, "contexts", body(context="sdss_dr16_fits"))
    assert act(service, "contexts", body(context="sdss")) == newest
    assert service.contexts.get("sdss").name == "sdss_dr16_fits"
    assert service.contexts.table(service.contexts.get("sdss_dr16"), None).name == "sdss_dr16.specobj"
    with pytest.raises(NotFound, match="desi"):
        service.contexts.get("desi")
