from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from specflight.errors import DamagedData, InvalidRequest, LimitExceeded, NotFound, QueryTimeout, UnknownSpectrum
from specflight.flight.actions import act
from specflight.flight.answers import Answer
from specflight.flight.requests import (
    FitsRequest,
    Query,
    QueryRequest,
    Request,
    SpanRequest,
    SpectraRequest,
    parse_request,
)
from specflight.flight.service import Service
from specflight.tools.ingest import ingest

LONG = " and ".join(f"sin(z * {n}) < 2" for n in range(400))
ODD = np.log10(np.linspace(3600, 3640, 20)).astype(np.float32)


@pytest.fixture(scope="module")
def service(sim_served: Path) -> Iterator[Service]:
    opened = Service(sim_served)
    yield opened
    opened.close()


@pytest.fixture
def small(tmp_path: Path, make_spectrum: Callable[..., int]) -> Path:
    """A data directory with a context `small` of three spectra, the last one off the grid, that a test may change."""
    for fiberid in (1, 2):
        make_spectrum(tmp_path / f"tree/{fiberid}.fits", fiberid=fiberid, npix=30 + fiberid)
    make_spectrum(tmp_path / "tree/3.fits", fiberid=3, npix=20, loglam=ODD)
    ingest(tmp_path / "data", "small", [tmp_path / "tree"], workers=1)
    return tmp_path / "data"


@pytest.fixture
def opened(small: Path) -> Iterator[Service]:
    service = Service(small)
    yield service
    service.close()


def table(answer: Answer) -> pa.Table:
    return pa.Table.from_batches(list(answer.batches()), answer.schema)


def ids_of(service: Service, name: str = "sdss_dr16") -> list[int]:
    ids: list[int] = service.contexts.get(name).source.ids.tolist()
    return ids


def test_contexts_are_what_was_ingested_and_what_has_an_archive_in_natural_order(service: Service) -> None:
    assert service.contexts.names() == ["sdss_dr12", "sdss_dr12_fits", "sdss_dr16", "sdss_dr16_fits"]


def test_default_is_the_last_context_by_number(sim_data: Path, tmp_path: Path) -> None:
    for name in ("sdss_dr9", "sdss_dr16"):
        shutil.copytree(sim_data / "sdss_dr16", tmp_path / name, symlinks=True)
    with closing(Service(tmp_path)) as service:
        assert service.contexts.get("default").name == "sdss_dr16"


def test_the_setting_default_context_says_what_default_is(small: Path) -> None:
    (small / "specflight.toml").write_text(
        f'default_context = "small"\n[contexts.zoo]\narchive = "{small.parent}/tree"\n'
    )
    with closing(Service(small)) as service:
        assert service.contexts.names() == ["small", "zoo"]
        assert service.contexts.get("default").name == "small"


@pytest.mark.parametrize("name", ["sdss_dr99", "", "../sdss_dr16", "archive", "SDSS_DR16"])
def test_an_unknown_context_is_named_and_so_are_those_that_there_are(service: Service, name: str) -> None:
    with pytest.raises(NotFound, match=f"context: there is no context '{name}'.*sdss_dr12, sdss_dr12_fits, sdss_dr16"):
        service.contexts.get(name)


def test_a_data_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"data: there is no folder .*nowhere"):
        Service(tmp_path / "nowhere")


