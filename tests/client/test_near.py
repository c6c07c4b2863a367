from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from specflight.client import Client
from specflight.client._near import Nearby
from specflight.errors import NotFound, QueryTimeout, UnknownSpectrum
from specflight.flight.requests import FitsRequest, SpanRequest, SpectraRequest
from specflight.tools.ingest import ingest
from specflight.tools.serve import Running, start

Truth = dict[str, dict[int, Path]]


@pytest.fixture
def near(sim_server: Running, sim_served: Path) -> Iterator[Client]:
    client = Nearby(sim_served).client(sim_server.flight, 30.0, None)
    client.context = "sdss_dr16"
    yield client
    client.close()


def test_answers_are_those_of_the_service(near: Client, sim_client: Client, sim_truth: Truth) -> None:
    ids = list(sim_truth["sdss_dr16"])[:9]
    for request in (
        SpectraRequest(context="sdss_dr16", ids=ids),
        SpectraRequest(context="sdss_dr16", ids=ids, align=True, layout="records"),
        SpanRequest(context="sdss_dr16", ids=ids),
        FitsRequest(context="sdss_dr16", ids=ids),
    ):
        here, there = near.stream(request), sim_client.stream(request)
        assert here.schema.equals(there.schema, check_metadata=True)
        assert list(here.batches) == list(there.batches)
    assert near.query(constraint="limit 5").tolist() == sim_client.query(constraint="limit 5").tolist()


def test_spectra_are_read_without_the_service(sim_served: Path, sim_truth: Truth) -> None:
    ids = list(sim_truth["sdss_dr16"])[:3]
    with start(sim_served, "127.0.0.1", 0, 0, workers=1) as running:
        client = Nearby(sim_served).client(running.flight, 1.0, None)
        whole = client.getSpec(ids, context="sdss_dr16")
        os.kill(running.worker_pids[0], signal.SIGSTOP)
        try:
            again = client.getSpec(ids, context="sdss_dr16")
            with pytest.raises(QueryTimeout):
                client.query(constraint="limit 1", context="sdss_dr16")
        finally:
            os.kill(running.worker_pids[0], signal.SIGCONT)
        assert [a.tobytes() for a in whole] == [b.tobytes() for b in again]
        client.close()


def test_what_is_not_here_is_asked_of_the_service(near: Client, sim_truth: Truth) -> None:
    ids = list(sim_truth["sdss_dr16"])[:2]
    # A tree of files is examined by the Flight workers only.
    trees = near.getSpec(ids, context="sdss_dr16_fits")
    assert [a.tobytes() for a in trees] == [b.tobytes() for b in near.getSpec(ids)]
    with pytest.raises(UnknownSpectrum, match="42"):
        near.getSpec([*ids, 42])
    with pytest.raises(NotFound, match="nosuch"):
        near.getSpec(ids, context="nosuch")


def test_an_ingest_is_seen_at_once(sim_tree: dict[str, Path], tmp_path: Path, sim_truth: Truth) -> None:
    data = tmp_path / "data"
    files = sorted(sim_truth["sdss_dr16"].items())
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, (_, path) in zip((first, second), files[:2], strict=True):
        folder.mkdir()
        shutil.copy(path, folder)
    ingest(data, "sdss_dr16", [first], workers=1)
    with start(data, "127.0.0.1", 0, 0, workers=1) as running:
        client = Nearby(data).client(running.flight, 30.0, None)
        assert len(client.getSpec([files[0][0]], context="sdss_dr16")) == 1
        with pytest.raises(UnknownSpectrum):
            client.getSpec([files[1][0]], context="sdss_dr16")
        ingest(data, "sdss_dr16", [second], workers=1)
        assert len(client.getSpec([files[1][0]], context="sdss_dr16")) == 1
        client.close()
