from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from numpy.typing import NDArray

from specflight.catalog.identifiers import pack_specobjid
from specflight.errors import InvalidRequest
from specflight.flight.lines import LINES, line
from specflight.tools.simplates import observation
from specflight.tools.simtargets import Quasar
from specflight.tools.simulate import LINE_TABLE, simulate

SPECTRA = 280
REAL_DATA = Path(os.environ.get("SPECFLIGHT_REAL_DATA", "../shared/data"))
REAL_FILES = {
    "26": "dr16/sdss/spectro/redux/26/spectra/lite/0266/spec-0266-51602-0013.fits",
    "v5_7_0": "dr12/boss/spectro/redux/v5_7_0/spectra/lite/7102/spec-7102-56666-0726.fits",
    "v5_13_0": "dr16/eboss/spectro/redux/v5_13_0/spectra/lite/10656/spec-10656-58163-0366.fits",
}


@dataclass(frozen=True)
class File:
    path: Path
    release: str
    header: Any
    names: tuple[tuple[str, ...], ...]
    formats: tuple[tuple[str, ...], ...]
    extnames: tuple[str, ...]
    flux: NDArray[Any]
    loglam: NDArray[Any]
    ivar: NDArray[Any]
    and_mask: NDArray[Any]
    or_mask: NDArray[Any]
    wdisp: NDArray[Any]
    sky: NDArray[Any]
    model: NDArray[Any]
    row: dict[str, Any]
    lines: NDArray[Any]

    @property
    def boss(self) -> bool:
        return str(self.row["RUN2D"]).startswith("v")

    @property
    def empty_sky(self) -> bool:
        return bool(self.row["ZWARNING"] & 1)

    @property
    def wavelength(self) -> NDArray[np.float64]:
        return np.asarray(10.0 ** self.loglam.astype(np.float64))


def read(path: Path, root: Path) -> File:
    with fitsio.FITS(path) as hdus:
        coadd, row = (hdus[number].read() for number in (1, 2))
        headers = [hdus[number].read_header() for number in range(len(hdus))]
        fields = [range(1, header["TFIELDS"] + 1) for header in headers[1:]]
        flux, loglam, ivar, and_mask, or_mask, wdisp, sky, model = (coadd[name] for name in coadd.dtype.names)
        return File(
            path,
            path.relative_to(root).parts[0],
            headers[0],
            tuple(tuple(h[f"TTYPE{n}"].strip() for n in ns) for h, ns in zip(headers[1:], fields, strict=True)),
            tuple(tuple(h[f"TFORM{n}"].strip() for n in ns) for h, ns in zip(headers[1:], fields, strict=True)),
            tuple(str(header.get("EXTNAME") or "").strip() for header in headers[1:]),
            flux,
            loglam,
            ivar,
            and_mask,
            or_mask,
            wdisp,
            sky,
            model,
            {name: row[name][0] for name in row.dtype.names},
            hdus[3].read(),
        )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sas")
    assert simulate(root, SPECTRA) == {"sdss_dr12": root / "dr12", "sdss_dr16": root / "dr16"}
    return root


@pytest.fixture(scope="module")
def files(tree: Path) -> list[File]:
    return [read(path, tree) for path in sorted(tree.rglob("*"), key=str) if path.is_file()]


def pairs(files: list[File], release: str) -> Iterator[tuple[File, File]]:
    inside = [file for file in files if file.release == release]
    here = SkyCoord([f.row["PLUG_RA"] for f in inside], [f.row["PLUG_DEC"] for f in inside], unit="deg")
    for number, file in enumerate(inside):
        near = np.flatnonzero(here[number].separation(here[number + 1 :]).arcsec < 2.0)
        yield from ((file, inside[number + 1 + int(other)]) for other in near)


