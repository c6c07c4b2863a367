"""A simulated catalogue of any size: a table like specObj of SDSS, as one Parquet file.

Plates of three surveys stand side by side over two caps of the sky, as many objects on each as it has fibres; some
plates are observed twice. Nothing here looks at spectra; `simulate` makes those.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specflight.catalog.identifiers import pack_specobjid
from specflight.errors import InvalidRequest

__all__ = ["MOST_ROWS", "offset", "simulate_catalogue"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PLATE_RADIUS = 1.49  # degrees
FOCAL_SCALE = 217.7  # mm in the focal plane to a degree
CAPS = np.array([[107.0, 153.0, -3.0, 68.0], [-50.0, 110.0, -10.0, 35.0]])  # first RA, width, Dec from, to; degrees
PLASTIC = 1.324717957244746  # powers of its inverse fill the unit square evenly (the R2 sequence of Roberts 2018)
LUMPS = 0.15  # share of the fibres that stand near the one before
LUMP_SIZE = 0.05  # degrees
AGAIN_EVERY = 8  # rounds, the last of which looks at the objects of the one before
AGAIN_DAYS = 31  # between the two

CLASSES = np.array(["GALAXY", "QSO", "STAR"])
SUBCLASSES = np.array(
    [
        ["", "", "", "STARFORMING", "STARFORMING", "STARBURST", "AGN", "BROADLINE"],
        ["BROADLINE", "BROADLINE", "BROADLINE", "BROADLINE", "", "", "STARBURST BROADLINE", "AGN BROADLINE"],
        ["F5", "F9", "K1", "K3", "M0V", "M3", "A0", "WD"],
    ]
)
COLOURS = np.array(
    [[1.9, 0.9, 0.0, -0.4, -0.7], [0.3, 0.2, 0.0, -0.1, -0.15], [1.5, 0.5, 0.0, -0.2, -0.3]]
)  # ugriz - r
Z_SPREAD = np.array([0.3, 0.4, 0.0])  # in ln z
STAR_Z = 2.5e-4  # spread of the redshifts of stars
Z_ERRORS = np.array([2e-5, 3e-4, 1e-5])  # of a spectrum of high signal-to-noise


@dataclass(frozen=True, slots=True)
class _Survey:
    """Plates of one kind.

    Attributes
    ----------
    name, instrument, program, run2d : str
        As the catalogue says them.
    fibers : int
        Of a plate.
    plates : range
        Their numbers, taken in turn.
    mjd : int
        Of the first plate.
    shares : tuple of float
        Of galaxies, quasars and stars.
    z : tuple of float
        Median redshifts of the same; that of stars is 0.
    faint : float
        Typical magnitude in r.
    waves : tuple of float
        First and last wavelength, Å.
    """

    name: str
    instrument: str
    program: str
    run2d: str
    fibers: int
    plates: range
    mjd: int
    shares: tuple[float, float, float]
    z: tuple[float, float, float]
    faint: float
    waves: tuple[float, float]


_EARLY, _LATE = (3806.0, 9202.0), (3560.0, 10400.0)
SURVEYS = (
    _Survey(
        "sdss", "SDSS", "legacy", "26", 640, range(266, 2800), 51600, (0.7, 0.12, 0.18), (0.11, 1.5, 0), 17.6, _EARLY
    ),
    _Survey(
        "boss", "BOSS", "boss", "v5_13_2", 1000, range(3586, 5900), 55200, (0.65, 0.2, 0.15), (0.52, 2.4, 0), 20, _LATE
    ),
    _Survey(
        "segue2", "SDSS", "segue", "104", 640, range(2800, 3586), 54600, (0.05, 0.02, 0.93), (0.2, 1.4, 0), 18, _EARLY
    ),
    _Survey(
        "boss", "BOSS", "boss", "v5_13_2", 1000, range(5900, 8192), 56200, (0.65, 0.2, 0.15), (0.52, 2.4, 0), 20, _LATE
    ),
    _Survey(
        "eboss", "BOSS", "eboss", "v5_13_2", 1000, range(8192, 16384), 57000, (0.5, 0.4, 0.1), (0.75, 1.5, 0), 21, _LATE
    ),
)
"""The plates of one round."""

ROUND = sum(survey.fibers for survey in SURVEYS)
ROUNDS = 3 * AGAIN_EVERY  # of a chunk: some 100,000 rows, a row group
MOST_ROWS = 100_000_000
"""Of many more, the MJD that is in a specobjid could not tell the visits of a plate apart."""

_UNITS = {
    "ra": "deg",
    "dec": "deg",
    "mjd": "d",
    "spectroflux": "nanomaggy",
    "vdisp": "km/s",
    "vdisp_err": "km/s",
    "wavemin": "Angstrom",
    "wavemax": "Angstrom",
    "xfocal": "mm",
    "yfocal": "mm",
}


def simulate_catalogue(path: Path, rows: int, seed: int = 1) -> None:
    """Write a simulated catalogue of spectra as a Parquet file.

    It has 28 columns with units, among them vectors, strings and identifiers beyond 2^63; redshifts, magnitudes and
    signal-to-noise ratios are distributed like those of the surveys, positions lie on plates over 13,000 square
    degrees. Row number i does not depend on how many there are. Memory does not grow with the rows.

    Parameters
    ----------
    path : Path
        Of the file.
    rows : int
        At most `MOST_ROWS`.
    seed : int
        Another one gives other objects.

    Raises
    ------
    InvalidRequest
        If `rows` is not between 1 and `MOST_ROWS`.
    """
    if not 1 <= rows <= MOST_ROWS:
        raise InvalidRequest(f"rows: {rows} is not between 1 and {MOST_ROWS}")
    writer = None
    try:
        for number, first in enumerate(range(0, rows, ROUNDS * ROUND)):
            table = _chunk(seed, number).slice(0, rows - first)
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _chunk(seed: int, number: int) -> pa.Table:
    """All plates of some rounds."""
    rng = np.random.default_rng([seed, number])
    fibers = np.array([survey.fibers for survey in SURVEYS] * ROUNDS)
    plate = np.repeat(np.arange(len(fibers)), fibers)  # in this chunk
    fiber = np.arange(len(plate)) - (np.cumsum(fibers) - fibers)[plate] + 1
    survey, turn = plate % len(SURVEYS), number * ROUNDS + plate // len(SURVEYS)
    again = turn % AGAIN_EVERY == AGAIN_EVERY - 1
    visit, index = np.divmod(turn - again, _of(survey, [len(one.plates) for one in SURVEYS]))
    named = {
        "plate": _of(survey, [one.plates.start for one in SURVEYS]) + index,
        "mjd": _of(survey, [one.mjd for one in SURVEYS]) + index // 4 + (2 * visit + again) * AGAIN_DAYS,
        "fiberid": fiber,
        "run2d": _of(survey, [one.run2d for one in SURVEYS]),
    }
    # An object that is looked at again is on the same fibre of the round before.
    source = np.arange(len(plate)) - again * ROUND
    targets = _targets(rng, survey, turn * len(SURVEYS) + survey, fiber)
    targets = {name: values[source] for name, values in targets.items()}
    columns = {
        "specobjid": pack_specobjid(**named),
        "ra": targets["ra"],
        "dec": targets["dec"],
        **_measured(rng, targets),
        **{name: values if name == "run2d" else values.astype(np.int32) for name, values in named.items()},
        "survey": _of(survey, [one.name for one in SURVEYS]),
        "instrument": _of(survey, [one.instrument for one in SURVEYS]),
        "programname": _of(survey, [one.program for one in SURVEYS]),
        "specprimary": 1 - again.astype(np.int16),
        "thing_id": source + number * len(plate) + 1,
        "wavemin": _of(survey, [one.waves[0] for one in SURVEYS]).astype(np.float32),
        "wavemax": _of(survey, [one.waves[1] for one in SURVEYS]).astype(np.float32),
        "xfocal": (FOCAL_SCALE * targets["x"]).astype(np.float32),
        "yfocal": (FOCAL_SCALE * targets["y"]).astype(np.float32),
    }
    arrays = {name: _arrow(values) for name, values in columns.items()}
    metadata = {name: {"unit": unit} for name, unit in _UNITS.items()}
    fields = [pa.field(name, array.type, metadata=metadata.get(name)) for name, array in arrays.items()]
    return pa.table(list(arrays.values()), schema=pa.schema(fields))


def _of(survey: Ints, values: list[Any]) -> NDArray[Any]:
    """What each row's survey has in a list of the surveys' values."""
    return np.array(values)[survey]


def _arrow(values: NDArray[Any]) -> pa.Array:
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    return pa.array(values)


def _targets(rng: np.random.Generator, survey: Ints, field: Ints, fiber: Ints) -> dict[str, NDArray[Any]]:
    """What is on the sky where a fibre looks: its place, kind, redshift and magnitude in r."""
    count = len(field)
    radius, angle = PLATE_RADIUS * np.sqrt(rng.random(count)), 2 * np.pi * rng.random(count)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    near = np.flatnonzero((rng.random(count) < LUMPS) & (fiber > 1))
    for axis in (x, y):
        axis[near] = axis[near - 1] + rng.normal(0.0, LUMP_SIZE, len(near))
    ra, dec = offset(*_centre(field), x, y)
    shares = np.cumsum([one.shares for one in SURVEYS], axis=1)[survey]
    kind = (rng.random(count)[:, None] > shares[:, :2]).sum(axis=1)
    z = np.array([one.z for one in SURVEYS])[survey, kind] * np.exp(Z_SPREAD[kind] * rng.normal(size=count))
    z += STAR_Z * rng.normal(size=count)
    magnitude = _of(survey, [one.faint for one in SURVEYS]) + 0.4 - rng.gamma(2.0, 0.4, count)
    return {"x": x, "y": y, "ra": ra, "dec": dec, "kind": kind, "z": z, "magnitude": magnitude}


def _centre(field: Ints) -> tuple[Floats, Floats]:
    """Right ascension and declination of the middle of plates, in degrees."""
    across, along = (np.mod(0.5 + field / PLASTIC**power, 1.0) for power in (1, 2))
    first, width, south, north = CAPS.T
    low, high = np.sin(np.radians(south)), np.sin(np.radians(north))
    area = width * (high - low)
    cap = (across > area[0] / area.sum()).astype(np.int64)
    across = (across * area.sum() - area[0] * cap) / area[cap]
    return first[cap] + width[cap] * across, np.degrees(np.arcsin(low[cap] + (high - low)[cap] * along))


def offset(ra: Floats, dec: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Go away from places on great circles.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,)
        Degrees.
    x, y : ndarray of float64, shape (n,)
        How far to go to the east and to the north, degrees.

    Returns
    -------
    ndarray, ndarray
        Right ascension, from 0 to 360, and declination, degrees.
    """
    far, towards = np.radians(np.hypot(x, y)), np.arctan2(x, y)
    dec = np.radians(dec)
    sine = np.sin(dec) * np.cos(far) + np.cos(dec) * np.sin(far) * np.cos(towards)
    east = np.arctan2(np.sin(towards) * np.sin(far) * np.cos(dec), np.cos(far) - np.sin(dec) * sine)
    return np.mod(ra + np.degrees(east), 360.0), np.degrees(np.arcsin(sine))


