from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from specflight.catalog.identifiers import unpack_specobjid
from specflight.catalog.idlists import read_id_list
from specflight.client import Client
from specflight.client._transport import Stream
from specflight.errors import NotFound, UnknownSpectrum
from specflight.flight.requests import Request
from specflight.http import subjects as module
from specflight.http.subjects import Catalogues, Observed, read_observed, read_redshifts
from specflight.tools.ingest import ingest
from specflight.tools.ingestcatalog import ingest_catalog

VECTORS = ("flux", "loglam", "ivar", "model")
Files = dict[int, Path]
Read = Callable[[Path], dict[str, Any]]


class Counting(Client):
    """A client that notes what it is asked."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.streams: list[str] = []
        self.listings = self.rows = 0

    def stream(self, request: Request, upload: pa.Table | None = None) -> Stream:
        self.streams.append(request.what)
        stream = super().stream(request, upload)
        return Stream(stream.schema, self._counted(stream.batches))

    def _counted(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self.rows += batch.num_rows
            yield batch

    def list_contexts(self, context: str | None = None, fmt: str = "text") -> Any:  # noqa: ANN401
        self.listings += 1
        return super().list_contexts(context, fmt)


@pytest.fixture
def client(sim_data: Path) -> Iterator[Counting]:
    """Client of the contexts sdss_dr12 and sdss_dr16."""
    with closing(Counting(f"file://{sim_data}")) as client:
        yield client


def _read(client: Client, context: str, ids: Any, start: int = 0, most: int = 1000) -> list[Observed]:  # noqa: ANN401
    return read_observed(client, Catalogues(), context, read_id_list(ids), VECTORS, start=start, most=most)


def _ids(observed: list[Observed]) -> list[int | None]:
    return [one.subject.specobjid for one in observed]


def _check(observed: Observed, path: Path, read: Read) -> None:
    truth = read(path)
    assert observed.spectrum.dtype.names == VECTORS
    for name in VECTORS:
        assert observed.spectrum[name].tobytes() == truth[name].tobytes()


def _rows(client: Client, context: str, catalogue: str = "specobjall") -> dict[int, dict[str, Any]]:
    fields = ["specobjid", "z", "class", "subclass"]
    table = client.query(context=context, catalog=f"{context}.{catalogue}", fields=fields)
    return {row["specobjid"]: row for row in table.to_pylist()}


def test_spectra_and_what_the_catalogue_says_of_them_come_in_one_call(
    client: Counting, sim_truth: dict[str, Files], astropy_vectors: Read
) -> None:
    rows, files = _rows(client, "sdss_dr16"), sim_truth["sdss_dr16"]
    assert any(row["subclass"] for row in rows.values())
    assert max(rows) >= 2**63
    client.streams.clear()
    observed = _read(client, "sdss_dr16", list(rows))
    assert client.streams == ["match"]
    for one, row in zip(observed, rows.values(), strict=True):
        said = one.subject
        assert (said.specobjid, said.z, said.kind) == (row["specobjid"], row["z"], row["class"])
        assert said.subclass == (row["subclass"] or None)
        _check(one, files[row["specobjid"]], astropy_vectors)


def test_order_and_duplicates_are_kept(client: Counting, sim_truth: dict[str, Files]) -> None:
    ids = [*list(sim_truth["sdss_dr16"])[5:1:-1], *list(sim_truth["sdss_dr16"])[3:5]]
    assert _ids(_read(client, "sdss_dr16", ids)) == ids
    assert _ids(_read(client, "sdss_dr16", ids, start=1, most=3)) == ids[1:4]
    assert _read(client, "sdss_dr16", ids, start=6) == []


def test_repeated_observations_are_known_too(
    client: Counting, sim_truth: dict[str, Files], tmp_path: Path, make_spectrum: Callable[..., int]
) -> None:
    first, again = (make_spectrum(tmp_path / "sas" / f"{plate}.fits", fiberid=7, plate=plate) for plate in (300, 301))
    data = tmp_path / "data"
    ingest(data, "twice", [tmp_path / "sas"], workers=1)
    with Client(f"file://{data}") as local:
        assert len(local.query(context="twice")) < 2
        said = [one.subject for one in _read(local, "twice", [first, again])]
    assert [subject.z for subject in said] == [pytest.approx(0.07)] * 2
    assert [subject.kind for subject in said] == ["GALAXY"] * 2


@pytest.mark.parametrize("context", ["default", "sdss_dr16"])
def test_spectra_of_another_release_come_with_what_its_catalogue_says(
    client: Counting, sim_truth: dict[str, Files], astropy_vectors: Read, context: str
) -> None:
    new, old = sim_truth["sdss_dr16"], sim_truth["sdss_dr12"]
    elsewhere = [specobjid for specobjid in old if specobjid not in new]
    rows = _rows(client, "sdss_dr12")
    ids = [next(iter(new)), elsewhere[1], elsewhere[0], elsewhere[1]]
    observed = _read(client, context, ids)
    assert _ids(observed) == ids
    for one in observed[1:]:
        assert (one.subject.z, one.subject.kind) == tuple(rows[one.subject.specobjid or 0][k] for k in ("z", "class"))
        _check(one, old[one.subject.specobjid or 0], astropy_vectors)
    assert observed[0].subject.z is not None


def test_unknown_spectra_are_named(client: Counting, sim_truth: dict[str, Files]) -> None:
    with pytest.raises(UnknownSpectrum, match=r"\b4242, 4343$"):
        _read(client, "sdss_dr16", [4242, next(iter(sim_truth["sdss_dr16"])), 4343, 4242])
    with pytest.raises(UnknownSpectrum, match="plate 301, mjd 50000"):
        _read(client, "sdss_dr16", [(301, 50000, 1)])


def test_a_context_that_is_not_there_is_named(client: Counting) -> None:
    for ids in (42, (301, 50000, 1)):
        with pytest.raises(NotFound, match="context: there is no context 'nosuch'"):
            _read(client, "nosuch", ids)


def test_tuples_and_wildcards_are_resolved(
    client: Counting, sim_truth: dict[str, Files], astropy_vectors: Read
) -> None:
    files, rows = sim_truth["sdss_dr16"], _rows(client, "sdss_dr16")
    some = sorted(files)[7]
    parts = unpack_specobjid(some)
    plate, mjd, fiber = int(parts.plate), int(parts.mjd), int(parts.fiberid)
    (one,) = _read(client, "sdss_dr16", (plate, mjd, fiber))
    assert (one.subject.specobjid, one.subject.z) == (some, rows[some]["z"])
    _check(one, files[some], astropy_vectors)
    of_plate = np.array(sorted(files), np.uint64)
    of_plate = of_plate[unpack_specobjid(of_plate).plate == plate]
    assert len(of_plate) > 3
    observed = _read(client, "sdss_dr16", [(plate, "*", "*"), some])
    assert _ids(observed) == [*of_plate.tolist(), some]
    assert [one.subject.z for one in observed] == [rows[number]["z"] for number in [*of_plate.tolist(), some]]
    assert _ids(_read(client, "sdss_dr16", [(plate, "*", "*"), some], start=1, most=2)) == of_plate[1:3].tolist()
    assert _read(client, "sdss_dr16", [(plate, "*", "*")], start=1000) == []


def test_of_a_long_list_of_tuples_no_more_is_read_than_is_wanted(client: Counting, sim_truth: dict[str, Files]) -> None:
    every = [(int(p.plate), int(p.mjd), int(p.fiberid)) for p in map(unpack_specobjid, sorted(sim_truth["sdss_dr16"]))]
    assert len(_read(client, "sdss_dr16", 50 * every, most=1)) == 1
    assert client.rows < 25 * len(every)


@pytest.fixture
def bare(sim_data: Path, sim_tree: dict[str, Path], tmp_path: Path) -> Iterator[Counting]:
    """Client of contexts that do not say all: one without a catalogue, others whose settings name other columns."""
    data = tmp_path / "data"
    shutil.copytree(sim_data, data, symlinks=True)
    (data / "specflight.toml").write_text(
        f'[contexts.files]\narchive = "{sim_tree["sdss_dr16"]}"\n'
        '[contexts.sdss_dr16]\nredshift = "VDISP"\n[contexts.sdss_dr12]\nredshift = "nosuch"\n'
    )
    with closing(Counting(f"file://{data}")) as client:
        yield client


def test_a_context_without_a_catalogue_gives_the_spectra_alone(bare: Counting, sim_truth: dict[str, Files]) -> None:
    ids = list(sim_truth["sdss_dr16"])[:3]
    observed = _read(bare, "files", ids)
    assert _ids(observed) == ids
    assert {(one.subject.z, one.subject.kind, one.subject.subclass) for one in observed} == {(None, None, None)}
    assert bare.streams == ["spectra"]


def test_the_redshift_is_the_column_that_the_context_names(bare: Counting, sim_truth: dict[str, Files]) -> None:
    table = bare.query(context="sdss_dr16", fields="specobjid,vdisp", constraint="vdisp > 0 limit 3")
    observed = _read(bare, "sdss_dr16", table["specobjid"].to_pylist())
    assert pa.array([one.subject.z for one in observed], pa.float32()).equals(
        pc.cast(table["vdisp"], pa.float32()).combine_chunks()
    )
    (galaxy,) = _read(bare, "sdss_dr12", [next(iter(sim_truth["sdss_dr12"]))])
    assert galaxy.subject.z is None
    assert galaxy.subject.kind is not None


def test_a_catalogue_of_better_redshifts_is_shown_as_it_is_stacked(
    tmp_path: Path, make_spectrum: Callable[..., int]
) -> None:
    names = [make_spectrum(tmp_path / f"sas/spec-0300-52000-000{fiber}.fits", fiber) for fiber in (1, 2)]
    ingest(tmp_path / "data", "other", [tmp_path / "sas"], workers=1)
    (tmp_path / "better.csv").write_text(f"specobjid,zbest\n{names[0]},0.5\n")
    ingest_catalog(tmp_path / "data", "other", "other.better", tmp_path / "better.csv")
    (tmp_path / "data/specflight.toml").write_text('[contexts.other]\ncatalog = "other.better"\nredshift = "zbest"\n')
    with Client(f"file://{tmp_path}/data") as local:
        said = [one.subject.z for one in _read(local, "other", names)]
        stacked = read_redshifts(local, Catalogues(), ["other"], np.array(names, np.uint64))
    assert said == [0.5, pytest.approx(0.02)]
    assert stacked.tolist() == said


NAMED = "specobjid,ra,dec\n{},1,2\n{},1,2\n"
OBJECTS = {
    "sdss_dr16.specobj": ("known", None),
    "files.odd": ("odd", "specobjid,ra,dec,z,class,subclass\n{},1,2,far,3, \n{},1,2,near,3, \n"),
    "files.twice": ("twice", "specobjid,ra,dec,z,class\n{0},1,2,0.25,QSO\n{0},1,2,0.75,QSO\n{1},1,2,nan,STAR\n"),
    "files.places": ("none", NAMED),
    "files.nameless": ("none", "ra,dec,z,class\n1,2,0.5,QSO\n1,3,0.5,QSO\n"),
    "files.nothing": ("none", None),
    "vac.objects": ("own", "specobjid,ra,dec,z,class\n{},1,2,0.5,QSO\n{},1,2,1.5,STAR\n"),
    "files.more": ("own", "specobjid,ra,dec,z,class\n{},1,2,0.5,QSO\n{},1,2,1.5,STAR\n"),
}


@pytest.mark.parametrize("catalogue", OBJECTS)
def test_whatever_catalogue_a_context_names_its_spectra_come(
    sim_data: Path, sim_tree: dict[str, Path], sim_truth: dict[str, Files], tmp_path: Path, catalogue: str
) -> None:
    data, ids = tmp_path / "data", list(sim_truth["sdss_dr16"])[:2]
    kind, text = OBJECTS[catalogue]
    shutil.copytree(sim_data, data, symlinks=True)
    archive = f'[contexts.files]\narchive = "{sim_tree["sdss_dr16"]}"\n'
    (data / "specflight.toml").write_text(f'{archive}catalog = "{catalogue}"\n')
    if text is not None:
        (tmp_path / "rows.csv").write_text(text.format(*ids))
        ingest_catalog(data, "files", catalogue, tmp_path / "rows.csv")
    if catalogue == "files.more":  # one that says nothing of the objects
        (tmp_path / "all.csv").write_text(NAMED.format(*ids))
        ingest_catalog(data, "files", "files.specobjall", tmp_path / "all.csv")
    with Client(f"file://{data}") as local:
        said = [one.subject for one in _read(local, "files", ids)]
        rows = _rows(local, "sdss_dr16")
    assert [subject.specobjid for subject in said] == ids
    expected: dict[str, list[tuple[Any, Any]]] = {
        "known": [(rows[number]["z"], rows[number]["class"]) for number in ids],
        "odd": [(None, "3")] * 2,
        "twice": [(0.25, "QSO"), (None, "STAR")],
        "own": [(0.5, "QSO"), (1.5, "STAR")],
        "none": [(None, None)] * 2,
    }
    assert [(subject.z, subject.kind) for subject in said] == expected[kind]


def test_the_columns_of_a_context_are_asked_for_once_in_a_while(
    client: Counting, sim_truth: dict[str, Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, catalogues = read_id_list(next(iter(sim_truth["sdss_dr16"]))), Catalogues()
    for _ in range(3):
        read_observed(client, catalogues, "sdss_dr16", wanted, ("flux",), most=1)
    assert client.listings == 1
    monkeypatch.setattr(module, "KNOWN_SECONDS", 0.0)
    later = Catalogues()
    for _ in range(2):
        read_observed(client, later, "sdss_dr16", wanted, ("flux",), most=1)
    assert client.listings == 3
