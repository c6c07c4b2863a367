from __future__ import annotations

import re
import stat
import string
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.flight as fl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specflight.client import Client
from specflight.errors import Forbidden, InvalidRequest, Unauthenticated
from specflight.flight.tokens import ANONYMOUS, Identity, TokenKey, require_admin
from specflight.tools.serve import Running


@pytest.fixture
def key(tmp_path: Path) -> TokenKey:
    return TokenKey(tmp_path)


@pytest.fixture
def served_key(sim_served: Path, sim_server: Running) -> TokenKey:
    return TokenKey(sim_served)


def test_a_token_says_who_it_belongs_to_and_until_when(key: TokenKey) -> None:
    before = time.time()
    alice = key.identify(key.issue("alice", days=0.5))
    assert (alice.name, alice.admin) == ("alice", False)
    assert before + 43_199 < alice.expires <= time.time() + 43_200
    assert key.identify(key.issue("root", admin=True)).admin


def test_old_clients_take_it_for_a_token(key: TokenKey) -> None:
    # dl.Util.parse_auth_token of astro-datalab 2.24.0, whose token files are read up to 128 characters.
    form = r"([^\/\s]+)\.(\d+)\.(\d+)\.((?:\$1\$\S{22,})|(?:\S+_access))"
    token = key.issue("a" * 32, admin=True)
    match = re.match(form, token)
    assert match is not None
    assert match[0] == token
    assert token.split(".", 3)[:3] == ["a" * 32, "1", "1"]
    assert len(token) <= 128
    assert re.fullmatch(r"[\w.-]+", token), "a shell would change it"


@pytest.mark.parametrize("token", ["", "anonymous.0.0.anon_access"])
def test_without_a_token_a_caller_is_anonymous(key: TokenKey, token: str) -> None:
    assert key.identify(token) is ANONYMOUS


def test_every_change_of_a_token_is_noticed(key: TokenKey) -> None:
    token = key.issue("alice")
    for at, letter in enumerate(token):
        for other in {*string.ascii_letters, *string.digits, "-", "_", ""} - {letter}:
            with pytest.raises(Unauthenticated):
                key.identify(token[:at] + other + token[at + 1 :])


def test_a_user_does_not_become_an_administrator(key: TokenKey) -> None:
    token = key.issue("alice")
    with pytest.raises(Unauthenticated):
        key.identify(token.replace(".1.1.u", ".1.1.a"))


@given(st.text(max_size=200))
def test_no_text_is_a_token_by_chance(text: str) -> None:
    if text not in ("", "anonymous.0.0.anon_access"):
        with pytest.raises(Unauthenticated, match="is not a token of this service"):
            TokenKey(Path("nowhere")).identify(text)


def test_an_error_does_not_give_a_token_away(key: TokenKey) -> None:
    token = key.issue("alice") + "x"
    with pytest.raises(Unauthenticated) as error:
        key.identify(token)
    assert token[13:] not in str(error.value)


def test_a_token_ends(key: TokenKey) -> None:
    token = key.issue("alice", days=1e-9)
    with pytest.raises(Unauthenticated, match="that of 'alice' has expired"):
        key.identify(token)


def test_tokens_are_those_of_their_data_directory(key: TokenKey, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    token = key.issue("alice")
    with pytest.raises(Unauthenticated):
        TokenKey(other).identify(token)
    TokenKey(other).issue("alice")
    with pytest.raises(Unauthenticated):
        TokenKey(other).identify(token)


def test_the_key_is_made_once_and_nobody_else_reads_it(key: TokenKey, tmp_path: Path) -> None:
    first = key.issue("alice")
    content = (tmp_path / "token.key").read_bytes()
    assert len(content) == 64
    assert stat.S_IMODE((tmp_path / "token.key").stat().st_mode) == 0o600
    key.issue("bob")
    assert (tmp_path / "token.key").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["token.key"]
    (tmp_path / "token.key").unlink()
    with pytest.raises(Unauthenticated):
        key.identify(first)


@pytest.mark.parametrize(
    "name", ["", "Alice", "1a", "a b", "a.b", "a/b", "../a", "a" * 33, "anonymous", "public", "vos", "é"]
)
def test_names_that_are_none_get_no_token(key: TokenKey, name: str) -> None:
    with pytest.raises(InvalidRequest, match="USER"):
        key.issue(name)


@pytest.mark.parametrize("days", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(key: TokenKey, days: float) -> None:
    with pytest.raises(InvalidRequest, match="days"):
        key.issue("alice", days=days)


def test_only_administrators_pass() -> None:
    require_admin(Identity("root", True), "this")
    with pytest.raises(Forbidden, match="'alice'"):
        require_admin(Identity("alice"), "this")
    with pytest.raises(Unauthenticated):
        require_admin(ANONYMOUS, "this")


@pytest.fixture
def calls(sim_server: Running) -> Iterator[fl.FlightClient]:
    client = fl.connect(sim_server.flight[0])
    yield client
    client.close()


@pytest.mark.parametrize("header", ["authorization", "x-dl-authtoken"])
def test_flight_knows_the_caller_by_either_header(calls: fl.FlightClient, served_key: TokenKey, header: str) -> None:
    token = served_key.issue("alice")
    value = f"Bearer {token}" if header == "authorization" else token
    options = fl.FlightCallOptions(headers=[(header.encode(), value.encode())])
    answer = b"".join(result.body.to_pybytes() for result in calls.do_action(fl.Action("whoami", b""), options))
    assert b'"name": "alice"' in answer


def test_a_forged_token_is_refused_by_every_call_of_flight(calls: fl.FlightClient, served_key: TokenKey) -> None:
    options = fl.FlightCallOptions(headers=[(b"authorization", b"Bearer " + served_key.issue("alice").encode()[:-8])])
    descriptor = fl.FlightDescriptor.for_command(b'{"what": "query", "limit": 1}')
    attempts: dict[str, Callable[[], object]] = {
        "action": lambda: list(calls.do_action(fl.Action("health", b""), options)),
        "get": lambda: calls.do_get(fl.Ticket(b'{"what": "query", "where": "z > 0 limit 1"}'), options).read_all(),
        "info": lambda: calls.get_flight_info(descriptor, options),
        "flights": lambda: list(calls.list_flights(b"", options)),
        "exchange": lambda: calls.do_exchange(descriptor, options)[1].read_all(),
    }
    for attempt in attempts.values():
        with pytest.raises(fl.FlightUnauthenticatedError, match="is not a token of this service"):
            attempt()


def test_a_client_with_a_forged_token_gets_nothing(sim_server: Running) -> None:
    with Client(sim_server.flight[0], token="alice.1.1.u9999999999.abc_access") as client:
        assert not client.isAlive()
        with pytest.raises(Unauthenticated):
            client.list_contexts()
        with pytest.raises(Unauthenticated):
            client.query(constraint="limit 1")


def test_a_client_passes_its_token_on(sim_server: Running, served_key: TokenKey) -> None:
    with Client(sim_server.flight, token=served_key.issue("alice")) as client:
        assert client.act("whoami")["name"] == "alice"
        assert len(client.query(constraint="limit 1", context="sdss_dr16")) == 1
        with pytest.raises(Forbidden, match="'alice' is no administrator"):
            client.act("shutdown")