def _measured(rng: np.random.Generator, targets: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What the pipeline says of targets; another look at the same target gives other noise."""
    kind, count = targets["kind"], len(targets["kind"])
    bands = targets["magnitude"][:, None] + COLOURS[kind]
    sn = 10.0 ** (-0.25 * (bands - 21.5)) * rng.lognormal(0.0, 0.2, count)[:, None]
    flux = 10.0 ** (0.4 * (22.5 - bands)) * (1.0 + rng.normal(size=bands.shape) / (3.0 * sn))
    zerr = Z_ERRORS[kind] * (1.0 + targets["z"]) * (1.0 + 8.0 / sn[:, 2])
    vdisp = np.where(kind == 0, np.clip(rng.normal(190.0, 60.0, count), 0.0, 850.0), 0.0)
    unsure = rng.random(count) < 0.5 * np.exp(-sn[:, 2])
    return {
        "z": (targets["z"] + zerr * rng.normal(size=count)).astype(np.float32),
        "zerr": zerr.astype(np.float32),
        "zwarning": np.where(unsure, 4, np.where(rng.random(count) < 0.004, 16, 0)).astype(np.int32),
        "class": CLASSES[kind],
        "subclass": SUBCLASSES[kind, rng.integers(0, SUBCLASSES.shape[1], count)],
        "sn_median_all": sn.mean(axis=1).astype(np.float32),
        "sn_median": sn.astype(np.float32),
        "spectroflux": flux.astype(np.float32),
        "rchi2": rng.normal(1.05, 0.12, count).astype(np.float32),
        "dof": rng.integers(3600, 4600, count).astype(np.int32),
        "vdisp": vdisp.astype(np.float32),
        "vdisp_err": (vdisp / np.maximum(sn[:, 2], 1.0)).astype(np.float32),
    }
