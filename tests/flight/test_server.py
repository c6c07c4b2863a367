"""The Flight surface, by nothing but `pyarrow.flight` and JSON typed by hand."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.flight as fl
import pytest
from fixtures_server import catalogue_files
from numpy.typing import NDArray

from specflight.tools.ingest import ingest
from specflight.tools.serve import Running, start

Vectors = dict[str, NDArray[Any]]
COLUMNS = ["flux", "loglam", "ivar", "and_mask", "or_mask", "wdisp", "sky", "model"]


@pytest.fixture(scope="module")
def flight(sim_server: Running) -> Iterator[fl.FlightClient]:
    with fl.connect(sim_server.flight[0]) as client:
        yield client


@pytest.fixture(scope="module")
def ids(sim_truth: dict[str, dict[int, Path]]) -> list[int]:
    """specobjids of sdss_dr16 in random order, some twice; one is beyond 2^63."""
    known = sorted(sim_truth["sdss_dr16"])
    assert known[-1] >= 2**63
    return [*np.random.default_rng(4).permutation(np.array(known, np.uint64)).tolist(), known[0], known[-1]]


def command(**fields: object) -> bytes:
    return json.dumps({"what": "spectra", "context": "sdss_dr16"} | fields).encode()


def get(client: fl.FlightClient, text: bytes) -> pa.Table:
    return client.do_get(fl.Ticket(text)).read_all()


def info(client: fl.FlightClient, text: bytes) -> fl.FlightInfo:
    return client.get_flight_info(fl.FlightDescriptor.for_command(text))


def gathered(flight_info: fl.FlightInfo, client: fl.FlightClient) -> pa.Table:
    """All endpoints one behind the other, each read where it says."""
    pieces = []
    for endpoint in flight_info.endpoints:
        if not endpoint.locations:
            pieces.append(client.do_get(endpoint.ticket).read_all())
            continue
        with fl.connect(endpoint.locations[0]) as other:
            pieces.append(other.do_get(endpoint.ticket).read_all())
    return pa.concat_tables(pieces)


def act(client: fl.FlightClient, name: str, body: bytes = b"") -> Any:  # noqa: ANN401
    return json.loads(b"".join(result.body.to_pybytes() for result in client.do_action(fl.Action(name, body))))


@pytest.mark.parametrize("context", ["sdss_dr16", "sdss_dr16_fits"])
def test_do_get_gives_every_value_bit_for_bit_in_the_order_asked_for(
    flight: fl.FlightClient,
    ids: list[int],
    context: str,
    sim_truth: dict[str, dict[int, Path]],
    astropy_vectors: Callable[[Path], Vectors],
) -> None:
    table = get(flight, command(context=context, ids=[str(i) if n % 2 else i for n, i in enumerate(ids)]))
    assert table.column_names == ["specobjid", "status", *COLUMNS]
    assert table["specobjid"].to_pylist() == ids
    assert set(table["status"].to_pylist()) == {"ok"}
    for number, specobjid in enumerate(ids):
        truth = astropy_vectors(sim_truth["sdss_dr16"][specobjid])
        for name in COLUMNS:
            assert table[name][number].values.to_numpy().tobytes() == truth[name].tobytes(), (specobjid, name)


def test_the_schema_says_what_the_numbers_mean(flight: fl.FlightClient, ids: list[int]) -> None:
    schema = get(flight, command(ids=ids[:1], align=True)).schema
    about = json.loads(schema.metadata[b"specflight"])
    assert (about["context"], about["medium"], about["frame"]) == ("sdss_dr16", "vacuum", "heliocentric")
    assert about["grid"].keys() == {"loglam", "step", "k0", "npix"}
    assert about["mask_bits"]["NODATA"] == 24
    assert schema.field("flux").metadata[b"unit"] == b"1e-17 erg s-1 cm-2 Angstrom-1"
    assert (
        json.loads(get(flight, command(context="sdss_dr16_fits", ids=ids[:1])).schema.metadata[b"specflight"])[
            "release"
        ]
        == "DR16"
    )


def test_default_stands_for_a_context(flight: fl.FlightClient, ids: list[int]) -> None:
    table = get(flight, json.dumps({"what": "spectra", "ids": ids[:2]}).encode())
    assert json.loads(table.schema.metadata[b"specflight"])["context"] == "sdss_dr16_fits"
    assert table["specobjid"].to_pylist() == ids[:2]


@pytest.mark.parametrize(
    "fields",
    [
        {"columns": ["flux", "loglam"]},
        {"align": True},
        {"cutout": [5000, 6000], "columns": ["ivar", "and_mask"]},
        {"start": 3},
    ],
)
@pytest.mark.parametrize("repeat", [1, 18])
def test_flight_info_tells_schema_and_size_and_its_endpoints_give_the_answer(
    flight: fl.FlightClient, ids: list[int], sim_server: Running, fields: dict[str, object], repeat: int
) -> None:
    text = command(ids=[str(i) for i in ids * repeat], **fields)
    whole = get(flight, text)
    told = info(flight, text)
    assert told.schema == whole.schema
    assert told.schema.metadata == whole.schema.metadata
    assert told.total_records == len(whole)
    values = sum(pc.list_flatten(whole[name]).nbytes for name in whole.column_names[2:])
    if "start" not in fields:
        assert told.total_bytes == values
    assert len(told.endpoints) == (2 if len(whole) >= 512 else 1)
    if len(told.endpoints) == 2:
        places = {endpoint.locations[0].uri.decode() for endpoint in told.endpoints}
        assert places == set(sim_server.flight)
    assert gathered(told, flight).equals(whole)


def test_the_endpoints_of_a_query_give_the_spectra_that_it_finds(flight: fl.FlightClient, ids: list[int]) -> None:
    text = command(query={"catalog": "specobjall", "where": "z > 0.01", "order_by": "z", "limit": 20}, columns=["flux"])
    whole = get(flight, text)
    assert 0 < len(whole) <= 20
    assert gathered(info(flight, text), flight).equals(whole)
    found = get(
        flight,
        b'{"what": "query", "context": "sdss_dr16", "catalog": "specobjall", "where": "z > 0.01 order by z limit 20"}',
    )
    assert whole["specobjid"].equals(found["specobjid"])


def test_an_answer_without_rows_has_endpoints_that_can_be_read(flight: fl.FlightClient) -> None:
    told = info(flight, command(query={"where": "z > 1000"}))
    assert told.total_records == 0
    assert len(gathered(told, flight)) == 0


@pytest.mark.parametrize(
    "text",
    [
        b'{"what": "query", "context": "sdss_dr16", "columns": ["z", "class"], "limit": 3}',
        b'{"what": "span", "context": "sdss_dr16", "query": {"catalog": "specobjall"}}',
        b'{"what": "fits", "context": "sdss_dr16", "query": {"limit": 2}}',
        b'{"what": "spectra", "context": "sdss_dr16", "query": {"limit": 2}, "align": true}',
    ],
)
def test_the_schema_is_told_without_the_answer(flight: fl.FlightClient, text: bytes) -> None:
    answer = get(flight, text)
    told = flight.get_schema(fl.FlightDescriptor.for_command(text)).schema
    assert told.equals(answer.schema, check_metadata=True)
    assert info(flight, text).schema.equals(answer.schema, check_metadata=True)
    assert gathered(info(flight, text), flight).equals(answer)


def test_each_flight_that_is_listed_can_be_read(flight: fl.FlightClient, ids: list[int]) -> None:
    flights = list(flight.list_flights())
    complete = [one for one in flights if one.endpoints]
    commands = [json.loads(one.descriptor.command) for one in flights]
    assert {c["context"] for c in commands} == {"sdss_dr12", "sdss_dr12_fits", "sdss_dr16", "sdss_dr16_fits"}
    assert len(complete) == 6
    for one in complete:
        table = gathered(one, flight)
        assert table.schema.names == one.schema.names
        if json.loads(one.descriptor.command)["what"] == "query":
            assert len(table) == one.total_records
    spectra = next(c for c in commands if c["what"] == "spectra" and c["context"] == "sdss_dr16_fits")
    assert get(flight, json.dumps(spectra | {"ids": ids[:1]}).encode())["specobjid"].to_pylist() == ids[:1]


def exchange(client: fl.FlightClient, text: bytes, table: pa.Table) -> pa.Table:
    writer, reader = client.do_exchange(fl.FlightDescriptor.for_command(text))
    with writer:
        writer.begin(table.schema)
        writer.write_table(table)
        writer.done_writing()
        return reader.read_all()


@pytest.mark.parametrize("kind", [pa.uint64(), pa.int64(), pa.string(), pa.large_string()])
def test_20_000_ids_go_up_as_a_table(flight: fl.FlightClient, ids: list[int], kind: pa.DataType) -> None:
    mine = [i for i in ids if i < 2**63] if pa.types.is_signed_integer(kind) else ids
    many = (mine * (20_000 // len(mine) + 1))[:20_000]
    values = [str(i) for i in many] if kind in (pa.string(), pa.large_string()) else many
    table = exchange(
        flight, command(columns=["loglam"], cutout=[5000, 5010]), pa.table({"specobjid": pa.array(values, kind)})
    )
    assert table["specobjid"].to_pylist() == many
    assert table["loglam"].null_count == 0


def test_an_exchange_answers_as_do_get_does(flight: fl.FlightClient, ids: list[int]) -> None:
    table = pa.table({"other": [0.5] * len(ids), "specobjid": pa.array(ids, pa.uint64())})
    for fields in ({}, {"align": True, "start": 2}, {"what": "fits"}, {"what": "span"}):
        assert exchange(flight, command(**fields), table).equals(get(flight, command(ids=ids, **fields)))


@pytest.mark.parametrize(
    ("fields", "table", "error", "named"),
    [
        ({}, pa.table({"id": [1]}), pa.ArrowInvalid, r"ids: the table has no column specobjid, only \['id'\]"),
        ({}, pa.table({"specobjid": pa.array([1, None], pa.uint64())}), pa.ArrowInvalid, "ids: 1 of 2 values are null"),
        ({}, pa.table({"specobjid": pa.array([-7], pa.int64())}), pa.ArrowInvalid, "ids: -7 is not a specobjid"),
        ({}, pa.table({"specobjid": [1.5]}), pa.ArrowInvalid, r"ids: entry 1 of the list: 1\.5 is not a specobjid"),
        ({}, pa.table({"specobjid": ["M31"]}), pa.ArrowInvalid, "ids: entry 1 of the list: 'M31' is neither"),
        ({}, pa.table({"specobjid": pa.array([], pa.uint64())}), pa.ArrowInvalid, "ids: the list is empty"),
        ({}, pa.table({"specobjid": [5]}), KeyError, "no spectrum with specobjid 5"),
        ({"ids": [5]}, pa.table({"specobjid": [5]}), pa.ArrowInvalid, "ids: give either a list of ids or a query"),
        ({"what": "query"}, pa.table({"specobjid": [5]}), pa.ArrowInvalid, "what: a query takes no table"),
        ({"context": "nope"}, pa.table({"specobjid": [5] * 300_000}), KeyError, "there is no context 'nope'"),
        ({}, pa.table([[5], [6]], ["specobjid", "specobjid"]), pa.ArrowInvalid, "two columns 'specobjid'"),
    ],
)
def test_a_table_of_ids_at_fault_is_refused_by_value(
    flight: fl.FlightClient, fields: dict[str, object], table: pa.Table, error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named) as caught:
        exchange(flight, command(**fields), table)
    assert_discreet(str(caught.value))


def test_every_action_is_listed_and_answers(flight: fl.FlightClient, sim_server: Running, ids: list[int]) -> None:
    bodies = {
        "health": b"",
        "contexts": b"",
        "profiles": b"",
        "catalogs": b'{"context": "sdss_dr16"}',
        "validate": b'{"what": "context", "value": "sdss_dr12"}',
        "span": command(what="span", ids=[str(i) for i in ids]),
        "count": command(what="query"),
        "explain": command(what="query"),
        "whoami": b"",
    }
    listed = {action.type: action.description for action in flight.list_actions()}
    assert listed.keys() == bodies.keys() | {"debug", "shutdown"}  # for administrators
    assert all(listed.values())
    said = {name: act(flight, name, body) for name, body in bodies.items()}
    assert said["health"]["status"] == "ok"
    assert said["health"]["endpoints"] == list(sim_server.flight)
    assert list(said["contexts"])[-1] == "sdss_dr16_fits"
    assert list(said["profiles"]) == ["default"]
    assert said["catalogs"][0]["name"] == "sdss_dr16.specobj"
    assert said["validate"] == "OK"
    assert 3.5 < said["span"]["w0"] < said["span"]["w1"] < 4.1
    assert said["count"] == said["explain"]["rows"] == get(flight, command(what="query")).num_rows


@contextmanager
def counting(location: str) -> Iterator[tuple[str, list[int]]]:
    """A location whose traffic goes on to another, and the numbers of bytes that came back from there."""
    host, port = location.removeprefix("grpc://").split(":")
    counts: list[int] = []

    def forward(source: socket.socket, target: socket.socket, count: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
                if count:
                    counts.append(len(data))
            target.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(3) as pool, ExitStack() as opened:

        def hang_up(end: socket.socket) -> None:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

        def accept() -> None:
            near = opened.enter_context(listener.accept()[0])
            far = opened.enter_context(socket.create_connection((host, int(port))))
            for end in (near, far):
                opened.callback(hang_up, end)
            pool.submit(forward, near, far, False)
            pool.submit(forward, far, near, True)

        pool.submit(accept)
        yield f"grpc://127.0.0.1:{listener.getsockname()[1]}", counts


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_batches_hold_the_same_in_fewer_bytes(
    flight: fl.FlightClient, sim_server: Running, ids: list[int], compression: str
) -> None:
    plain = get(flight, command(ids=ids))
    with counting(sim_server.flight[0]) as (location, counts), fl.connect(location) as client:
        assert get(client, command(ids=ids, compression=compression)).equals(plain)
    assert 0.1 * plain.nbytes < sum(counts) < 0.9 * plain.nbytes


def test_all_columns_of_the_catalogue_and_the_rows_are_those_of_the_parquet(
    flight: fl.FlightClient, sim_served: Path
) -> None:
    files = catalogue_files(sim_served, "sdss_dr16", "specobjall")
    truth = ds.dataset(files).to_table().drop_columns(["_healpix_29"]).sort_by("specobjid")
    table = get(
        flight,
        json.dumps(
            {
                "what": "query",
                "context": "sdss_dr16",
                "catalog": "sdss_dr16.specobjall",
                "columns": truth.column_names,
                "order_by": "specobjid",
            }
        ).encode(),
    )
    assert table.column_names == truth.column_names
    assert table.equals(truth.cast(table.schema))


BAD_REQUESTS = [
    (b"flux, please", "request"),
    (b"", "request"),
    (b"[1]", "request"),
    (b'{"what": "pictures"}', "request.*pictures"),
    (b'{"what": "spectra", "ids": [1], "colour": "red"}', "colour.*'red'"),
    (command(ids="1"), "ids.*'1'"),
    (command(ids=[]), "ids: the list is empty"),
    (command(), "ids: give either"),
    (command(ids=[1], query={}), "ids: give either"),
    (command(ids=[-4]), "ids: entry 1 of the list: -4 is not"),
    (command(ids=[1, None]), "ids: entry 2 of the list: None is not"),
    (command(ids=[1.5]), r"ids: entry 1 of the list: 1\.5 is not"),
    (command(query={"limit": 1}, columns=["flux", "color"]), "columns: 'color' is not one of"),
    (command(ids=[1], cutout="7200-6500"), "cutout: 7200-6500"),
    (command(ids=[1], missing="ignore"), "missing.*'ignore'"),
    (command(query={"where": "z >"}), "where"),
    (command(query={"cone": [1, 2, 3], "polygon": [[1, 1], [2, 2], [3, 1]]}), "query: give one region"),
    (command(query={"where": "1=1; drop table specobj"}), "where"),
    (command(what="query", columns=["zz"]), "columns: there is no column 'zz'"),
    (command(what="query", limit=-1), "limit.*-1"),
]


def test_an_exchange_without_a_table_is_refused(flight: fl.FlightClient) -> None:
    writer, reader = flight.do_exchange(fl.FlightDescriptor.for_command(command()))
    writer.done_writing()
    with pytest.raises(pa.ArrowInvalid, match="ids: no table was sent"):
        reader.read_all()
    with suppress(pa.ArrowInvalid):
        writer.close()


@pytest.mark.parametrize("name", ["x" * 100_000, "\n" * 5000, "ü" * 5000])
def test_a_long_or_odd_error_arrives_with_its_class(flight: fl.FlightClient, name: str) -> None:
    with pytest.raises(pa.ArrowKeyError, match="NotFound: context: there is no context") as caught:
        get(flight, json.dumps({"what": "query", "context": name}).encode())
    assert len(str(caught.value)) < 6000
    with pytest.raises(pa.ArrowInvalid, match="InvalidRequest: columns: there is no column"):
        get(flight, command(what="query", columns=[name]))
    with pytest.raises(pa.ArrowKeyError, match="NotFound: context"):
        act(flight, "catalogs", b'{"context": "\\ud800"}')


@pytest.mark.parametrize(("text", "named"), BAD_REQUESTS)
@pytest.mark.parametrize("ask", [get, info, lambda c, t: c.get_schema(fl.FlightDescriptor.for_command(t))])
def test_a_request_at_fault_is_an_invalid_argument_that_names_it(
    flight: fl.FlightClient, ask: Callable[[fl.FlightClient, bytes], object], text: bytes, named: str
) -> None:
    with pytest.raises(pa.ArrowInvalid, match=f"^InvalidRequest: {named}") as caught:
        ask(flight, text)
    assert_discreet(str(caught.value))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (command(context="nope", ids=[1]), "NotFound: context: there is no context 'nope'"),
        (command(ids=[1, 2]), "UnknownSpectrum: ids: context 'sdss_dr16' has no spectrum with specobjid 1, 2"),
        (command(what="query", catalog="stars"), "NotFound: catalog: .*'stars'"),
        (command(context="sdss_dr16_fits", query={}), "NotFound: catalog: .*has no catalogue"),
    ],
)
@pytest.mark.parametrize("ask", [get, info])
def test_what_is_not_there_is_a_key_error_that_names_it(
    flight: fl.FlightClient, ask: Callable[[fl.FlightClient, bytes], object], text: bytes, named: str
) -> None:
    with pytest.raises(KeyError, match=named) as caught:
        ask(flight, text)
    assert_discreet(str(caught.value))


def assert_discreet(text: str) -> None:
    """No traceback, no source file, no folder of the server."""
    for secret in ("Traceback", ".py", 'File "', "/tmp", os.getcwd(), "specflight/"):
        assert secret not in text.replace("grpc_status", ""), text


def test_a_descriptor_without_a_command_is_refused(flight: fl.FlightClient) -> None:
    with pytest.raises(pa.ArrowInvalid, match="InvalidRequest: request"):
        flight.get_flight_info(fl.FlightDescriptor.for_path("spectra"))


@pytest.mark.parametrize(("name", "body"), [("reboot", b""), ("catalogs", b"{"), ("span", b"{}")])
def test_an_action_at_fault_is_an_invalid_argument(flight: fl.FlightClient, name: str, body: bytes) -> None:
    with pytest.raises(pa.ArrowInvalid, match="InvalidRequest: ") as caught:
        act(flight, name, body)
    assert_discreet(str(caught.value))


HOSTILE = [
    "1=1 UNION SELECT * FROM read_csv('/etc/passwd')",
    "z > 0; DELETE FROM specobj",
    "z > (SELECT max(z) FROM specobj)",
    "pg_read_file('/etc/passwd') = 'x'",
    "z > 0 -- comment",
    "z > 0 /* comment */",
    "class = repeat('x', 2000000000)",
    "class ~ '(a+)+b'",
    "count(*) > 1",
    "z > 0) OR (1=1",
    "row_number() over () > 1",
    "z in (select z from '/etc/passwd')",
    "(" * 5000 + "z" + ")" * 5000,
    "getenv('HOME') = '/root'",
    "\u0000z > 1",
]


@pytest.mark.parametrize("where", HOSTILE)
def test_a_hostile_clause_is_refused_and_changes_nothing(flight: fl.FlightClient, sim_served: Path, where: str) -> None:
    def state() -> list[tuple[str, int, int]]:
        kept = [path for path in sorted(sim_served.rglob("*")) if path.is_file()]
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in kept]

    before = state()
    with pytest.raises(pa.ArrowInvalid, match="InvalidRequest: ") as caught:
        get(flight, command(what="query", where=where))
    assert len(str(caught.value).partition(". Detail: ")[0]) < 250, "more than a short sentence"
    assert_discreet(str(caught.value))
    assert state() == before
    assert act(flight, "health")["status"] == "ok"


@pytest.fixture
def narrow(sim_served: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fl.FlightClient]:
    monkeypatch.setenv("SPECFLIGHT_MAX_ROWS", "5")
    monkeypatch.setenv("SPECFLIGHT_MAX_IDS", "3")
    with start(sim_served, "127.0.0.1", 0, 0, workers=1) as running, fl.connect(running.flight[0]) as client:
        yield client


def test_a_server_keeps_the_limits_of_its_environment(narrow: fl.FlightClient, ids: list[int]) -> None:
    query = {"what": "query", "context": "sdss_dr16", "catalog": "specobjall"}
    for more in ({}, {"where": "z < 100"}, {"columns": ["z"]}):
        with pytest.raises(pa.ArrowInvalid, match=r"LimitExceeded: .*the limit of 5"):
            get(narrow, json.dumps(query | more).encode())
    assert len(get(narrow, json.dumps(query | {"limit": 5}).encode())) == 5
    assert len(get(narrow, json.dumps(query | {"where": "z < 100 limit 5"}).encode())) == 5
    with pytest.raises(pa.ArrowInvalid, match=r"LimitExceeded: ids: .* the limit max_ids = 3"):
        get(narrow, command(ids=ids[:4]))
    with pytest.raises(pa.ArrowInvalid, match=r"LimitExceeded: ids: .* the limit max_ids = 3"):
        exchange(narrow, command(), pa.table({"specobjid": pa.array(ids[:4], pa.uint64())}))
    assert len(get(narrow, command(ids=ids[:3]))) == 3


@pytest.fixture
def hurt(sim_parts: Path, tmp_path: Path) -> Iterator[tuple[Path, Running, fl.FlightClient]]:
    """A server of a data directory that a test may damage."""
    data = tmp_path / "data"
    shutil.copytree(sim_parts, data, symlinks=True)
    with start(data, "127.0.0.1", 0, 0, workers=1) as running, fl.connect(running.flight[0]) as client:
        get(client, command(query={"catalog": "specobjall"}))
        yield data, running, client


def test_damage_while_serving_is_told_and_the_rest_is_served(hurt: tuple[Path, Running, fl.FlightClient]) -> None:
    data, running, client = hurt
    pids = running.worker_pids
    folder = data / "sdss_dr16/spectra"
    with pa.OSFile(str(folder / "index.arrow")) as file:
        index = pa.ipc.open_file(file).read_all()
    parts: dict[str, list[int]] = {}
    for specobjid, part in zip(index["specobjid"].to_pylist(), index["part"].to_pylist(), strict=True):
        parts.setdefault(part, []).append(specobjid)
    (name, lost), *others = parts.items()
    sound = [specobjid for _, kept in others for specobjid in kept]
    whole = get(client, command(ids=sound))
    os.truncate(folder / name, 100)
    with pytest.raises(
        fl.FlightError, match=rf"DamagedData: spectrum {lost[0]} cannot be read: .*{name} is truncated"
    ) as caught:
        get(client, command(ids=[sound[0], lost[0]]))
    assert_discreet(str(caught.value))
    null = get(client, command(ids=[sound[0], lost[0], 5, lost[-1]], missing="null"))
    assert null["status"].to_pylist() == ["ok", "damaged", "missing", "damaged"]
    assert null["flux"].is_null().to_pylist() == [False, True, True, True]
    with pytest.raises(fl.FlightError, match="DamagedData: spectrum"):
        exchange(client, command(), pa.table({"specobjid": pa.array(lost, pa.uint64())}))
    assert get(client, command(ids=sound)).equals(whole)
    assert running.worker_pids == pids, "a worker died of it"


def test_an_internal_error_is_told_without_its_story(hurt: tuple[Path, Running, fl.FlightClient]) -> None:
    data, _, client = hurt
    (data / "sdss_dr16/MANIFEST.json").unlink()
    (data / "sdss_dr16/MANIFEST.json").mkdir()
    with pytest.raises(fl.FlightError, match=r"internal error \(IsADirectoryError\), see the log") as caught:
        get(client, command(ids=[1]))
    assert_discreet(str(caught.value))
    assert len(get(client, command(context="sdss_dr12", query={"limit": 1}))) == 1


def test_an_ingest_while_serving_is_noticed_and_a_stream_in_flight_is_not_disturbed(
    tmp_path: Path, make_spectrum: Callable[..., int]
) -> None:
    def write(fibers: range, npix: int) -> list[int]:
        ids = [make_spectrum(tmp_path / f"tree/{fiber}.fits", fiberid=fiber, npix=npix) for fiber in fibers]
        ingest(tmp_path / "data", "sdss_dr16", [tmp_path / "tree"], workers=1)
        return ids

    def parts() -> set[str]:
        return {path.name for path in (tmp_path / "data/sdss_dr16/spectra").glob("part-*.arrow")}

    known = write(range(1, 21), 4_000)
    many = command(ids=known * 75)
    with start(tmp_path / "data", "127.0.0.1", 0, 0, workers=1) as running, fl.connect(running.flight[0]) as client:
        undisturbed, old, pids = get(client, many), parts(), running.worker_pids
        reader = client.do_get(fl.Ticket(many))
        first = reader.read_chunk().data
        assert first.num_rows < 100
        write(range(1, 22), 3_000)
        assert parts().isdisjoint(old), "the old parts are still there"
        rest = reader.read_all()
        assert pa.concat_tables([pa.Table.from_batches([first]), rest]).equals(undisturbed)
        fresh = get(client, command(query={"catalog": "specobjall"}, columns=["flux"]))
        assert len(fresh) == 21
        assert {len(flux) for flux in fresh["flux"]} == {3_000}
        assert running.worker_pids == pids
