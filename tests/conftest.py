from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from specflight.tools.ingest import ingest
from specflight.tools.simulate import simulate

SPECTRA = 60

# How long an example takes says nothing on a machine that does other things as well.
settings.register_profile("specflight", deadline=None)
settings.load_profile("specflight")
pytest_plugins = ["fixtures_server", "fixtures_http"]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real SDSS files."""
    path = Path(os.environ.get("SPECFLIGHT_REAL_DATA", "../shared/data"))
    if not path.is_dir():
        pytest.skip(f"no real files at {path}: set SPECFLIGHT_REAL_DATA to their folder")
    return path


@pytest.fixture(scope="session")
def sim_tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Trees of simulated FITS files, by context; not to be changed."""
    return simulate(tmp_path_factory.mktemp("sas"), SPECTRA)


@pytest.fixture(scope="session")
def sim_data(sim_tree: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data directory with every tree of `sim_tree` ingested; not to be changed."""
    data = tmp_path_factory.mktemp("ingested") / "data"
    for context, tree in sim_tree.items():
        report = ingest(data, context, [tree], workers=1)
        assert not report.skipped
    return data
