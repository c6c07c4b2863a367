from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specflight.client import Client
from specflight.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    ServiceUnavailable,
    Unauthenticated,
    UnknownSpectrum,
)
from specflight.flight.tokens import TokenKey
from specflight.tools.serve import Running

Truth = dict[str, dict[int, Path]]


@pytest.fixture
def connect(sim_server: Running, sim_served: Path) -> Iterator[Callable[[str], Client]]:
    """Gives clients of users by name."""
    clients: list[Client] = []

    def open_client(user: str) -> Client:
        token = TokenKey(sim_served).issue(user) if user else None
        clients.append(Client(sim_server.http, context="sdss_dr16", token=token))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


@pytest.fixture
def alice(connect: Callable[[str], Client]) -> Client:
    return connect("alice")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("ids.csv", lambda content: [int(line) for line in content.decode().split()[1:]]),
        ("no ending", lambda content: [int(line) for line in content.decode().split()[1:]]),
        ("ids.parquet", lambda content: pq.read_table(BytesIO(content))["specobjid"].to_pylist()),
        ("ids.arrow", lambda content: pa.ipc.open_file(content).read_all()["specobjid"].to_pylist()),
        ("über α.csv", lambda content: [int(line) for line in content.decode().split()[1:]]),
    ],
)
def test_results_of_a_query_are_stored(alice: Client, name: str, read: Callable[[bytes], list[int]]) -> None:
    ids = alice.query(constraint="z > 0.1 order by z limit 7")
    assert alice.query(constraint="z > 0.1 order by z limit 7", out=f"vos://{name}") == "OK"
    assert read(alice._storage.read(f"vos://{name}")) == ids.tolist()


def test_a_stored_list_names_spectra(alice: Client) -> None:
    alice.query(constraint="z > 0.1 order by z limit 5", out="vos://lists/five.csv")
    ids = alice.query(constraint="z > 0.1 order by z limit 5")
    table = alice.getSpec("vos://lists/five.csv", fmt="arrow", columns="flux")
    assert table["specobjid"].to_pylist() == ids.tolist()
    assert [len(spectrum) for spectrum in alice.iterSpec("vos://lists/five.csv")] == [
        len(spectrum) for spectrum in alice.getSpec(ids)
    ]
    assert alice.match(ids="vos://lists/five.csv")["specobjid"].to_pylist() == ids.tolist()


def test_files_are_the_users_own(connect: Callable[[str], Client]) -> None:
    alice, bob, nobody = connect("alice"), connect("bob"), connect("")
    for folder in ("", "public/"):
        assert alice.query(constraint="z > 0.1 limit 2", out=f"vos://{folder}mine.csv") == "OK"
    assert len(bob.getSpec(bob._storage.read("alice://public/mine.csv").decode())) == 2
    assert nobody._storage.read("alice://public/mine.csv") == bob._storage.read("alice://public/mine.csv")
    with pytest.raises(Forbidden):
        bob._storage.read("alice://mine.csv")
    with pytest.raises(NotFound):
        bob.getSpec("vos://mine.csv")
    with pytest.raises(Unauthenticated):
        nobody.query(constraint="z > 0.1 limit 2", out="vos://mine.csv")
    with pytest.raises(Unauthenticated):
        nobody.getSpec("vos://mine.csv")


FORMATS = [
    ("numpy", {}),
    ("numpy", {"columns": "ivar,flux", "align": True}),
    ("numpy", {"cutout": (6500.123456789, 7200.5)}),
    ("FITS", {}),
]


@pytest.mark.parametrize(("fmt", "options"), FORMATS, ids=str)
@pytest.mark.parametrize("place", ["vos://out of {0}/", "{1}/out"])
def test_spectra_become_files(
    alice: Client, sim_truth: Truth, tmp_path: Path, fmt: str, options: dict[str, Any], place: str
) -> None:
    ids = list(sim_truth["sdss_dr16"])[:6]
    folder = place.format(abs(hash(fmt + str(options))) % 1000, tmp_path)
    spectra = alice.getSpec(ids, fmt=fmt, **options)
    assert alice.getSpec(ids, fmt=fmt, out=folder, **options) == "OK"
    for specobjid, spectrum in zip(ids, spectra, strict=True):
        name = sim_truth["sdss_dr16"][specobjid].name if fmt == "FITS" else f"{specobjid}.npy"
        stored = folder.startswith("vos://")
        content = alice._storage.read(folder + name) if stored else (Path(folder) / name).read_bytes()
        if fmt == "FITS":
            assert content == spectrum
        else:
            read = np.load(BytesIO(content), allow_pickle=False)
            names = spectrum.dtype.names
            assert set(read.dtype.names) == set(names)
            assert all(read[name].tobytes() == spectrum[name].tobytes() for name in names)


def test_what_has_no_spectrum_is_left_out_of_a_folder(alice: Client, sim_truth: Truth, tmp_path: Path) -> None:
    known = next(iter(sim_truth["sdss_dr16"]))
    assert alice.getSpec([known, 42], missing="skip", out=tmp_path) == "OK"
    assert alice.getSpec([42, known], missing="null", out=tmp_path / "a" / "b") == "OK"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [f"{known}.npy"]
    with pytest.raises(UnknownSpectrum, match="42"):
        alice.getSpec([known, 42], out=tmp_path / "none")
    with pytest.raises(NotFound, match="42"):
        alice.getSpec([known, 42], out="vos://none/")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"fmt": "pandas", "out": "x"}, "out: files are written as numpy or FITS, not as pandas"),
        (
            {"missing": "skip", "out": "vos://x/"},
            "missing: the service writes files of spectra that are there only, not 'skip'",
        ),
        ({"out": "/dev/null/x"}, "out: '/dev/null/x' is not a folder"),
    ],
)
def test_files_that_cannot_be_written_are_refused(
    alice: Client, sim_truth: Truth, call: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        alice.getSpec(list(sim_truth["sdss_dr16"])[:2], **call)


def test_only_the_http_side_has_a_storage(sim_server: Running) -> None:
    with Client(sim_server.flight[0]) as client:
        with pytest.raises(
            InvalidRequest, match=r"url: 'vos://x\.csv' is on the HTTP side of a service, which grpc://"
        ):
            client.query(constraint="z > 0 limit 1", out="vos://x.csv")
        with pytest.raises(InvalidRequest, match=r"url: 'vos://x\.csv'"):
            client.getSpec("vos://x.csv")


def test_a_service_that_is_gone_is_told() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(ServiceUnavailable, match=r"http://127\.0\.0\.1:9"):
        client.getSpec("vos://x.csv")
