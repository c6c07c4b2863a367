"""Real servers on free ports of the loopback interface, once for a session, and the truth to compare them with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from specflight.catalog.identifiers import pack_specobjid
from specflight.client import Client
from specflight.flight.archive import fits_files
from specflight.flight.datadir import ContextDirectory
from specflight.flight.fits import COADD_COLUMNS, load_bytes, read_spec_file
from specflight.tools.ingest import ingest
from specflight.tools.serve import Running, start

Vectors = dict[str, NDArray[Any]]
"""The eight columns of a spectrum by name, as little-endian float32 and int32."""


def catalogue_files(data: Path, context: str, table: str) -> list[Path]:
    """Parquet files of a catalogue in the order of its rows."""
    directory = ContextDirectory(data, context)
    manifest = directory.manifest()
    assert manifest is not None
    return directory.table_files(manifest, table)


@cache
def _astropy_vectors(path: Path) -> Vectors:
    with fits.open(path, memmap=False) as hdus:
        coadd = hdus[1].data
        names = {name.lower(): name for name in coadd.names}
        kinds = {name: "<i4" if "mask" in name else "<f4" for name in COADD_COLUMNS}
        return {name: np.asarray(coadd[names[name]]).astype(kind) for name, kind in kinds.items()}


def _files_by_id(trees: dict[str, Path]) -> dict[str, dict[int, Path]]:
    return {
        context: {read_spec_file(load_bytes(path)).specobjid: path for path in fits_files(tree)}
        for context, tree in trees.items()
    }


def _also_from_files(data: Path, trees: dict[str, Path]) -> None:
    """Offer each context from its FITS tree as well, as ``<context>_fits``."""
    text = '[contexts.{0}_fits]\ndescription = "{0} from its files"\nrelease = "{1}"\narchive = "{2}"\n'
    releases = {context: context.rpartition("_")[2].upper() for context in trees}
    (data / "specflight.toml").write_text(
        "".join(text.format(context, releases[context], tree) for context, tree in trees.items())
    )


@pytest.fixture(scope="session")
def astropy_vectors() -> Callable[[Path], Vectors]:
    """Reads the eight columns of a file with astropy."""
    return _astropy_vectors


@pytest.fixture(scope="session")
def make_spectrum() -> Callable[..., int]:
    """Writes a small SDSS file: ``make_spectrum(path, fiberid=1, k0=35500, npix=40, loglam=None, plate=300)``.

    Its fluxes are random; `loglam` puts it on another grid. The specobjid comes back.
    """

    def make(
        path: Path,
        fiberid: int = 1,
        k0: int = 35500,
        npix: int = 40,
        loglam: NDArray[np.float32] | None = None,
        plate: int = 300,
    ) -> int:
        rng = np.random.default_rng((fiberid, plate))
        columns: Vectors = {name: rng.normal(1, 1, npix).astype(np.float32) for name in COADD_COLUMNS}
        columns["loglam"] = ((k0 + np.arange(npix)) * 1e-4).astype(np.float32) if loglam is None else loglam
        for name in ("and_mask", "or_mask"):
            columns[name] = rng.integers(-(2**31), 2**31, npix).astype(np.int32)
        specobjid = int(pack_specobjid(plate, 52000, fiberid, "26"))
        row: dict[str, tuple[str, Any]] = {
            "SPECOBJID": ("22A", f"{specobjid:>22}"),
            "PLATE": ("J", plate),
            "MJD": ("J", 52000),
            "FIBERID": ("J", fiberid),
            "RUN2D": ("4A", "26"),
            "PLUG_RA": ("D", 10.0 + fiberid),
            "PLUG_DEC": ("D", 1.0),
            "CLASS": ("6A", "GALAXY"),
            "Z": ("E", 0.01 * fiberid),
            "ZWARNING": ("J", 0),
        }
        coadd = [fits.Column(name, "J" if "mask" in name else "E", array=values) for name, values in columns.items()]
        about = [fits.Column(name, kind, array=[value]) for name, (kind, value) in row.items()]
        hdus = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns(coadd), fits.BinTableHDU.from_columns(about)]
        path.parent.mkdir(parents=True, exist_ok=True)
        fits.HDUList(hdus).writeto(path, overwrite=True)
        return specobjid

    return make


@pytest.fixture(scope="session")
def sim_truth(sim_tree: dict[str, Path]) -> dict[str, dict[int, Path]]:
    """File of each simulated spectrum, by context and specobjid."""
    return _files_by_id(sim_tree)


@pytest.fixture(scope="session")
def sim_parts(sim_tree: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory like `sim_data`, each context in several part files; to be copied, not changed."""
    data = tmp_path_factory.mktemp("parts") / "data"
    for context, tree in sim_tree.items():
        for survey in sorted(tree.iterdir()):
            ingest(data, context, [survey], workers=1)
    return data


@pytest.fixture(scope="session")
def sim_served(sim_data: Path, sim_tree: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of the simulated contexts, each from its FITS tree as well."""
    data = tmp_path_factory.mktemp("served") / "data"
    shutil.copytree(sim_data, data, symlinks=True)
    _also_from_files(data, sim_tree)
    return data


@pytest.fixture(scope="session")
def sim_server(sim_served: Path) -> Iterator[Running]:
    """Two Flight workers and HTTP on `sim_served`."""
    with start(sim_served, "127.0.0.1", 0, 0, workers=2) as running:
        yield running


@pytest.fixture(scope="session")
def sim_client(sim_server: Running) -> Iterator[Client]:
    """Client of `sim_server`, context sdss_dr16."""
    with Client(sim_server.flight[0], context="sdss_dr16") as client:
        yield client


@pytest.fixture(scope="session")
def real_trees(real_data: Path) -> dict[str, Path]:
    """Tree of each release of real files, by context."""
    return {f"sdss_{tree.name}": tree.resolve() for tree in sorted((real_data / "sas").iterdir())}


@pytest.fixture(scope="session")
def real_truth(real_trees: dict[str, Path]) -> dict[str, dict[int, Path]]:
    """File of each real spectrum, by context and specobjid."""
    return _files_by_id(real_trees)


@pytest.fixture(scope="session")
def real_server(real_trees: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of all real files, each release ingested and from its FITS tree."""
    data = tmp_path_factory.mktemp("real") / "data"
    for context, tree in real_trees.items():
        ingest(data, context, [tree], workers=1)
    _also_from_files(data, real_trees)
    with start(data, "127.0.0.1", 0, 0, workers=1) as running:
        yield running