def test_an_empty_data_directory_serves_nothing_politely(tmp_path: Path) -> None:
    with closing(Service(tmp_path)) as service:
        assert act(service, "contexts", b"") == {}
        with pytest.raises(NotFound, match="there are: none"):
            service.answer(SpectraRequest(ids=[1]))


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (SpectraRequest(context="sdss_dr16"), "ids: give either a list of ids or a query, got 0"),
        (
            SpectraRequest(context="sdss_dr16", ids=[1], query=Query()),
            "ids: give either a list of ids or a query, got 2",
        ),
        (SpectraRequest(context="sdss_dr16", ids=[]), "ids: the list is empty"),
        (SpectraRequest(context="sdss_dr16", ids=[1, -5]), "ids: entry 2 of the list: -5 is not a specobjid"),
        (SpectraRequest(context="sdss_dr16", ids=[1, None]), "ids: entry 2 of the list: None is not a specobjid"),
        (SpectraRequest(context="sdss_dr16", ids=[1.0]), r"ids: entry 1 of the list: 1\.0 is not a specobjid"),
        (SpectraRequest(context="sdss_dr16", ids=[True]), "ids: entry 1 of the list: True is not a specobjid"),
        (SpectraRequest(context="sdss_dr16", ids=["M31"]), "ids: entry 1 of the list: 'M31' is neither a specobjid"),
        (SpectraRequest(context="sdss_dr16", ids=[2**64]), "entry 1 of the list: 18446744073709551616 is not"),
        (SpectraRequest(context="sdss_dr16", ids=[[1, 2, 3, 4, 5]]), r"ids: entry 1 of the list: \[1, 2"),
        (SpectraRequest(context="sdss_dr16", query=Query(cone=(30.0, 0.0, -1.0))), "-1"),
    ],
)
def test_ids_that_are_none_are_refused_by_value(service: Service, request_: Request, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        service.answer(request_)


@pytest.mark.parametrize("kind", [SpectraRequest, SpanRequest, FitsRequest])
def test_unknown_ids_are_named_up_to_ten_with_their_number(service: Service, kind: Any) -> None:  # noqa: ANN401
    known = ids_of(service)[0]
    with pytest.raises(UnknownSpectrum) as caught:
        service.answer(kind(context="sdss_dr16", ids=[*range(1, 14), known, 13]))
    assert str(caught.value) == (
        "ids: context 'sdss_dr16' has no spectrum with specobjid 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 3 more"
    )


def test_missing_ids_are_null_or_skipped_when_asked(service: Service) -> None:
    first, second = ids_of(service)[:2]
    wanted = [first, 5, second, 5]
    null = table(service.answer(SpectraRequest(context="sdss_dr16", ids=wanted, columns=("flux",), missing="null")))
    assert null["specobjid"].to_pylist() == wanted
    assert null["status"].to_pylist() == ["ok", "missing", "ok", "missing"]
    skip = service.answer(SpectraRequest(context="sdss_dr16", ids=wanted, columns=("flux",), missing="skip"))
    assert skip.rows == 2
    assert table(skip)["specobjid"].to_pylist() == [first, second]
    nobody = service.answer(SpectraRequest(context="sdss_dr16", ids=[5], missing="skip"))
    assert (nobody.rows, len(table(nobody))) == (0, 0)


@pytest.mark.parametrize("missing", ["null", "skip"])
def test_ids_are_sent_from_where_a_broken_stream_resumes(service: Service, missing: Any) -> None:  # noqa: ANN401
    known = ids_of(service)[:4]
    wanted = [known[0], 5, *known[1:]]
    whole = SpectraRequest(context="sdss_dr16", ids=wanted, align=True, missing=missing)
    everything = table(service.answer(whole))
    for start in (1, 3, len(everything), len(everything) + 4):
        k0, npix = _grid(everything)
        rest = service.answer(whole.model_copy(update={"start": start, "grid": (k0, npix)}))
        assert rest.rows == max(0, len(everything) - start)
        assert table(rest).equals(everything.slice(start))


def _grid(spectra: pa.Table) -> tuple[int, int]:
    grid = json.loads(spectra.schema.metadata[b"specflight"])["grid"]
    return grid["k0"], grid["npix"]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_parts_of_a_request_give_the_same_answer_one_behind_the_other(service: Service, count: int) -> None:
    wanted = (ids_of(service) * 2)[:31]
    for whole in (
        SpectraRequest(context="sdss_dr16", ids=wanted, align=True, columns=("flux", "loglam")),
        SpectraRequest(context="sdss_dr16", ids=wanted, start=5),
        SpectraRequest(context="sdss_dr16", ids=[5, *wanted], missing="skip"),
        SpectraRequest(context="sdss_dr16", query=Query(catalog="specobjall", limit=20), cutout=(5000, 6000)),
    ):
        answer = service.answer(whole)
        assert answer.parts is not None
        parts = [parse_request(part.model_dump_json()) for part in answer.parts(count)]
        assert len(parts) == min(count, answer.rows)
        pieces = [table(service.answer(part)) for part in parts]
        assert pa.concat_tables(pieces).equals(table(answer))


@pytest.mark.parametrize(
    "empty",
    [
        SpectraRequest(context="sdss_dr16", ids=[5], missing="skip"),
        SpectraRequest(context="sdss_dr16", query=Query(where="z > 1000")),
        SpectraRequest(context="sdss_dr16", ids=[5], missing="null", start=1),
    ],
)
def test_the_parts_of_an_answer_without_rows_can_be_read(service: Service, empty: SpectraRequest) -> None:
    answer = service.answer(empty)
    assert answer.parts is not None
    assert [len(table(service.answer(part))) for part in answer.parts(3)] == [0]


def test_sizes_are_told_beforehand(service: Service) -> None:
    wanted = ids_of(service)[:9]
    npix = service.contexts.get("sdss_dr16").source.npix[:9]
    answer = service.answer(SpectraRequest(context="sdss_dr16", ids=wanted, columns=("flux", "sky")))
    assert (answer.rows, answer.size()) == (9, 2 * 4 * int(npix.sum()))
    aligned = service.answer(SpectraRequest(context="sdss_dr16", ids=wanted, columns=("flux",), cutout=(5000, 5500)))
    assert aligned.size() == 4 * 9 * aligned.schema.field("flux").type.list_size


def test_spectra_off_the_grid_are_given_as_lists_and_refused_by_name_when_aligned(opened: Service) -> None:
    ids = ids_of(opened, "small")
    listed = table(opened.answer(SpectraRequest(ids=ids)))
    assert listed["loglam"][2].values.to_numpy().tobytes() == ODD.tobytes()
    for extra in ({"align": True}, {"cutout": (3550.0, 3560.0)}, {"grid": (35500, 10)}):
        with pytest.raises(InvalidRequest, match=f"spectrum {ids[2]} is not on the grid"):
            opened.answer(SpectraRequest.model_validate({"ids": ids} | extra))
    limits = table(opened.answer(SpanRequest(ids=ids))).to_pylist()[0]
    assert limits == {"w0": float(np.float32(3.55)), "w1": float(ODD[-1])}


def test_a_context_from_its_files_has_no_catalogue_and_says_so(service: Service) -> None:
    with pytest.raises(NotFound, match=r"catalog: context 'sdss_dr16_fits' has no catalogue 'specobj' \(it has none"):
        service.answer(QueryRequest(context="sdss_dr16_fits"))


def test_a_listing_does_not_wait_for_the_scan_of_an_archive(small: Path) -> None:
    (small / "specflight.toml").write_text(f'[contexts.zoo]\narchive = "{small.parent}/tree"\n')
    with closing(Service(small)) as service:
        told = act(service, "contexts", b"")
        assert {name: about["spectra"] for name, about in told.items()} == {"default": None, "small": 3, "zoo": None}
        service.contexts.get("zoo")
        assert [about["spectra"] for about in act(service, "contexts", b"").values()] == [3, 3, 3]


def test_an_unknown_catalogue_is_named_and_so_are_those_that_there_are(service: Service) -> None:
    for name in ("galaxies", "sdss_dr16.galaxies"):
        with pytest.raises(
            NotFound, match=r"no catalogue 'galaxies' \(there are: sdss_dr16.specobj, sdss_dr16.specobjall"
        ):
            service.answer(QueryRequest(context="sdss_dr16", catalog=name))


def test_a_catalogue_of_another_context_may_be_named(service: Service) -> None:
    answer = service.answer(QueryRequest(context="sdss_dr16", catalog="sdss_dr12.specobjall"))
    assert sorted(table(answer)["specobjid"].to_pylist()) == ids_of(service, "sdss_dr12")


def test_a_new_ingest_is_noticed_and_an_answer_under_way_is_not_disturbed(
    small: Path, opened: Service, make_spectrum: Callable[..., int]
) -> None:
    ids = ids_of(opened, "small")
    before = opened.answer(SpectraRequest(ids=ids * 200))
    undisturbed = table(opened.answer(SpectraRequest(ids=ids * 200)))
    stream = before.batches()
    first = next(stream)
    tree = small.parent / "tree"
    time.sleep(0.01)  # the times of the files differ
    make_spectrum(tree / "1.fits", fiberid=1, npix=77)
    fresh = make_spectrum(tree / "new.fits", fiberid=8)
    report = ingest(small, "small", [tree], workers=1)
    assert (report.added, report.replaced) == (1, 1)
    assert ids_of(opened, "small") == sorted([*ids, fresh])
    assert len(table(opened.answer(SpectraRequest(ids=[ids[0]])))["flux"][0]) == 77
    assert set(table(opened.answer(QueryRequest(where="z < 1")))["specobjid"].to_pylist()) == {*ids, fresh}
    assert pa.Table.from_batches([first, *stream]).equals(undisturbed)


def test_a_context_that_is_ingested_while_serving_appears(small: Path, opened: Service) -> None:
    with pytest.raises(NotFound):
        opened.contexts.get("later")
    ingest(small, "later", [small.parent / "tree"], workers=1)
    assert opened.contexts.names() == ["later", "small"]
    assert len(ids_of(opened, "later")) == 3


def test_a_manifest_that_is_damaged_is_an_error_of_its_context_only(small: Path, opened: Service) -> None:
    ingest(small, "other", [small.parent / "tree"], workers=1)
    (small / "small" / "MANIFEST.json").write_text("{")
    with pytest.raises(DamagedData, match=r"MANIFEST\.json is not a manifest") as caught:
        opened.contexts.get("small")
    assert str(small) not in str(caught.value)
    assert len(ids_of(opened, "other")) == 3


@pytest.mark.parametrize(
    ("setting", "request_", "error", "named"),
    [
        ("max_ids = 2", SpectraRequest(ids=[1, 2, 3]), LimitExceeded, "ids: 3 are more than the limit max_ids = 2"),
        ("max_rows = 2", QueryRequest(), LimitExceeded, "more rows than the limit of 2"),
        ("max_rows = 2", QueryRequest(where="z < 9"), LimitExceeded, "more rows than the limit of 2"),
        ("max_rows = 2", SpectraRequest(query=Query()), LimitExceeded, "more rows than the limit of 2"),
        ("max_clause = 5", QueryRequest(where="z < 1.5"), InvalidRequest, "5"),
        ("max_nesting = 2", QueryRequest(where="(((z < 1)))"), InvalidRequest, "2"),
        ("query_seconds = 1e-9", QueryRequest(where=LONG), QueryTimeout, "1e-09 s"),
    ],
)
def test_each_limit_is_an_error_that_names_it(
    small: Path, setting: str, request_: Request, error: type[Exception], named: str
) -> None:
    (small / "specflight.toml").write_text(setting)
    with closing(Service(small)) as service:

        def ask() -> None:
            for _ in range(100):  # the time limit may come too late for a query this short
                service.answer(request_)

        with pytest.raises(error, match=named):
            ask()


def test_within_the_limits_nothing_is_refused(small: Path) -> None:
    (small / "specflight.toml").write_text("max_ids = 3\nmax_rows = 3\nmax_clause = 7\nmax_nesting = 3\n")
    with closing(Service(small)) as service:
        assert len(table(service.answer(QueryRequest(where="(z < 1)")))) == 3
        assert len(table(service.answer(SpectraRequest(ids=ids_of(service, "small"))))) == 3


def test_an_explicit_limit_keeps_a_query_within_the_rows(small: Path) -> None:
    (small / "specflight.toml").write_text("max_rows = 2\n")
    with closing(Service(small)) as service:
        assert len(table(service.answer(QueryRequest(limit=2)))) == 2
        assert len(table(service.answer(QueryRequest(where="z < 9 limit 2")))) == 2


def test_the_database_keeps_to_its_memory_and_threads(small: Path) -> None:
    (small / "specflight.toml").write_text('query_memory = "100MB"\nquery_threads = 1\n')
    with closing(Service(small)) as service:
        said = service.contexts._database.execute(
            "SELECT current_setting('memory_limit') AS m, current_setting('threads') AS t"
        )
        memory, threads = said["m"][0], said["t"][0]
        assert float(memory.split()[0]) * 1.048576 == pytest.approx(100, rel=0.01)
        assert int(threads) == 1


def test_nothing_is_left_in_the_folder_of_temporary_files(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    service = Service(small)
    assert len(table(service.answer(QueryRequest(where="z < 9")))) == 3
    assert list(scratch.iterdir()) == []
    service.close()
    assert list(scratch.iterdir()) == []


def test_originals_that_are_gone_are_errors_or_null(small: Path, opened: Service) -> None:
    ids = ids_of(opened, "small")
    (small.parent / "tree/2.fits").unlink()
    answer = opened.answer(FitsRequest(ids=ids))
    with pytest.raises(DamagedData, match=rf"spectrum {ids[1]}: the original file 2\.fits"):
        list(answer.batches())
    null = table(opened.answer(FitsRequest(ids=[*ids, 5], missing="null")))
    assert null["status"].to_pylist() == ["ok", "damaged", "ok", "missing"]
    assert null["fits"][0].as_py() == (small.parent / "tree/1.fits").read_bytes()
    assert null["fits"].is_null().to_pylist() == [False, True, False, True]
    assert table(opened.answer(FitsRequest(ids=ids, missing="null", start=2)))["name"].to_pylist() == ["3.fits"]
