"""Users' files in a local folder, in fsspec's memory and on a service; the simulated spectra of one release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures_http import MAX_ROWS, Scratch
from fixtures_server import Vectors
from storageserver import Service
from vosfiles import MAX_FILE, QUOTA
from webqueries import HUGE
from webspectra import CONTEXT, Read, Truth

from specflight.http.vos import Storage
from specflight.tools.ingestcatalog import ingest_catalog


@pytest.fixture(params=["local", "memory"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Place of the files, a local folder and fsspec's memory in turn."""
    if request.param == "local":
        yield str(tmp_path / "storage")
        return
    root = f"/{uuid4().hex}"
    yield f"memory:/{root}"
    memory = fsspec.filesystem("memory")
    if memory.exists(root):
        memory.rm(root, recursive=True)


@pytest.fixture
def storage(storage_url: str) -> Storage:
    """Files of users with 1,000 bytes each, and 600 for a file."""
    return Storage(storage_url, QUOTA, MAX_FILE)


@pytest.fixture
def local(tmp_path: Path) -> Storage:
    """The same, in a local folder."""
    return Storage((tmp_path / "storage").as_uri(), QUOTA, MAX_FILE)


@pytest.fixture
def service(scratch: Scratch) -> Iterator[Service]:
    """The users' files of `scratch`, of which there are none yet."""
    scratch.remove_files()
    yield Service(scratch.running.http, scratch.folder, scratch.web, scratch.tokens)
    scratch.remove_files()


@pytest.fixture(scope="session")
def ids(sim_truth: Truth) -> list[int]:
    """specobjids of sdss_dr16 in random order; one is beyond 2^63."""
    known = sorted(sim_truth[CONTEXT])
    assert known[-1] >= 2**63
    return np.random.default_rng(4).permutation(np.array(known, np.uint64)).tolist()  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def truth(sim_truth: Truth, astropy_vectors: Read) -> dict[int, Vectors]:
    """What astropy reads of them."""
    return {specobjid: astropy_vectors(path) for specobjid, path in sim_truth[CONTEXT].items()}


@pytest.fixture(scope="session")
def catalogued(scratch: Scratch, tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    """The service `scratch` with two catalogues more: ``vac.masses`` and the long ``vac.many``."""
    folder = tmp_path_factory.mktemp("query")
    masses = pa.table(
        {
            "specobjid": pa.array([HUGE, HUGE + 1, 299489677444933632, None], pa.uint64()),
            "ra": [10.0, 11.0, 12.0, 13.0],
            "dec": [-1.0, -1.0, -1.0, -1.0],
            "logmass": pa.array([10.1, np.nan, None, 9.0], pa.float32()),
            "name": ["NGC 1", 'the "odd", one', "", None],
        }
    )
    rng = np.random.default_rng(6)
    many = pa.table(
        {
            "specobjid": rng.permutation(np.arange(2**63 - 9, 2**63 + MAX_ROWS - 8, dtype=np.uint64)),
            "ra": rng.uniform(0, 360, MAX_ROWS + 1),
            "dec": rng.uniform(-90, 90, MAX_ROWS + 1),
            "z": rng.exponential(0.3, MAX_ROWS + 1).astype(np.float32),
        }
    )
    for name, table in (("masses", masses), ("many", many)):
        file = folder / f"{name}.parquet"
        pq.write_table(table, file)
        ingest_catalog(scratch.data, CONTEXT, f"vac.{name}", file)
    return scratch
