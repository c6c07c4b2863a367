"""``/getSpec`` of a context that a test may change: odd and damaged spectra, lists and files in the storage."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pyarrow as pa
import pytest
from fixtures_http import Scratch
from webspectra import Read, arrays, fields, refusal, same, whole

from specflight.tools.ingest import ingest


@dataclass(frozen=True, slots=True)
class Small:
    """A context of small spectra, which a test may damage: three, one of them off the grid, and a longer one."""

    scratch: Scratch
    context: str
    tree: Path
    ids: list[int]
    odd: int
    longer: int

    @property
    def stored(self) -> Path:
        """Where the files of alice are."""
        return self.scratch.folder / "alice"

    def ask(self, id_list: object, user: str = "", **more: object) -> httpx.Response:
        """Answer of ``/getSpec``."""
        asked = fields(id_list, context=self.context, **more)
        return self.scratch.web.post("/getSpec", data=asked, headers=self.scratch.headers(user))


@pytest.fixture
def small(scratch: Scratch, tmp_path: Path, make_spectrum: Callable[..., int]) -> Iterator[Small]:
    tree, later = tmp_path / "tree", tmp_path / "later"
    ids = [make_spectrum(tree / f"spec-{number}.fits", fiberid=number) for number in (1, 2)]
    loglam = np.log10(np.linspace(3600, 3700, 40)).astype(np.float32)
    odd = make_spectrum(tree / "spec-3.fits", fiberid=3, loglam=loglam)
    longer = make_spectrum(later / "spec-4.fits", fiberid=4, npix=45)
    context = f"small_{secrets.token_hex(4)}"
    for folder in (tree, later):
        assert not ingest(scratch.data, context, [folder], workers=1).skipped
    scratch.remove_files()
    yield Small(scratch, context, tree, ids, odd, longer)
    scratch.remove_files()
    shutil.rmtree(scratch.data / context)


def test_a_single_spectrum_off_the_grid_is_served_as_it_is(small: Small, astropy_vectors: Read) -> None:
    truth = astropy_vectors(small.tree / "spec-3.fits")
    for more in ({}, {"align": True}, {"w0": 3.5, "w1": 3.9}):
        assert same(arrays(small.ask(small.odd, **more)), whole(truth))
    got = arrays(small.ask(small.odd, values="flux", w0=3.5, w1=3.9))
    assert same(got, whole(truth, ("flux",)))
    stacked = arrays(small.ask([small.odd, small.ids[0]]))
    assert same(stacked[0], whole(truth))
    status, text = refusal(small.ask([small.odd, small.ids[0]], align=True))
    assert (status, str(small.odd) in text) == (400, True)
    limits = json.loads(small.scratch.web.post("/listSpan", data=fields([small.odd], context=small.context)).text)
    assert limits == {"w0": round(float(truth["loglam"][0]), 6), "w1": round(float(truth["loglam"][-1]), 6)}


def test_one_that_is_longer_is_found_before_the_answer_begins(small: Small) -> None:
    wanted = [small.ids[0]] * 30_000
    assert arrays(small.ask(wanted)).shape == (30_000, 40)
    status, text = refusal(small.ask([*wanted, small.longer]))
    assert status == 400
    assert "40 and 45 pixels" in text


@pytest.mark.parametrize("kind", ["npy", "arrow", "csv", "parquet"])
def test_damage_in_the_middle_breaks_the_connection_off(small: Small, kind: str) -> None:
    wanted = [*small.ids * 3500, small.longer]
    hurt_part(small)
    status, text = refusal(small.ask(small.longer, format=kind))
    assert (status, f"spectrum {small.longer} cannot be read" in text) == (500, True)
    first = small.ask(wanted[::-1], align=True, format=kind)
    assert refusal(first)[0] == 500
    with pytest.raises(httpx.RemoteProtocolError, match=r"complete"):
        small.ask(wanted, align=True, format=kind)
    assert arrays(small.ask(wanted[:-1], align=True)).shape == (7000, 40)


def hurt_part(small: Small) -> None:
    folder = small.scratch.data / small.context / "spectra"
    with pa.OSFile(str(folder / "index.arrow")) as file:
        index = pa.ipc.open_file(file).read_all()
    at = index["specobjid"].to_pylist().index(small.longer)
    os.truncate(folder / index["part"][at].as_py(), 100)


@pytest.mark.parametrize("name", ['spec "5".fits', "spec-5-\u00e9.fits", "spec\n5.fits", "spec\\5.fits"])
def test_any_name_of_a_file_can_be_told(small: Small, make_spectrum: Callable[..., int], name: str) -> None:
    path = small.tree.parent / "named" / name
    specobjid = make_spectrum(path, fiberid=5)
    ingest(small.scratch.data, small.context, [path], workers=1)
    answer = small.ask(specobjid, format="FITS")
    assert answer.content == path.read_bytes()
    assert answer.headers["content-disposition"] == f"attachment; filename*=utf-8''{quote(name)}"


def test_an_original_that_is_gone_is_told(small: Small) -> None:
    (small.tree / "spec-1.fits").unlink()
    status, text = refusal(small.ask(small.ids[0], format="FITS"))
    assert status == 500
    assert "spec-1.fits" in text
    assert str(small.tree.parent) not in text


def test_spectra_go_into_the_storage_of_the_caller(small: Small) -> None:
    def stored(id_list: object, **more: object) -> httpx.Response:
        return small.ask(id_list, "alice", **more)

    folder = small.stored
    answer = stored([*small.ids, small.longer], out="vos://spectra/")
    assert (answer.status_code, answer.text) == (200, "OK")
    assert sorted(path.name for path in (folder / "spectra").iterdir()) == sorted(
        f"{specobjid}.npy" for specobjid in [*small.ids, small.longer]
    )
    for specobjid in small.ids:
        content = (folder / f"spectra/{specobjid}.npy").read_bytes()
        assert content == small.ask(specobjid).content
    assert stored(small.ids, out="vos://cut", w0=3.54, w1=3.56, values="ivar").text == "OK"
    padded = small.ask(small.ids[1], w0=3.54, w1=3.56, values="ivar").content
    assert (folder / f"cut/{small.ids[1]}.npy").read_bytes() == padded
    assert stored(small.ids[0], out="vos://").text == "OK"
    assert (folder / f"{small.ids[0]}.npy").exists()
    assert stored(small.ids, out="vos://originals", format="FITS").text == "OK"
    for number in (1, 2):
        original = small.tree / f"spec-{number}.fits"
        assert (folder / f"originals/spec-{number}.fits").read_bytes() == original.read_bytes()


def test_what_cannot_be_stored_is_told_with_what_is_there_already(small: Small) -> None:
    def stored(id_list: object, user: str = "alice", **more: object) -> tuple[int, str]:
        return refusal(small.ask(id_list, user, **more))

    status, text = stored(small.ids, user="", out="vos://x/")
    assert (status, "already" in text) == (401, False)
    assert stored(small.ids, out="/tmp/x")[0] == 400
    assert stored(small.ids, out="vos://x/", format="csv")[0] == 400
    assert stored(small.ids, out="vos://../bob/")[0] == 400
    hurt_part(small)
    status, text = stored([small.longer, *small.ids], out="vos://x/")
    assert (status, "already" in text) == (500, False)
    assert not (small.stored / "x").exists()
    (small.tree / "spec-2.fits").unlink()
    # A list long enough to be read file by file.
    status, text = stored([small.ids[0]] * 300 + [small.ids[1]], out="vos://x/", format="fits")
    assert status == 500
    assert "spec-2.fits cannot be read" in text
    assert text.endswith("; 1 file is in vos://x/ already")
    assert [path.name for path in (small.stored / "x").iterdir()] == ["spec-1.fits"]


def test_a_list_may_lie_in_the_storage_of_the_caller(small: Small) -> None:
    folder = small.stored
    folder.mkdir(parents=True)
    (folder / "ids.csv").write_text("specobjid,z\n" + "".join(f"{specobjid},0.1\n" for specobjid in small.ids))
    (folder / "none.txt").write_text("nonsense!")
    (folder / "binary").write_bytes(b"\xff\xfe\x00")

    def asked(uri: str, user: str = "alice") -> httpx.Response:
        return small.ask(uri, user, align=True)

    expected = small.ask(small.ids, align=True).content
    assert asked("vos://ids.csv").content == expected
    assert refusal(asked("vos://ids.csv", user=""))[0] in (401, 404)
    assert refusal(asked("vos://nosuch"))[0] == 404
    assert refusal(asked("vos://none.txt"))[1].startswith("Error: ids: in the file 'vos://none.txt', ")
    assert refusal(asked("vos://binary")) == (400, "Error: ids: the file 'vos://binary' is not a text of ids")
