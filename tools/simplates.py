"""Which plate and fibre the simulated spectrum number i stands on.

Spectra go round the plates of a block, one fibre at a time; a full block is followed by one of further plates. So the
files are spread evenly over the plates, and number i is the same whatever the number of spectra.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

__all__ = ["PLATES", "Observation", "Plate", "observation"]

FIBERS_USED = 600  # of each plate
FIBER_STRIDE = 237  # coprime to 640 and 1000
PLATE_STEP = 20  # from the plates of a block to those of the next; PLATES differ modulo this number
REPEAT_EVERY = 8  # rounds between the repeat observations of a pair of plates
FULL_ROUND = 7  # the round whose spectra come with their exposures on the plates that have a full tree …
FULL_EVERY = 100  # … and after how many rounds that happens again
GOLDEN_ANGLE = 137.50776  # degrees


@dataclass(frozen=True, slots=True)
class Plate:
    """A plug plate, observed in one night and reduced by one version of the pipeline.

    Attributes
    ----------
    release, survey, run2d : str
        Folders of its files: ``dr16``, ``eboss``, ``v5_13_0``.
    number, mjd : int
        PLATE and MJD.
    ra, dec : float
        Centre, degrees.
    program : str
        Mixture of targets, see `specflight.tools.simtargets.draw_target`.
    repeats : int
        Index in `PLATES` of the overlapping plate some of whose objects it observes again, or -1.
    full : bool
        Whether some of its spectra come with their exposures.
    """

    release: str
    survey: str
    run2d: str
    number: int
    mjd: int
    ra: float
    dec: float
    program: str
    repeats: int = -1
    full: bool = False

    @property
    def legacy(self) -> bool:
        """Whether it was observed with the SDSS-I/II spectrographs."""
        return self.survey == "sdss"

    @property
    def fibers(self) -> int:
        """Fibres of the spectrographs."""
        return 640 if self.legacy else 1000


PLATES = (
    Plate("dr12", "sdss", "26", 266, 51602, 145.892, 0.059, "legacy", full=True),
    Plate("dr16", "eboss", "v5_13_0", 10656, 58163, 112.702, 41.579, "eboss", full=True),
    Plate("dr12", "boss", "v5_7_0", 7102, 56666, 166.098, 58.054, "boss"),
    Plate("dr16", "sdss", "26", 266, 51602, 145.892, 0.059, "legacy", full=True),  # 26 is in both releases
    Plate("dr16", "sdss", "26", 267, 51608, 147.592, 0.049, "legacy", repeats=3),
    Plate("dr12", "boss", "v5_7_0", 7103, 56661, 168.801, 58.402, "boss", repeats=2),
    Plate("dr16", "eboss", "v5_13_0", 10657, 58162, 114.313, 41.901, "eboss", repeats=1),
    Plate("dr12", "sdss", "26", 388, 51793, 0.353, 0.011, "legacy"),  # across RA = 0, as is 4220
    Plate("dr16", "eboss", "v5_13_0", 9379, 57811, 205.013, 81.902, "eboss"),
    Plate("dr12", "sdss", "104", 3257, 54888, 110.207, 35.103, "segue"),
    Plate("dr16", "sdss", "103", 2801, 54331, 330.168, 12.008, "segue"),
    Plate("dr12", "boss", "v5_7_0", 4220, 55447, 359.204, -0.412, "boss"),
    Plate("dr16", "eboss", "v5_13_0", 11045, 58484, 30.502, 0.004, "eboss"),
    Plate("dr16", "eboss", "v5_13_0", 7102, 56666, 166.098, 58.054, "boss"),  # the DR12 plate, reduced anew
)
"""The plates of the first block; later blocks have higher numbers and other right ascensions."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One fibre of a plate.

    Attributes
    ----------
    plate : Plate
        Where it was plugged.
    fiberid : int
        FIBERID, from 1.
    ra, dec : float
        Position of the object, degrees.
    target : tuple of (int, int)
        Plate and fibre of the first observation of the same object: what makes the object what it is.
    program : str
        Mixture that the object was drawn from.
    observations : int
        How often the object was observed, 1 or 2.
    full : bool
        Whether the file holds the single exposures, too.
    """

    plate: Plate
    fiberid: int
    ra: float
    dec: float
    target: tuple[int, int]
    program: str
    observations: int
    full: bool

    @property
    def primary(self) -> bool:
        """Whether it is the first observation of its object."""
        return self.target == (self.plate.number, self.fiberid)

    @property
    def folder(self) -> str:
        """Folder of the file below that of all releases, as on the Science Archive Server."""
        plate, level = self.plate, "full" if self.full else "lite"
        return f"{plate.release}/{plate.survey}/spectro/redux/{plate.run2d}/spectra/{level}/{plate.number:04d}"

    @property
    def filename(self) -> str:
        """Name of the file."""
        return f"spec-{self.plate.number:04d}-{self.plate.mjd}-{self.fiberid:04d}.fits"


@lru_cache(maxsize=1024)
def _plate(index: int, block: int) -> Plate:
    first = PLATES[index]
    return replace(
        first,
        number=first.number + PLATE_STEP * block,
        mjd=first.mjd + block,
        ra=(first.ra + GOLDEN_ANGLE * block) % 360.0,
    )


def _position(plate: Plate, fiberid: int) -> tuple[float, float]:
    """Sky position of a fibre: a sunflower pattern on a disc of 1.49° (neighbours are at least 3′ apart)."""
    distance = np.radians(1.49 * np.sqrt((fiberid - 0.5) / plate.fibers))
    bearing = np.radians(GOLDEN_ANGLE * fiberid + plate.number)
    dec = np.radians(plate.dec)
    sine = np.sin(dec) * np.cos(distance) + np.cos(dec) * np.sin(distance) * np.cos(bearing)
    east = np.sin(bearing) * np.sin(distance) * np.cos(dec)
    ra = plate.ra + np.degrees(np.arctan2(east, np.cos(distance) - np.sin(dec) * sine))
    return float(ra % 360.0), float(np.degrees(np.arcsin(sine)))


def _separation(ra: float, dec: float, plate: Plate) -> float:
    """Angular distance of a position from the centre of a plate, degrees (haversine formula)."""
    a, d, a0, d0 = np.radians((ra, dec, plate.ra, plate.dec))
    half = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin((a - a0) / 2) ** 2
    return float(np.degrees(2 * np.arcsin(np.sqrt(half))))


def _fiber(plate: Plate, turn: int) -> int:
    return 1 + turn * FIBER_STRIDE % plate.fibers


def observation(number: int) -> Observation:
    """Plate, fibre and position of spectrum `number` (from 0)."""
    turn, index = divmod(number, len(PLATES))
    block, turn = divmod(turn, FIBERS_USED)
    plate = _plate(index, block)
    fiberid = _fiber(plate, turn)
    ra, dec = _position(plate, fiberid)
    target, program, observations = (plate.number, fiberid), plate.program, 1
    if turn % REPEAT_EVERY == REPEAT_EVERY // 2:
        partner = next((i for i, other in enumerate(PLATES) if _repeats(other, PLATES[index])), -1)
        if partner >= 0 and _separation(ra, dec, _plate(partner, block)) < 1.49:
            observations = 2
        if plate.repeats >= 0:
            first = _plate(plate.repeats, block)
            again = _fiber(first, turn)
            position = _position(first, again)
            if _separation(*position, plate) < 1.49:
                ra, dec = position[0], position[1] + 0.4 / 3600.0
                target, program, observations = (first.number, again), first.program, 2
    full = plate.full and turn % FULL_EVERY == FULL_ROUND
    return Observation(plate, fiberid, ra, dec, target, program, observations, full)


def _repeats(later: Plate, plate: Plate) -> bool:
    """Whether objects of `plate` are observed again by `later`; a plate keeps its repeats in every reduction."""
    return later.repeats >= 0 and (PLATES[later.repeats].number, PLATES[later.repeats].mjd) == (plate.number, plate.mjd)
