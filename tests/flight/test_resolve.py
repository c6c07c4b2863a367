"""Which spectra a list names, and in which releases they are looked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from specflight.catalog.database import Cancellation
from specflight.catalog.identifiers import unpack_specobjid
from specflight.errors import InvalidRequest, LimitExceeded, NotFound, QueryTimeout, UnknownSpectrum
from specflight.flight.answers import Answer
from specflight.flight.requests import FitsRequest, Query, SpanRequest, SpectraRequest
from specflight.flight.service import Service
from specflight.tools.ingest import ingest


@pytest.fixture
def releases(tmp_path: Path, make_spectrum: Callable[..., int]) -> Path:
    """A data directory of three releases of one survey, and a fourth of which only settings are there.

    Plate 300 is in the oldest only, 301 in the two oldest, 302 in the newest.
    """
    for release, plates in (("dr8", (300, 301)), ("dr9", (301,)), ("dr16", (302,))):
        for plate in plates:
            for fiberid in (1, 2, 3):
                # Other numbers of pixels tell the releases apart.
                npix = 30 + len(release) + len(plates) + (plate == 302)
                make_spectrum(tmp_path / release / f"{plate}-{fiberid}.fits", fiberid=fiberid, plate=plate, npix=npix)
        ingest(tmp_path / "data", f"sky_{release}", [tmp_path / release], workers=1)
    (tmp_path / "data/specflight.toml").write_text('[contexts.sky_dr12]\ndescription = "nothing yet"\n')
    return tmp_path / "data"


@pytest.fixture
def service(releases: Path) -> Iterator[Service]:
    with closing(Service(releases)) as opened:
        yield opened


def table(answer: Answer) -> pa.Table:
    return pa.Table.from_batches(list(answer.batches()), answer.schema)


def ids_of(service: Service, release: str) -> list[int]:
    ids: list[int] = service.contexts.get(f"sky_{release}").source.ids.tolist()
    return ids


def test_tuples_wildcards_and_ranges_are_expanded_in_their_places(service: Service) -> None:
    old = ids_of(service, "dr8")
    asked = [[301, 52000, "2-3"], old[0], [300, "*", 2, "26"], [300, 52000, 1]]
    request = SpectraRequest(context="sky_dr8", ids=asked, columns=("flux",))
    found = table(service.answer(request))["specobjid"].to_pylist()
    assert found == [old[4], old[5], old[0], old[1], old[0]]
    everything = table(service.answer(SpectraRequest(context="sky_dr8", ids=[["*"]], columns=("flux",))))
    assert everything["specobjid"].to_pylist() == old


def test_default_and_the_newest_release_look_in_the_others_newest_first(service: Service) -> None:
    own, old = ids_of(service, "dr16"), ids_of(service, "dr8")
    for context in ("default", "sky_dr16"):
        found = table(service.answer(SpectraRequest(context=context, ids=[old[0], own[0], old[5], own[0]])))
        assert found["specobjid"].to_pylist() == [old[0], own[0], old[5], own[0]]
        # Plate 301 is in two releases: the newer one has it.
        newer = table(service.answer(SpectraRequest(context="sky_dr9", ids=[old[5]])))
        assert found["flux"][2].as_py() == newer["flux"][0].as_py()
        about = json.loads(found.schema.metadata[b"specflight"])
        assert (about["context"], about["found_in"]) == ("sky_dr16", ["sky_dr16", "sky_dr9", "sky_dr8"])
    alone = table(service.answer(SpectraRequest(ids=own)))
    assert "found_in" not in json.loads(alone.schema.metadata[b"specflight"])


def test_an_older_release_never_looks_elsewhere(service: Service) -> None:
    own, old = ids_of(service, "dr16"), ids_of(service, "dr8")
    with pytest.raises(UnknownSpectrum, match=f"context 'sky_dr9' has no spectrum with specobjid {old[0]}, {own[0]}$"):
        service.answer(SpectraRequest(context="sky_dr9", ids=[old[0], own[0], old[4]]))
    with pytest.raises(UnknownSpectrum, match="context 'sky_dr9' has no spectrum with plate 302"):
        service.answer(SpectraRequest(context="sky_dr9", ids=[[302]]))


def test_tuples_without_a_match_are_tried_in_the_other_releases(service: Service) -> None:
    own, old = ids_of(service, "dr16"), ids_of(service, "dr8")
    asked = [[300, 52000, 2], [302, 52000, "1,3"], [301, "*", 1]]
    found = table(service.answer(SpectraRequest(ids=asked)))
    assert found["specobjid"].to_pylist() == [old[1], own[0], own[2], old[3]]
    limits = table(service.answer(SpanRequest(ids=asked))).to_pylist()[0]
    assert limits["w0"] == pytest.approx(3.55)
    files = table(service.answer(FitsRequest(ids=asked)))
    assert files["name"].to_pylist() == ["300-2.fits", "302-1.fits", "302-3.fits", "301-1.fits"]


def test_entries_that_match_nothing_are_named_or_null_or_left_out(service: Service) -> None:
    own = ids_of(service, "dr16")
    asked = [[302, 52000, 9], own[0], [999], 5]
    with pytest.raises(UnknownSpectrum, match=r"plate 302, mjd 52000, fiberid 9; plate 999$"):
        service.answer(SpectraRequest(ids=asked))
    null = table(service.answer(SpectraRequest(ids=asked, missing="null")))
    assert null["specobjid"].to_pylist() == [None, own[0], None, 5]
    assert null["status"].to_pylist() == ["missing", "ok", "missing", "missing"]
    files = table(service.answer(FitsRequest(ids=asked, missing="null")))
    assert files["specobjid"].to_pylist() == [None, own[0], None, 5]
    skip = table(service.answer(SpectraRequest(ids=asked, missing="skip")))
    assert skip["specobjid"].to_pylist() == [own[0]]


def test_the_parts_of_an_answer_look_where_the_whole_did(service: Service) -> None:
    asked = SpectraRequest(ids=[[300], [302], [999], 5], align=True, missing="null")
    answer = service.answer(asked)
    assert answer.parts is not None
    assert answer.rows == 8
    pieces = [table(service.answer(part)) for part in answer.parts(3)]
    assert pa.concat_tables(pieces).drop_columns("status").equals(table(answer).drop_columns("status"))


def test_spectra_of_several_releases_are_aligned(service: Service) -> None:
    asked = [ids_of(service, "dr16")[0], ids_of(service, "dr8")[0]]
    found = table(service.answer(SpectraRequest(ids=asked, align=True)))
    assert found.schema.field("flux").type.list_size == 36
    single = table(service.answer(SpectraRequest(context="sky_dr8", ids=asked[1:])))
    flux = np.array(found["flux"][1].as_py(), np.float32)
    assert flux[: len(single["flux"][0])].tobytes() == np.array(single["flux"][0].as_py(), np.float32).tobytes()


def test_a_context_without_data_says_so_and_is_listed(service: Service) -> None:
    assert service.contexts.names() == ["sky_dr8", "sky_dr9", "sky_dr12", "sky_dr16"]
    with pytest.raises(UnknownSpectrum, match="context 'sky_dr12' has no spectra of its own"):
        service.answer(SpectraRequest(context="sky_dr12", ids=[7]))
    with pytest.raises(NotFound, match="context 'sky_dr12' has no catalogue 'specobj' \\(it has none"):
        service.answer(SpectraRequest(context="sky_dr12", query=Query()))
    assert service.contexts.get("default").name == "sky_dr16"


def test_a_context_without_data_is_not_the_newest(releases: Path) -> None:
    (releases / "specflight.toml").write_text("[contexts.sky_dr17]\n")
    with closing(Service(releases)) as service:
        old = ids_of(service, "dr8")[0]
        found = table(service.answer(SpectraRequest(context="sky_dr16", ids=[old])))
        assert found["status"].to_pylist() == ["ok"]
        with pytest.raises(UnknownSpectrum, match="context 'sky_dr17' has no spectra of its own"):
            service.answer(SpectraRequest(context="sky_dr17", ids=[old]))


def test_a_default_that_is_not_there_is_named_at_the_start(releases: Path) -> None:
    (releases / "specflight.toml").write_text('default_context = "sky_dr99"\n')
    with pytest.raises(InvalidRequest, match=r"default_context: there is no context 'sky_dr99' .*sky_dr8"):
        Service(releases)


def test_a_list_that_stands_for_too_many_spectra_is_refused(releases: Path) -> None:
    toml = releases / "specflight.toml"
    toml.write_text("max_ids = 4\n")
    with closing(Service(releases)) as service, pytest.raises(LimitExceeded, match="max_ids = 4"):
        service.answer(SpectraRequest(context="sky_dr8", ids=[["*"]]))


def test_the_search_for_patterns_ends_when_it_is_cancelled(service: Service) -> None:
    request = SpectraRequest(context="sky_dr8", ids=[["*", 52000, "1,3"]])
    with pytest.raises(QueryTimeout, match="cancelled"):
        service.answer(request, cancellation=Cancellation(lambda: True))


def test_uploaded_lists_may_be_numbers_or_texts(service: Service) -> None:
    old = ids_of(service, "dr8")
    request = SpectraRequest(context="sky_dr8", columns=("flux",))
    for column in (
        pa.array(old[:2], pa.uint64()),
        pa.array([str(specobjid) for specobjid in old[:2]]),
        pa.array(["300-52000-1", "300-52000-2"]),
    ):
        found = table(service.answer(request, pa.table({"specobjid": column})))
        assert found["specobjid"].to_pylist() == old[:2]
    for upload, named in (
        (pa.table({"id": old}), "the table has no column specobjid, only \\['id'\\]"),
        (pa.table({"specobjid": pa.array([1, None])}), "1 of 2 values are null"),
        (pa.table({"specobjid": [1.5]}), "1.5"),
    ):
        with pytest.raises(InvalidRequest, match=named):
            service.answer(request, upload)
    with pytest.raises(InvalidRequest, match="got 2 of them"):
        service.answer(SpectraRequest(context="sky_dr8", ids=[1]), pa.table({"specobjid": old}))


def test_ids_unpack_to_what_was_asked(service: Service) -> None:
    found = table(service.answer(SpectraRequest(ids=[[301, 52000, "2:3"]], columns=("flux",))))
    parts = unpack_specobjid(found["specobjid"].to_numpy())
    assert parts.plate.tolist() == [301, 301]
    assert parts.fiberid.tolist() == [2, 3]
