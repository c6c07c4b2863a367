"""What the calls of the old client ask of a service: ids, positions and names, chosen from the data that it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from specflight.catalog.identifiers import pack_specobjid
from specflight.client import Client
from specflight.errors import InvalidRequest, SpecflightError

__all__ = ["LACKING", "Sample", "find_sample"]

SIGNED = 2**63
LEGACY_RUNS = ("26", "103", "104")
LOOK_AT = 1500  # rows of the catalogue with the lowest ids; a third of it with the highest

LACKING = {
    "big": "no ids of 2**63 or more (plates from 8192 on)",
    "bigone": "no ids of 2**63 or more (plates from 8192 on)",
    "bigcone": "no ids of 2**63 or more (plates from 8192 on)",
    "mixed": "no spectra of both the SDSS and the BOSS spectrographs",
    "half": "no spectra of both the SDSS and the BOSS spectrographs",
    "between": "no plate with three fibres",
    "both": "no fibre that was used on two plates",
    "other": "no second context with catalogues",
    "elsewhere": "no context that is without some of the spectra",
    "nofits": "every spectrum has its original file",
    "alias": "no context or alias named 'sdss', which the documentation of the old client asks for",
}
"""What a service is without where a field of `Sample` is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Values that the calls name. Ids are of primary spectra; lists of a given length repeat ids if there are fewer.

    Attributes
    ----------
    context, catalog, catalogall : str
        What ``default`` stands for, its default catalogue, and that of all spectra.
    extra : str
        A further column of the catalogue.
    other, alias : str or None
        Contexts: another one with catalogues, and ``sdss``.
    elsewhere : (int, str) or None
        Id of a spectrum, and another context, which has no such spectrum.
    one, ten, three, hundred, thousand, run2d
        Ids below 2**63 of one run2d, of which `three` are of the same length.
    big, bigone
        Ten ids, and one, of 2**63 and above.
    mixed, half
        Ids of the SDSS spectrographs, followed by as many of BOSS: 5 and 50 of each.
    ra, dec, size, cone : float, list of int
        A cone in degrees, and the ids in it; `wide` is twice its size.
    bigcone : (ra, dec, size) or None
        One around `bigone`.
    flat, vertices : list
        A polygon as numbers, and as (ra, dec).
    zcut : float
        Median redshift.
    pmf, pmf_id, pmf2, pmf2_id
        Two spectra by (plate, mjd, fiberid), and their ids.
    between, between_ids, pair, pair_ids
        Fibres of `pmf`'s plate: text such as ``'1-5'``, and two of them.
    both, both_ids
        Two plates as text and a fibre of both: ``('1962,1963', 100)``.
    night_ids, fiber_ids
        Spectra with the MJD, and with the plate, and the fibre of `pmf`.
    plate, plate_ids
        (plate, mjd, run2d) of the plate with most spectra.
    absent, absent_id
        (plate, mjd, fiberid) and id of no spectrum.
    nofits : (int, str) or None
        Id and context of a spectrum without its original file.
    """

    context: str
    catalog: str
    catalogall: str
    extra: str
    other: str | None
    elsewhere: tuple[int, str] | None
    alias: str | None
    one: int
    ten: list[int]
    three: list[int]
    hundred: list[int]
    thousand: list[int]
    run2d: str
    big: list[int] | None
    bigone: int | None
    mixed: list[int] | None
    half: list[int] | None
    ra: float
    dec: float
    size: float
    wide: float
    cone: list[int]
    bigcone: tuple[float, float, float] | None
    flat: list[float]
    vertices: list[tuple[float, float]]
    zcut: float
    pmf: tuple[int, int, int]
    pmf_id: int
    pmf2: tuple[int, int, int]
    pmf2_id: int
    between: str | None
    between_ids: list[int]
    pair: tuple[int, int]
    pair_ids: list[int]
    both: tuple[str, int] | None
    both_ids: list[int]
    night_ids: list[int]
    fiber_ids: list[int]
    plate: tuple[int, int, str]
    plate_ids: list[int]
    absent: tuple[int, int, int]
    absent_id: int
    nofits: tuple[int, str] | None

    def values(self) -> dict[str, Any]:
        """Fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def find_sample(client: Client) -> Sample:
    """Choose the values for a service.

    Parameters
    ----------
    client : Client
        Of its Flight server, context ``default``.

    Raises
    ------
    InvalidRequest
        If the default context has too few spectra: less than three of one run2d with ids below 2**63.
    """
    about = client.list_contexts("default")
    catalog = str(about["catalog"])
    context = catalog.rpartition(".")[0]
    rows, lengths = _rows(client)
    small = [row for row in rows if row["specobjid"] < SIGNED]
    large = [row["specobjid"] for row in rows if row["specobjid"] >= SIGNED]
    run2d, many = Counter(row["run2d"] for row in small).most_common(1)[0] if small else ("", 0)
    if many < 3:
        raise InvalidRequest(f"context: '{context}' has {many} spectra with ids below 2**63; the calls need three")
    ids = [row["specobjid"] for row in small if row["run2d"] == run2d]
    old = [row["specobjid"] for row in rows if row["run2d"] in LEGACY_RUNS]
    boss = [row["specobjid"] for row in rows if row["run2d"] not in LEGACY_RUNS]
    first = _well_placed(row for row in small if row["run2d"] == run2d)
    ra, dec, size = _cone(first, rows)
    aside = size / float(np.cos(np.radians(dec)))
    vertices = [(ra + x * aside, dec + y * size) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    vertices = [(round(x, 4) % 360.0, round(y, 4)) for x, y in vertices]
    names = [name for name in client.list_contexts(fmt="json") if name != "default"]
    return Sample(
        context=context,
        catalog=catalog,
        catalogall=f"{context}.specobjall",
        extra="bestobjid" if "bestobjid" in _columns(client, catalog) else "z",
        other=next((name for name in names if name != context and client.list_contexts(name)["catalogs"]), None),
        elsewhere=_elsewhere(client, rows, [name for name in names if name != context]),
        alias="sdss" if client.act("validate", what="context", value="sdss") == "OK" else None,
        one=int(first["specobjid"]),
        ten=_repeated(ids, 10),
        three=_same_length(ids, lengths),
        hundred=_repeated(ids, 100),
        thousand=_repeated(old + boss, 1000),
        run2d=run2d,
        big=_repeated(large, 10) if large else None,
        bigone=large[0] if large else None,
        mixed=_repeated(old, 5) + _repeated(boss, 5) if old and boss else None,
        half=_repeated(old, 50) + _repeated(boss, 50) if old and boss else None,
        ra=ra,
        dec=dec,
        size=size,
        wide=2 * size,
        cone=[int(i) for i in client.query(ra, dec, size)],
        bigcone=_cone(next(row for row in rows if row["specobjid"] == large[0]), rows) if large else None,
        flat=[number for vertex in vertices for number in vertex],
        vertices=vertices,
        zcut=round(float(np.median([row["z"] for row in rows if row["z"] is not None])), 4),
        nofits=_without_original(client, names),
        **_by_plate(client, first, small),
    )


def _rows(client: Client) -> tuple[list[dict[str, Any]], dict[int, tuple[float, int]]]:
    """Primary rows with spectra by ascending id, and (first loglam, pixels) of each."""
    columns = "specobjid,plate,mjd,fiberid,run2d,ra,dec,z"
    ends = [
        client.query(constraint=f"order by specobjid {way} limit {limit}", fields=columns)
        for way, limit in (("asc", LOOK_AT), ("desc", LOOK_AT // 3))
    ]
    rows = {row["specobjid"]: row for row in pa.concat_tables(ends).to_pylist() if row["ra"] is not None}
    spectra = client.getSpec(sorted(rows), fmt="arrow", columns="loglam", missing="skip")
    first = pc.list_element(spectra["loglam"], 0).to_pylist()
    pixels = pc.list_value_length(spectra["loglam"]).to_pylist()
    lengths = dict(zip(spectra["specobjid"].to_pylist(), zip(first, pixels, strict=True), strict=True))
    return [rows[i] for i in sorted(lengths)], lengths


def _columns(client: Client, catalog: str) -> set[str]:
    listed = next(table for table in client.catalogs(fmt="json") if table["name"] == catalog)
    return {column["name"] for column in listed["columns"]}


def _repeated(ids: list[int], count: int) -> list[int]:
    return [ids[i % len(ids)] for i in range(count)]


def _same_length(ids: list[int], lengths: dict[int, tuple[float, int]]) -> list[int]:
    alike: dict[tuple[float, int], list[int]] = {}
    for i in ids:
        alike.setdefault(lengths[i], []).append(i)
    return _repeated(max(alike.values(), key=len), 3)


def _well_placed(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The row nearest to the equator that is not near RA 0, where a cone and a polygon are plain."""
    return min(rows, key=lambda row: (not 20.0 < row["ra"] < 340.0, abs(row["dec"])))


def _cone(centre: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Cone around a row that reaches to its eighth neighbour or so, in degrees, rounded as the old client writes it."""
    ra, dec = round(centre["ra"], 4), round(centre["dec"], 4)
    a, d = np.radians([(row["ra"], row["dec"]) for row in rows]).T
    a0, d0 = np.radians((ra, dec))
    half = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin((a - a0) / 2) ** 2
    apart = np.sort(np.degrees(2 * np.arcsin(np.sqrt(half))))[:9]
    return ra, dec, round(min(float(apart[-2:].mean()), 3.0), 4)


def _elsewhere(client: Client, rows: list[dict[str, Any]], names: list[str]) -> tuple[int, str] | None:
    of_run = {row["run2d"]: int(row["specobjid"]) for row in rows}
    for name in names:
        for specobjid in of_run.values():
            if not client.getSpec([specobjid], columns="flux", context=name, missing="skip"):
                return specobjid, name
    return None


def _without_original(client: Client, names: list[str]) -> tuple[int, str] | None:
    for name in names:
        try:
            ids = client.query(constraint="limit 1", context=name)
            client.getSpec(ids, columns="flux", context=name)
        except SpecflightError:
            continue  # no catalogue, or no spectra
        try:
            client.getSpec(ids, fmt="FITS", context=name)
        except SpecflightError:
            return int(ids[0]), name
    return None


def _by_plate(client: Client, first: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Fields of `Sample` that name spectra by plate, MJD and fibre, of the run2d of `first` but for `both`."""

    def ids(condition: str) -> list[int]:
        return [int(i) for i in client.query(constraint=condition, primary=False)]

    p, m, f = (int(first[name]) for name in ("plate", "mjd", "fiberid"))
    here = f"plate = {p} and mjd = {m}"
    fibers = sorted(
        {int(i) for i in client.query(constraint=here, fields="fiberid", primary=False)["fiberid"].to_pylist()}
    )
    last = fibers[min(4, len(fibers) - 1)]
    pair = (fibers[0], fibers[-1])
    alike = [row for row in rows if row["run2d"] == first["run2d"]]
    second = next(row for row in reversed(alike) if row["specobjid"] != first["specobjid"])
    plates_of: dict[int, list[int]] = {}
    for row in rows:
        plates_of.setdefault(row["fiberid"], []).append(row["plate"])
    shared = next(
        ((fiber, sorted(set(plates))[:2]) for fiber, plates in plates_of.items() if len(set(plates)) > 1), None
    )
    (p2, m2, r2), _ = Counter((row["plate"], row["mjd"], row["run2d"]) for row in alike).most_common(1)[0]
    absent = next(fiber for fiber in range(1, 1001) if fiber not in fibers)
    return {
        "pmf": (p, m, f),
        "pmf_id": int(first["specobjid"]),
        "pmf2": tuple(int(second[name]) for name in ("plate", "mjd", "fiberid")),
        "pmf2_id": int(second["specobjid"]),
        "between": f"{fibers[0]}-{last}" if len(fibers) > 2 else None,
        "between_ids": ids(f"{here} and fiberid between {fibers[0]} and {last}"),
        "pair": pair,
        "pair_ids": ids(f"{here} and fiberid in ({pair[0]}, {pair[1]})"),
        "both": None if shared is None else (f"{shared[1][0]},{shared[1][1]}", shared[0]),
        "both_ids": []
        if shared is None
        else ids(f"plate in ({shared[1][0]}, {shared[1][1]}) and fiberid = {shared[0]}"),
        "night_ids": ids(f"mjd = {m} and fiberid = {f}"),
        "fiber_ids": ids(f"plate = {p} and fiberid = {f}"),
        "plate": (int(p2), int(m2), r2),
        "plate_ids": ids(f"plate = {p2} and mjd = {m2} and run2d = '{r2}'"),
        "absent": (p, m, absent),
        "absent_id": int(pack_specobjid(p, m, absent, first["run2d"])),
    }
