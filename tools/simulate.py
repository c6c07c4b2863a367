"""Demo data: trees of realistic SDSS spectra, so that a server has something to serve without the internet.

`simulate` writes FITS files laid out like those of the Science Archive Server for two releases. What the objects look
like is in `simtargets` and `simtemplates`, how the spectrographs see them in `siminstrument`, where they stand in
`simplates`, and the bytes of the files in `simfits`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specflight.catalog.identifiers import pack_specobjid
from specflight.errors import InvalidRequest
from specflight.tools.simfits import Card, PrimaryHeader, coadd_hdu, exposure_hdu, lines_hdu, row_hdu
from specflight.tools.siminstrument import Coadd, observe, spectrograph
from specflight.tools.simplates import Observation, Plate, observation
from specflight.tools.simtargets import EmptySky, Light, Target, draw_target

__all__ = ["simulate"]

Numbers = NDArray[np.float32]
Row = dict[str, Any]  # values of the row of the object by column

CONTEXTS = {"sdss_dr12": "dr12", "sdss_dr16": "dr16"}
BANDS = ((3600, 4000), (4000, 5400), (5600, 6900), (6900, 8200), (8200, 9200))  # Å, about u g r i z
BAND_EDGES = np.round(1e4 * np.log10(BANDS)).astype(np.int64).ravel()  # pixels
NANOMAGGY = 9.187e-8 * np.prod(BANDS, axis=1)  # of 1e-17 erg/s/cm²/Å: nanomaggies (AB), by the square of the wavelength
FIBER_SHIFT = 38  # of the fibre in a specobjid
SKY, SMALL_DELTA_CHI2 = 1, 4  # bits of ZWARNING
REDUCED = {"v5_7_0": "Wed Apr 16 23:24:30 2014", "v5_13_0": "Fri Mar 15 11:19:16 2019"}
REDUCED_LEGACY = "Sun Mar  2 16:31:14 2008"
TEMPLATES = {"GALAXY": "spEigenGal-56436.fits", "QSO": "spEigenQSO-55732.fits", "STAR": "spEigenStar-55734.fits"}
LINE_TABLE = (
    *(("Ly_alpha", 1215.67), ("N_V 1240", 1240.81), ("C_IV 1549", 1549.48), ("He_II 1640", 1640.42)),
    *(("C_III] 1908", 1908.734), ("Mg_II 2799", 2799.117), ("[O_II] 3725", 3727.092), ("[O_II] 3727", 3729.875)),
    *(("[Ne_III] 3868", 3869.857), ("H_zeta", 3890.166), ("[Ne_III] 3970", 3968.593), ("H_epsilon", 3971.198)),
    *(("H_delta", 4102.892), ("H_gamma", 4341.684), ("[O_III] 4363", 4364.435), ("He_II 4685", 4686.991)),
    *(("H_beta", 4862.683), ("[O_III] 4959", 4960.295), ("[O_III] 5007", 5008.240), ("He_II 5411", 5413.024)),
    *(("[O_I] 5577", 5578.888), ("[N_II] 5755", 5756.186), ("He_I 5876", 5877.309), ("[O_I] 6300", 6302.046)),
    *(("[S_III] 6312", 6313.806), ("[O_I] 6363", 6365.535), ("[N_II] 6548", 6549.859), ("H_alpha", 6564.614)),
    *(("[N_II] 6583", 6585.269), ("[S_II] 6716", 6718.294), ("[S_II] 6730", 6732.678), ("[Ar_III] 7135", 7137.757)),
)  # LINENAME and LINEWAVE of the spZline files
NOT_BEFORE = {"legacy": ("H_zeta", "[N_II] 5755", "He_I 5876"), "v5_7_0": ("H_zeta",), "v5_13_0": ()}


def simulate(directory: Path, spectra: int = 600, seed: int = 1) -> dict[str, Path]:
    """Write simulated SDSS spectra as FITS files in trees like those of the Science Archive Server.

    There are SDSS-I/II, SEGUE, BOSS and eBOSS plates: two that overlap in each release, some across RA = 0, one beyond
    a declination of 80°, plates above 8191; some objects are observed twice, some spectra are in both releases, some
    files hold the single exposures, too. Spectrum number i does not depend on how many there are, and the same `seed`
    gives the same bytes.

    Parameters
    ----------
    directory : Path
        Where the folders ``dr12`` and ``dr16`` are made; files that exist are replaced one by one.
    spectra : int
        Number of files, over both releases.
    seed : int
        Which sky to simulate, from 0.

    Returns
    -------
    dict of str to Path
        The root of the tree of each context, ``sdss_dr12`` and ``sdss_dr16``.

    Raises
    ------
    InvalidRequest
        If `spectra` or `seed` is negative.
    """
    for name, value in (("spectra", spectra), ("seed", seed)):
        if value < 0:
            raise InvalidRequest(f"{name}: {value} is negative")
    roots = {context: directory / release for context, release in CONTEXTS.items()}
    for root in roots.values():
        root.mkdir(parents=True, exist_ok=True)
    folders: set[str] = set()
    for number in range(spectra):
        where = observation(number)
        if where.folder not in folders:
            (directory / where.folder).mkdir(parents=True, exist_ok=True)
            folders.add(where.folder)
        path = f"{directory}/{where.folder}/{where.filename}"
        with open(f"{path}.part", "wb") as part:
            part.write(_file(where, seed))
        os.replace(f"{path}.part", path)
    return roots


def _file(where: Observation, seed: int) -> bytes:
    """Bytes of the file of one spectrum."""
    plate = where.plate
    of_object = np.random.default_rng((seed, *where.target))
    target = draw_target(of_object, where.program)
    thing = int(of_object.integers(10**7, 5 * 10**8))
    rng = np.random.default_rng((seed, plate.number, where.fiberid, plate.mjd))
    k0, npix = _grid(where, rng)
    light = target.light(k0, npix)
    coadd = observe(light.flux, spectrograph("sdss" if plate.legacy else "boss"), k0, rng)
    row = _row(where, target, coadd, thing, rng)
    columns, rows = _lines(row, coadd, light, target.z, rng)
    parts = [
        _primary(plate, _slit(where)).patched(_cards(where, row, k0, thing)),
        coadd_hdu(coadd, plate.run2d),
        row_hdu(row, plate.run2d),
        lines_hdu(columns, rows, plate.run2d),
    ]
    if where.full:
        parts += [
            exposure_hdu(_exposure(coadd, name[0], rng), name.upper(), plate.run2d)
            for name in _exposures(plate, _slit(where))
        ]
    return b"".join(parts)


def _slit(where: Observation) -> int:
    """Which of the two spectrographs of a plate, 1 or 2."""
    return 1 if where.fiberid <= where.plate.fibers // 2 else 2


def _grid(where: Observation, rng: np.random.Generator) -> tuple[int, int]:
    """First pixel and number of pixels, which vary with fibre and spectrograph as in the real files."""
    jitter = int(rng.integers(0, 4)), int(rng.integers(0, 4))
    if where.plate.legacy:
        first, stop = 35780 + where.fiberid // 16, 39638
    else:
        offset = 51 if where.plate.run2d == "v5_7_0" else 15
        first, stop = (35515, 40135) if _slit(where) == 1 else (35515 + offset, 40150)
    return first + jitter[0], stop + jitter[1] - first - jitter[0]


@lru_cache(maxsize=64)
def _plate_id(plate: Plate) -> int:
    """Identifier of a plate: the specobjid of its fibre 0."""
    return int(pack_specobjid(plate.number, plate.mjd, 0, plate.run2d))


@lru_cache(maxsize=64)
def _exposures(plate: Plate, slit: int) -> tuple[str, ...]:
    first = 2591 if plate.legacy else (plate.mjd - 55000) * 48
    return tuple(
        f"{camera}{slit}-{first + number:08d}-{first + 4:08d}-{first + 5:08d}" for camera in "br" for number in (0, 1)
    )


@lru_cache(maxsize=64)
def _primary(plate: Plate, slit: int) -> PrimaryHeader:
    """Primary header of a plate; its RA and DEC are the centre of the plate."""
    boss, version = not plate.legacy, "v5_3_12" if plate.legacy else plate.run2d
    cards: list[Card] = [
        ("TELESCOP", "SDSS 2.5-M", "Sloan Digital Sky Survey"),
        ("FLAVOR", "science", "exposure type, SDSS spectro style"),
        ("MJD", plate.mjd, "MJD of observation"),
        ("MJDLIST", str(plate.mjd), ""),
        ("NAME", f"{plate.number:04d}-{plate.mjd}-01", "Name of the plugged plate"),
        ("PLATEID", plate.number, "Plate Id"),
        ("TILEID", plate.number + 600, "Tile Id"),
        ("CARTID", 1 + plate.number % 9, "Cartridge used in this plugging"),
        ("RA", plate.ra, "RA of telescope boresight (deg)"),
        ("DEC", plate.dec, "Dec of telescope boresight (deg)"),
        ("EQUINOX", 2000.0, ""),
        ("RADECSYS", "FK5", ""),
        ("RADEG", plate.ra, "RA of telescope pointing(deg)"),
        ("DECDEG", plate.dec, "Dec of telescope pointing (deg)"),
        ("EXPTIME", 1800.0, "Minimum of exposure times for all cameras"),
        ("SPCOADD", REDUCED.get(plate.run2d, REDUCED_LEGACY), "SPCOADD finished"),
        ("VERSREAD", version, "Version of idlspec2d for pre-processing"),
        ("VERS2D", version, "Version of idlspec2d for 2D reduction"),
        ("VERSCOMB", version, "Version of idlspec2d for combining"),
    ]
    if boss:
        cards.append(("RUN2D", plate.run2d, "Spectro-2D reduction name"))
    cards += [
        ("HELIO_RV", round(25.0 * float(np.sin(plate.mjd / 58.1)), 8), "Heliocentric correction (km/s)"),
        ("VACUUM", True, "Wavelengths are in vacuum"),
        ("NWORDER", 2, "Linear-log10 coefficients"),
        ("WFITTYPE", "LOG-LINEAR", "Linear-log10 dispersion"),
        ("COEFF0", 3.5775, "Central wavelength (log10) of first pixel"),  # of the plate, not the spectrum, in 26
        ("COEFF1", 1e-4, "Log10 dispersion per pixel"),
        ("DC-FLAG", 1, "Log-linear flag"),
        ("BUNIT", "1E-17 erg/cm^2/s/Ang", ""),
        ("PLUG_RA", 0.0, "RA of object [deg]"),
        ("PLUG_DEC", 0.0, "dec of object [deg]"),
        ("THING_ID", 0, "Unique object identifier") if boss else ("SPEC_ID", " " * 21 + "0", "Unique identifier"),
        ("FIBERID", 0, f"Fiber number (1-{plate.fibers})"),
        ("NEXP", 4, "Number of individual exposures"),
    ]
    digits = 3 if plate.run2d == "v5_13_0" else 2
    cards += [(f"EXPID{n:0{digits}d}", name, "") for n, name in enumerate(_exposures(plate, slit), 1)]
    return PrimaryHeader(cards, 16 if plate.run2d == "v5_13_0" else 8)


def _cards(where: Observation, row: Row, k0: int, thing: int) -> dict[str, str | int | float]:
    """Cards of the primary header that differ between the spectra of a plate."""
    cards: dict[str, str | int | float] = {
        "PLUG_RA": round(where.ra, 6),
        "PLUG_DEC": round(where.dec, 6),
        "FIBERID": where.fiberid,
    }
    if where.plate.legacy:
        return cards | {"SPEC_ID": f"{row['SPECOBJID']:>22}"}
    return cards | {"COEFF0": k0 / 10000, "THING_ID": thing}


def _row(where: Observation, target: Target, coadd: Coadd, thing: int, rng: np.random.Generator) -> Row:
    """Row of the object, of all layouts at once."""
    plate, (kind, subclass) = where.plate, target.classification
    empty = isinstance(target, EmptySky)
    plate_id = _plate_id(plate)
    row: Row = {
        "PLATE": plate.number,
        "MJD": plate.mjd,
        "FIBERID": where.fiberid,
        "TILE": plate.number + 600,
        "RUN2D": plate.run2d,
        "RUN1D": "" if plate.legacy else plate.run2d,
        "SPECOBJID": plate_id + (where.fiberid << FIBER_SHIFT),
        "PLATEID": str(plate_id),
        "SPECPRIMARY": where.primary and not empty,
        "NSPECOBS": where.observations,
        "CLASS": kind,
        "SUBCLASS": subclass,
        "TFILE": TEMPLATES[kind],
        "TCOLUMN": np.array((0, 1, 2, 3, *(-1,) * 6)),
        "NPOLY": 3,
        "THETA": (rng.standard_normal(10) * (1, 1, 1, 1, 1, 1, 1, 0, 0, 0)).astype(np.float32),
        "OBJTYPE": "SKY" if empty else {"STAR": "SPECTROPHOTO_STD"}.get(kind, kind),
        "SOURCETYPE": "SKY" if empty else kind,
        "TARGETTYPE": "SKY" if empty else "SCIENCE",
        "PLATEQUALITY": "good",
        "PLATESN2": 16.2,
        "LAMBDA_EFF": 4000.0 if kind == "QSO" and not plate.legacy else 5400.0,
        "FIRSTRELEASE": "dr8" if plate.program == "segue" else "dr7",
        **_program(plate, kind),
        **_place(where, thing),
        **_measurements(coadd),
    }
    noise = max(row["SN_MEDIAN_ALL"], 0.3)
    error = (0.0015 if kind == "QSO" else 0.00015) / noise * (1.0 + target.z)
    row["Z"] = target.z + error * float(rng.standard_normal())
    row["Z_ERR"] = error
    faint = empty or noise < (0.8 if kind == "QSO" else 1.6)
    row["RCHI2DIFF"] = 0.001 if faint else 0.02 * noise
    row["ZWARNING"] = SKY * empty | SMALL_DELTA_CHI2 * faint
    row["VDISP"] = target.dispersion + (100.0 / noise * float(rng.standard_normal()) if target.dispersion else 0.0)
    row["VDISP_ERR"] = 100.0 / noise if target.dispersion else 0.0
    return row


def _program(plate: Plate, kind: str) -> Row:
    """Columns that say what the plate and the fibre were for."""
    segue = plate.program == "segue"
    galaxy, quasar = kind == "GALAXY", kind == "QSO"
    return {
        "SURVEY": ("segue1" if plate.run2d == "103" else "segue2") if segue else "sdss",
        "INSTRUMENT": "SDSS",
        "PROGRAMNAME": "legacy" if plate.legacy and not segue else plate.program,
        "CHUNK": {"sdss": f"chunk{plate.number % 50}"}.get(plate.survey, f"{plate.survey}{plate.number % 38}"),
        "SPECLEGACY": plate.legacy and not segue,
        "SPECSEGUE": segue,
        "SPECSEGUE1": segue and plate.run2d == "103",
        "SPECSEGUE2": segue and plate.run2d == "104",
        "SPECBOSS": not plate.legacy,
        "BLUEFIBER": quasar,
        "PRIMTARGET": 64 * galaxy + 2 * quasar,
        "LEGACY_TARGET1": 64 * galaxy + 2 * quasar,
        "BOSS_TARGET1": 0 if plate.legacy or plate.program == "eboss" else (2 * galaxy + (quasar << 41)),
        "EBOSS_TARGET1": (2 * galaxy + (quasar << 10)) if plate.program == "eboss" else 0,
    }


def _place(where: Observation, thing: int) -> Row:
    """Columns that say where the object is, on the sky, on the plate and in the images."""
    ra, dec = np.radians((where.ra, where.dec))
    scale = 217.7  # mm on the plate per degree on the sky
    run, camcol, field = 94 + thing % 7000, 1 + thing % 6, 11 + thing % 800
    photometric = str(1237645879551066112 + thing * 2**16)
    return {
        "PLUG_RA": where.ra,
        "PLUG_DEC": where.dec,
        "RA": where.ra,
        "DEC": where.dec,
        "CX": float(np.cos(ra) * np.cos(dec)),
        "CY": float(np.sin(ra) * np.cos(dec)),
        "CZ": float(np.sin(dec)),
        "XFOCAL": scale * ((where.ra - where.plate.ra + 180.0) % 360.0 - 180.0) * float(np.cos(dec)),
        "YFOCAL": scale * (where.dec - where.plate.dec),
        "THING_ID": thing,
        "BESTOBJID": photometric,
        "FLUXOBJID": photometric,
        "TARGETOBJID": f"{thing * 4096:>22}",
        "OBJID": np.array((run, 1, camcol, field, thing % 500)) if where.plate.legacy else photometric,
        "RUN": run,
        "RERUN": "301",
        "CAMCOL": camcol,
        "FIELD": field,
        "ID": thing % 500,
    }


def _median(values: Numbers) -> float:
    middle = len(values) // 2
    return float(np.partition(values, middle)[middle])


def _measurements(coadd: Coadd) -> Row:
    """Columns measured on the spectrum itself."""
    npix = len(coadd.flux)
    ratio = coadd.flux * np.sqrt(coadd.ivar)
    scatter = coadd.flux - coadd.model
    chi2 = scatter * scatter * coadd.ivar
    good = int(np.count_nonzero(coadd.ivar))
    edges = np.clip(BAND_EDGES - coadd.k0, 0, npix - 1)
    sums = np.add.reduceat((coadd.flux, coadd.model, coadd.ivar), edges, axis=1)[:, ::2]
    flux, model, ivar = sums / (edges[1::2] - edges[::2])
    return {
        "SN_MEDIAN": np.array([_median(ratio[low:high]) for low, high in edges.reshape(-1, 2)]),
        "SN_MEDIAN_ALL": _median(ratio),
        "SPECTROFLUX": flux * NANOMAGGY,
        "SPECTROSYNFLUX": model * NANOMAGGY,
        "SPECTROFLUX_IVAR": ivar * (edges[1::2] - edges[::2]) / NANOMAGGY**2,
        "RCHI2": float(chi2.sum()) / max(good - 7, 1),
        "DOF": good - 7,
        "CHI68P": 1.0,
        "WAVEMIN": 10.0 ** (coadd.k0 * 1e-4),
        "WAVEMAX": 10.0 ** ((coadd.k0 + npix - 1) * 1e-4),
        "WCOVERAGE": good * 1e-4,
        "ANYANDMASK": int(np.bitwise_or.reduce(coadd.and_mask)),
        "ANYORMASK": int(np.bitwise_or.reduce(coadd.or_mask)),
    }


@lru_cache(maxsize=8)
def _line_table(layout: str) -> tuple[NDArray[np.bytes_], NDArray[np.float64]]:
    names, waves = zip(*(entry for entry in LINE_TABLE if entry[0] not in NOT_BEFORE[layout]), strict=True)
    return np.array(names, dtype="S13"), np.array(waves)


def _lines(
    row: Row, coadd: Coadd, light: Light, z: float, rng: np.random.Generator
) -> tuple[dict[str, NDArray[np.generic] | int], int]:
    """Columns of the line table and their length; lines out of range have errors of -1, as in the files of SDSS."""
    run2d = str(row["RUN2D"])
    names, waves = _line_table(run2d if run2d in NOT_BEFORE else "legacy")
    pixel = np.round(1e4 * np.log10(waves * (1.0 + z))).astype(np.int64) - coadd.k0
    seen = (pixel >= 10) & (pixel < len(coadd.flux) - 10)
    at = np.where(seen, pixel, 0)
    area, sigma = np.zeros(len(waves)), np.full(len(waves), 150.0)
    for feature in light.features:
        match = int(np.searchsorted(waves, feature.wavelength - 0.05))
        if match < len(waves) and waves[match] < feature.wavelength + 0.05:
            area[match], sigma[match] = feature.area, feature.sigma
    width = 1e-4 * np.log(10.0) * waves * (1.0 + z)  # of a pixel, Å
    noise = width * np.sqrt(3.54 * np.hypot(sigma / 69.0, 0.9) / np.maximum(coadd.ivar[at], 1e-4))
    area += noise * rng.standard_normal(len(waves))
    level = np.maximum(np.abs(coadd.model[at]), 0.05)
    half = np.where(seen, 3 + sigma / 46.0, 0).astype(np.int32)
    found, error = row["Z"], row["Z_ERR"]
    measured: dict[str, tuple[float | NDArray[np.floating], float | NDArray[np.floating]]] = {
        "LINEZ": (found, error),
        "LINESIGMA": (sigma, 0.05 * sigma),
        "LINEAREA": (area, noise),
        "LINEEW": (area / level, noise / level),
        "LINECONTLEVEL": (level, 0.02 * level),
    }
    columns: dict[str, NDArray[np.generic] | int] = {
        "PLATE": row["PLATE"],
        "MJD": row["MJD"],
        "FIBERID": row["FIBERID"],
        "LINENAME": names,
        "LINEWAVE": waves,
        "LINENPIXLEFT": half,
        "LINENPIXRIGHT": half,
        "LINEDOF": np.maximum(2.0 * half - 2.0, 0.0),
        "LINECHI2": np.where(seen, 2.0 * half, -1.0),
    }
    for name, (value, uncertainty) in measured.items():
        columns[name] = np.where(seen, value, 0.0)
        columns[f"{name}_ERR"] = np.where(seen, uncertainty, -1.0)
    return columns, len(waves)


def _exposure(coadd: Coadd, camera: str, rng: np.random.Generator) -> tuple[NDArray[np.generic], ...]:
    """Columns of one exposure, half the light of the coadd, on the detector pixels of the blue or red camera."""
    loglam = (np.arange(coadd.k0, coadd.k0 + len(coadd.flux)) * 1e-4).astype(np.float64)
    low, high, count = (loglam[0], 3.79, 2044) if camera == "b" else (3.763, loglam[-1], 2043)
    own = np.log10(np.linspace(10.0**low, 10.0**high, count))
    model, sky, wdisp = (np.interp(own, loglam, column) for column in (coadd.model, coadd.sky, coadd.wdisp))
    ivar = 0.5 * np.interp(own, loglam, coadd.ivar)
    flux = model + rng.standard_normal(count) / np.sqrt(np.maximum(ivar, 1e-6)) * (ivar > 0)
    single = [column.astype(np.float32) for column in (flux, own, ivar, wdisp, sky, np.full(count, 9.0))]
    return (*single[:3], np.zeros(count, dtype=np.int32), *single[3:])