def test_as_many_files_as_asked_for_spread_over_plates_and_releases(files: list[File]) -> None:
    assert len(files) == SPECTRA
    plates = Counter((file.release, int(file.row["PLATE"])) for file in files)
    assert {release for release, _ in plates} == {"dr12", "dr16"}
    assert len(plates) == 14
    assert set(plates.values()) == {SPECTRA // 14}


def test_astropy_verifies_every_layout_and_reads_the_same_columns_as_fitsio(tree: Path) -> None:
    folders = sorted({path.parent for path in tree.rglob("*.fits")})
    assert len(folders) > 14
    for path in [sorted(folder.iterdir())[0] for folder in folders]:
        with warnings.catch_warnings(), fits.open(path, memmap=False) as hdus, fitsio.FITS(path) as other:
            warnings.simplefilter("error")
            hdus.verify("exception")
            assert len(hdus) == len(other)
            for number in range(1, len(hdus)):
                ours, theirs = hdus[number].data, other[number].read()
                assert list(ours.names) == list(theirs.dtype.names)
                for name in ours.names:
                    expected = np.asarray(ours[name])
                    if expected.dtype.kind == "U":
                        assert [str(text).rstrip() for text in theirs[name]] == [text.rstrip() for text in expected]
                    else:
                        np.testing.assert_array_equal(theirs[name], expected)


def test_identity_agrees_between_path_row_header_and_specobjid(files: list[File], tree: Path) -> None:
    for file in files:
        plate, mjd, fiber = (int(file.row[name]) for name in ("PLATE", "MJD", "FIBERID"))
        assert file.path.name == f"spec-{plate:04d}-{mjd}-{fiber:04d}.fits"
        assert (file.header["PLATEID"], file.header["MJD"], file.header["FIBERID"]) == (plate, mjd, fiber)
        assert int(file.row["SPECOBJID"]) == int(pack_specobjid(plate, mjd, fiber, file.row["RUN2D"]))
        folders = file.path.relative_to(tree).parts
        assert folders[2:4] == ("spectro", "redux")
        assert folders[4] == file.row["RUN2D"]
        assert folders[5] == "spectra"
        assert folders[7] == f"{plate:04d}"
        assert (file.lines["PLATE"] == plate).all()
        assert (file.lines["FIBERID"] == fiber).all()


def test_loglam_is_an_integer_grid_bit_for_bit_and_its_start_and_length_vary(files: list[File]) -> None:
    starts, lengths = set(), set()
    for file in files:
        k0, npix = round(float(file.loglam[0]) * 1e4), len(file.loglam)
        expected = (np.arange(k0, k0 + npix) * 1e-4).astype(np.float32)
        np.testing.assert_array_equal(file.loglam.astype(np.float32).view(np.uint32), expected.view(np.uint32))
        assert (3590 < file.wavelength[-1] < 10420) if file.boss else (3780 < file.wavelength[0] < 3860)
        starts.add((file.boss, k0))
        lengths.add((file.boss, npix))
        assert (3700 < npix < 3900) != file.boss
    assert len(starts) > 20
    assert len(lengths) > 20


def test_flux_scatters_about_the_model_as_ivar_says(files: list[File]) -> None:
    deviations = []
    for file in files:
        good = file.ivar > 0
        deviation = (file.flux - file.model)[good] * np.sqrt(file.ivar[good])
        assert 0.85 < np.mean(deviation**2) < 1.4
        away = np.abs(file.wavelength[good] - 5579) > 20
        deviations.append(deviation[away])
    everything = np.concatenate(deviations)
    assert abs(everything.mean()) < 0.01
    assert everything.std() == pytest.approx(1.0, abs=0.01)


def test_unusable_pixels_keep_a_flux_and_say_why(files: list[File]) -> None:
    for file in files:
        bad = file.ivar == 0
        assert 2 <= bad.sum() < 40
        assert (file.flux[bad] != 0).all()
        assert (file.and_mask[bad] != 0).all()
        assert np.isfinite(file.flux).all()
        assert (file.ivar >= 0).all()


def test_or_mask_holds_every_bit_of_and_mask_and_all_bits_are_those_of_sppixmask(files: list[File]) -> None:
    known = sum(1 << bit for bit in (16, 17, 18, 19, 22, 23, 24, 25, 26, 27))
    seen = 0
    for file in files:
        np.testing.assert_array_equal(file.or_mask | file.and_mask, file.or_mask)
        assert not (file.or_mask & ~known).any()
        seen |= int(np.bitwise_or.reduce(file.or_mask))
        bright = (file.or_mask >> 23 & 1).astype(bool)
        assert np.median(file.sky[bright]) > 1.25 * np.median(file.sky)
    assert seen == known


def test_noise_grows_towards_both_ends_and_at_the_lines_of_the_sky(files: list[File]) -> None:
    for file in files:
        sigma = np.where(file.ivar > 0, file.ivar, np.nan) ** -0.5

        def at(low: float, high: float, file: File = file, sigma: NDArray[Any] = sigma) -> float:
            return float(np.nanmedian(sigma[(file.wavelength > low) & (file.wavelength < high)]))

        ends = ((3620, 3680), (10200, 10280)) if file.boss else ((3860, 3900), (9100, 9190))
        assert at(5577.5, 5580.5) > 2 * at(5500, 5560) or np.median(file.model) > 60
        if file.empty_sky:
            assert at(*ends[0]) > 1.5 * at(6700, 6900)
            assert at(*ends[1]) > 1.3 * at(6700, 6900)


def test_emission_lines_stand_at_their_redshifted_vacuum_wavelengths(files: list[File]) -> None:
    checked = 0
    for file in files:
        if file.row["SUBCLASS"] not in ("STARFORMING", "STARBURST"):
            continue
        z = float(file.row["Z"])
        for name in ("Hα", "[O III] 5007", "Hβ"):
            expected = 1e4 * np.log10(line(name).wavelength * (1 + z)) - 1e4 * float(file.loglam[0])
            if 20 < expected < len(file.model) - 20:
                window = slice(round(expected) - 6, round(expected) + 7)
                peak = window.start + int(np.argmax(file.model[window]))
                assert abs(peak - expected) <= 1.5
                checked += 1
    assert checked > 60


def test_measured_lines_agree_with_the_spectrum(files: list[File]) -> None:
    checked = 0
    for file in files:
        areas = {str(entry["LINENAME"]).strip(): entry for entry in file.lines}
        halpha, n2 = areas["H_alpha"], areas["[N_II] 6583"]
        if file.row["SUBCLASS"] != "STARBURST" or halpha["LINEAREA_ERR"] < 0:
            continue
        near = np.abs(file.wavelength / (1 + float(file.row["Z"])) - 6564.6) < 8
        continuum = np.percentile(file.model[np.abs(file.wavelength / (1 + float(file.row["Z"])) - 6500) < 20], 50)
        step = np.gradient(file.wavelength)[near]
        assert np.sum((file.model[near] - continuum) * step) == pytest.approx(halpha["LINEAREA"], rel=0.2)
        assert n2["LINEAREA"] < halpha["LINEAREA"]
        checked += 1
    assert checked > 3


def test_galaxies_quasars_and_stars_look_like_themselves(files: list[File]) -> None:
    breaks, forests, dwarfs = [], [], []
    for file in files:
        z, rest = float(file.row["Z"]), file.wavelength / (1 + float(file.row["Z"]))

        def mean(low: float, high: float, file: File = file, rest: NDArray[Any] = rest) -> float:
            return float(file.model[(rest > low) & (rest < high)].mean())

        if file.row["CLASS"] == "GALAXY" and file.row["SUBCLASS"] == "" and not file.empty_sky and z > 0.1:
            breaks.append(mean(4050, 4250) / mean(3750, 3950))
            assert mean(3930, 3940) < mean(4010, 4030)
        if file.row["CLASS"] == "QSO" and rest[0] < 1115:
            assert mean(1212, 1222) > 1.4 * mean(1320, 1360)
            forests.append(mean(1120, 1160) / mean(1320, 1360))
        if file.row["SUBCLASS"] == "WD":
            dwarfs.append(mean(4855, 4870) / mean(4980, 5050))
    assert len(breaks) > 20
    assert 1.4 < np.median(breaks) < 2.2
    assert len(forests) > 10
    assert 0.5 < np.median(forests) < 1.3  # a rising power law times a transmission of 0.6 to 0.85
    assert dwarfs
    assert max(dwarfs) < 0.75


def test_fluxes_and_classes_are_those_of_a_survey(files: list[File]) -> None:
    levels = [float(np.median(file.model)) for file in files if not file.empty_sky]
    assert min(levels) > 0.05
    assert max(levels) < 600
    classes = [str(file.row["CLASS"]) for file in files]
    assert min(classes.count(name) for name in ("GALAXY", "QSO", "STAR")) > SPECTRA / 10
    assert 0 < sum(int(file.row["ZWARNING"]) != 0 for file in files) < SPECTRA / 5
    quasars = [float(file.row["Z"]) for file in files if file.row["CLASS"] == "QSO"]
    assert min(quasars) < 0.9
    assert max(quasars) > 3.0
    assert all(abs(file.row["Z"]) < 0.002 for file in files if file.row["CLASS"] == "STAR")


def test_layout_follows_the_release(files: list[File]) -> None:
    class_formats = set()
    for file in files:
        modern, legacy = file.row["RUN2D"] == "v5_13_0", not file.boss
        assert file.names[0][0] == ("FLUX" if modern else "flux")
        assert file.extnames[:3] == (("", "", "") if modern else ("COADD", "SPECOBJ" if legacy else "SPALL", "SPZLINE"))
        assert ("RA" in file.row, "SURVEY" in file.row, "BESTOBJID" in file.row) == (not legacy, legacy, legacy)
        assert len(file.lines) == {"v5_13_0": 32, "v5_7_0": 31}.get(str(file.row["RUN2D"]), 29)
        form = dict(zip(file.names[1], file.formats[1], strict=True))["SPECOBJID"]
        assert form == ("22A" if legacy else "K")
        assert ("RUN2D" in file.header) == file.boss
        k0 = round(float(file.loglam[0]) * 1e4)
        assert (round(file.header["COEFF0"] * 1e4) == k0) == file.boss
        if modern:
            class_formats.add(dict(zip(file.names[1], file.formats[1], strict=True))["CLASS"])
    assert class_formats == {"3A", "4A", "6A"}


@pytest.mark.parametrize("run2d", REAL_FILES)
def test_columns_are_a_selection_of_the_real_ones_in_their_order(files: list[File], run2d: str) -> None:
    path = REAL_DATA / "sas" / REAL_FILES[run2d]
    if not path.exists():
        pytest.skip(f"no real file {path}")
    file = next(file for file in files if file.row["RUN2D"] == run2d)
    with fits.open(path) as hdus:
        for number in range(3):
            real = dict(zip(hdus[number + 1].columns.names, hdus[number + 1].columns.formats, strict=True))
            ours = dict(zip(file.names[number], file.formats[number], strict=True))
            assert [name for name in real if name in ours] == list(ours)
            for name, form in ours.items():
                assert form == real[name] or (run2d == "v5_13_0" and form.endswith("A"))
        assert set(file.header.keys()) <= set(hdus[0].header)


def test_plates_overlap_cross_ra_zero_reach_the_pole_and_pass_8191(files: list[File]) -> None:
    for release in ("dr12", "dr16"):
        found = list(pairs(files, release))
        assert found
        for first, again in found:
            assert first.row["PLATE"] != again.row["PLATE"]
            assert sorted((int(first.row["SPECPRIMARY"]), int(again.row["SPECPRIMARY"]))) == [0, 1]
            assert first.row["CLASS"] == again.row["CLASS"]
            assert abs(first.row["Z"] - again.row["Z"]) < 0.05
            assert not np.array_equal(first.flux[:3000], again.flux[:3000])
    positions = {(float(f.row["PLUG_RA"]), float(f.row["PLUG_DEC"]), str(f.release)) for f in files}
    crossing = [float(f.row["PLUG_RA"]) for f in files if f.row["PLATE"] == 388]
    assert min(crossing) < 1.5
    assert max(crossing) > 358.5
    assert max(dec for _, dec, _ in positions) > 80
    assert max(int(f.row["PLATE"]) for f in files) > 8191
    assert max(int(f.row["SPECOBJID"]) for f in files) > 2**63


def test_objects_lie_on_the_disc_of_their_plate(files: list[File]) -> None:
    for file in files:
        centre = SkyCoord(file.header["RA"], file.header["DEC"], unit="deg")
        there = SkyCoord(file.row["PLUG_RA"], file.row["PLUG_DEC"], unit="deg")
        assert centre.separation(there).deg < 1.5
        assert file.header["PLUG_RA"] == pytest.approx(file.row["PLUG_RA"], abs=1e-6)


def test_legacy_spectra_are_in_both_releases_byte_for_byte(tree: Path) -> None:
    shared = sorted((tree / "dr12").glob("sdss/spectro/redux/26/spectra/*/0266/*.fits"))
    assert len(shared) >= SPECTRA // 14
    same = [(path, tree / "dr16" / path.relative_to(tree / "dr12")) for path in shared]
    assert all(other.read_bytes() == path.read_bytes() for path, other in same)


def test_a_few_files_hold_the_single_exposures(files: list[File]) -> None:
    full = [file for file in files if "/full/" in str(file.path)]
    assert 0 < len(full) < 10
    for file in files:
        assert len(file.names) == (7 if file in full else 3)
    for file in full:
        assert [name.lower() for name in file.names[3]] == ["flux", "loglam", "ivar", "mask", "wdisp", "sky", "calib"]
        assert file.header["NEXP"] == 4


def test_the_same_seed_gives_the_same_bytes_however_many_spectra(tree: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "few", 30)
    few = [path for path in (tmp_path / "few").rglob("*") if path.is_file()]
    assert len(few) == 30
    for path in few:
        assert path.read_bytes() == (tree / path.relative_to(tmp_path / "few")).read_bytes()
    simulate(tmp_path / "other", 1, seed=2)
    (other,) = (tmp_path / "other").rglob("*.fits")
    assert other.read_bytes() != (tree / other.relative_to(tmp_path / "other")).read_bytes()


def test_every_spectrum_of_a_release_has_its_own_path_and_place() -> None:
    seen = [observation(number) for number in range(0, 30_000)]
    assert len({f"{where.folder}/{where.filename}" for where in seen}) == len(seen)
    first = [where for where in seen if where.primary and where.plate.release == "dr16"]
    assert len({(round(where.ra, 4), round(where.dec, 4)) for where in first}) == len(first)


@pytest.mark.parametrize(("spectra", "seed", "name"), [(-1, 1, "spectra: -1"), (1, -5, "seed: -5")])
def test_negative_numbers_are_refused(tmp_path: Path, spectra: int, seed: int, name: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        simulate(tmp_path, spectra, seed)


def test_line_tables_agree() -> None:
    assert len({entry.name for entry in LINES}) == len(LINES)
    measured = {round(wave, 1) for _, wave in LINE_TABLE}
    for name in ("Lyα", "C IV 1549", "Mg II 2799", "[O II] 3727", "Hβ", "[O III] 5007", "Hα", "[N II] 6583"):
        assert round(line(name).wavelength, 1) in measured


@pytest.mark.parametrize("pixels", [1, 3, 4, 5, 8])
def test_a_forest_of_a_few_pixels_does_no_harm(pixels: int) -> None:
    k0 = 35500
    z = 10.0 ** ((k0 + 3 + pixels) * 1e-4) / 1215.67 - 1.0  # Lyα enters the spectrum by so many pixels
    flux = Quasar(z, 19.0, 0.0, 1.0, 1.0, absorbers=7).light(k0, 4620).flux
    assert len(flux) == 4620
    assert np.isfinite(flux).all()
