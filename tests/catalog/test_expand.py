"""Tests of `specflight.catalog.expand`."""

import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from specflight.catalog import expand as module
from specflight.catalog.expand import Expansion, expand
from specflight.catalog.identifiers import pack_specobjid, run2d_code, unpack_specobjid
from specflight.catalog.idlists import read_id_list
from specflight.errors import LimitExceeded

RUN2D = ["26", "103", "v5_13_2"]
ANY = 10**9


def survey(plates: int, fibers: int) -> NDArray[np.uint64]:
    """Two nights of every plate, a reduction each; one plate beyond 8192."""
    plate = np.append(np.arange(1960, 1959 + plates), 9000)
    fiber = np.arange(1, fibers + 1)
    nights = [
        pack_specobjid(plate[:, None], 54330 + night + plate[:, None] % 2, fiber, RUN2D[night]) for night in (0, 1)
    ]
    return np.unique(np.concatenate([night.ravel() for night in nights]))


IDS = survey(5, 6)


def found(entries: object, ids: NDArray[np.uint64] = IDS) -> list[tuple[int, int, int, str]]:
    return rows(expand(read_id_list(entries), ids, ANY).ids)


def rows(ids: NDArray[np.uint64]) -> list[tuple[int, int, int, str]]:
    parts = unpack_specobjid(ids)
    columns = (parts.plate, parts.mjd, parts.fiberid, parts.run2d)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_a_tuple_finds_every_reduction_of_its_fibre() -> None:
    assert found((1961, 54331, 2)) == [(1961, 54331, 2, "26")]
    both = np.sort(np.append(IDS, pack_specobjid(1961, 54331, 2, "v5_13_2")))
    assert found((1961, 54331, 2), both) == [(1961, 54331, 2, "26"), (1961, 54331, 2, "v5_13_2")]
    assert found((1961, 54331, 2, "v5_13_2"), both) == [(1961, 54331, 2, "v5_13_2")]


def test_the_order_is_that_of_the_list_and_within_an_entry_of_plate_mjd_and_fibre() -> None:
    entries = [(1962, "*", [2, 1]), int(IDS[-1]), (1961, 54332, 3), (1962, "*", [2, 1]), int(IDS[0])]
    expansion = expand(read_id_list(entries), IDS, ANY)
    block = [(1962, 54330, 1, "26"), (1962, 54330, 2, "26"), (1962, 54331, 1, "103"), (1962, 54331, 2, "103")]
    assert rows(expansion.ids) == [*block, *rows(IDS[-1:]), (1961, 54332, 3, "103"), *block, *rows(IDS[:1])]
    assert expansion.entry.tolist() == [0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 4]


def test_a_whole_plate_comes_by_night() -> None:
    assert [row[1:3] for row in found((1960,))] == [(mjd, fiber) for mjd in (54330, 54331) for fiber in range(1, 7)]


def test_ids_pass_through_whether_they_exist_or_not() -> None:
    expansion = expand(read_id_list([5, int(IDS[3]), 2**64 - 1, 5, (1, 2, 3)]), IDS, ANY)
    assert expansion.ids.tolist() == [5, int(IDS[3]), 2**64 - 1, 5]
    assert expansion.entry.tolist() == [0, 1, 2, 3]
    assert expansion.unmatched.tolist() == [4]


def test_entries_that_match_nothing_are_named() -> None:
    entries = [(1961, 54331, 9999), (1961, 54331, 2), (1961, 50000, 2), ("*", 54331, "7-9"), (1, "*", "*", "103")]
    id_list = read_id_list(entries)
    unmatched = expand(id_list, IDS, ANY).unmatched.tolist()
    assert [str(id_list.pattern(entry)) for entry in unmatched] == [
        "plate 1961, mjd 54331, fiberid 9999",
        "plate 1961, mjd 50000, fiberid 2",
        "mjd 54331, fiberid 7-9",
        "plate 1, run2d 103",
    ]


@pytest.mark.parametrize("entry", [(20_000,), (1961, 40_000), ("*", 99_999), ("*", "*", "5000-6000"), ("16384-20000",)])
def test_numbers_that_no_id_can_hold_match_nothing(entry: object) -> None:
    expansion = expand(read_id_list([entry]), IDS, ANY)
    assert len(expansion.ids) == 0
    assert expansion.unmatched.tolist() == [0]


def test_a_range_that_reaches_beyond_what_an_id_can_hold_is_cut() -> None:
    assert found(("1960-99999", "0-99999", "6-99999")) == sorted(row for row in rows(IDS) if row[2] == 6)


def test_ids_of_another_survey_and_an_empty_context_match_nothing() -> None:
    targets = np.array([39627640566453451, 39627640566453452], np.uint64)
    for ids in (targets, np.empty(0, np.uint64)):
        for entry in ((1963, 54331, 120), ("*", 54331, 1), ("*", "*", "*", "26")):
            assert expand(read_id_list([entry]), ids, ANY).unmatched.tolist() == [0]


def part(name: str, values: list[int]) -> st.SearchStrategy[Any]:
    one = st.sampled_from(values)
    span = st.tuples(one, one).map(lambda ends: f"{min(ends)}-{max(ends)}")
    return st.one_of(st.just("*"), one, span, st.lists(one, min_size=1, max_size=3))


groups = st.tuples(
    part("plate", [1959, 1960, 1961, 1962, 9000]),
    part("mjd", [54329, 54330, 54331, 54332]),
    part("fiberid", [0, 1, 2, 5, 6, 7, 5000]),
    st.one_of(st.just("*"), st.sampled_from(RUN2D), st.lists(st.sampled_from(RUN2D), min_size=1)),
)
prefixes = st.integers(1, 4).flatmap(lambda length: groups.map(lambda group: group[:length]))


def values(part: object) -> set[int | str]:
    """Values that a part stands for, unless it is a wildcard."""
    if isinstance(part, list):
        return {value for one in part for value in values(one)}
    if part in RUN2D:
        return {str(part)}
    ranges = [[int(end) for end in piece.split("-")] for piece in str(part).split(",")]
    return {value for ends in ranges for value in range(ends[0], ends[-1] + 1)}


def brute_force(entries: list[Any], ids: NDArray[np.uint64]) -> list[list[tuple[int, int, int, str]]]:
    """Rows of each entry by a loop over all spectra; four single parts are an id, which needs not exist."""
    wanted = [
        entry if isinstance(entry, int) else [None if one == "*" else values(one) for one in entry] for entry in entries
    ]
    every = sorted(rows(ids), key=lambda row: (*row[:3], run2d_code(row[3])))
    return [
        rows(np.array([entry], np.uint64))
        if isinstance(entry, int)
        else [row for row in every if all(one is None or value in one for value, one in zip(row, entry, strict=False))]
        for entry in wanted
    ]


def as_id(entry: int | tuple[Any, ...]) -> int | tuple[Any, ...]:
    """The id that four single parts are, whether there is such a spectrum or not."""
    if isinstance(entry, int) or len(entry) < 4 or "*" in entry:
        return entry
    parts = [sorted(values(part)) for part in entry]
    whole = all(len(part) == 1 for part in parts) and parts[2][0] != 5000
    return int(pack_specobjid(*(part[0] for part in parts))) if whole else entry


def by_entry(expansion: Expansion, count: int) -> list[list[tuple[int, int, int, str]]]:
    return [rows(expansion.ids[expansion.entry == entry]) for entry in range(count)]


@given(st.lists(st.one_of(prefixes, st.sampled_from(IDS.tolist())), min_size=1, max_size=6))
def test_expansion_equals_a_filter_over_all_spectra(entries: list[Any]) -> None:
    expansion = expand(read_id_list(entries), IDS, ANY)
    expected = brute_force([as_id(entry) for entry in entries], IDS)
    assert by_entry(expansion, len(entries)) == expected
    assert expansion.unmatched.tolist() == [place for place, matched in enumerate(expected) if not matched]
    assert (np.diff(expansion.entry) >= 0).all()


@pytest.mark.parametrize("bisection_looks", [0, ANY])
@pytest.mark.parametrize("few_plates", [0, ANY])
@pytest.mark.parametrize("chunk", [1, 1000, ANY])
def test_every_way_to_look_finds_the_same(
    bisection_looks: int, few_plates: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = survey(40, 12)
    entries: list[Any] = [
        ("*", 54331, 10),
        ("*", "*", "1,5,9-11"),
        ("*", "54330,54332", "*", ["26", "103"]),
        ("1990-2300", 54331),
        (["1961", "1970-1980"], "*", [3, 9]),
        ("*", "*", "5-9", "v5_13_2"),
        ("*", [54330, 54331], "5-6000", "103"),
    ]
    monkeypatch.setattr(module, "_BISECTION_LOOKS", bisection_looks)
    monkeypatch.setattr(module, "_FEW_PLATES", few_plates)
    monkeypatch.setattr(module, "_CHUNK", chunk)
    assert by_entry(expand(read_id_list(entries), ids, ANY), len(entries)) == brute_force(entries, ids)


def test_the_limit_of_ids_is_named() -> None:
    limit = "the list stands for more spectra than the limit max_ids = 10"
    for entries in ([("*",)], [("*", "*", "*")], [5] * 11, [("*", 54331)], [(1960, "*", "1-5"), 5], [(1960,)]):
        with pytest.raises(LimitExceeded, match=limit):
            expand(read_id_list(entries), IDS, 10)
    assert len(expand(read_id_list([(1960, "*", "1-5")]), IDS, 10).ids) == 10
    assert len(expand(read_id_list([5] * 10), IDS, 10).ids) == 10


def test_lists_that_would_take_minutes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LOOKS", 5_000_000)
    ids = survey(400, 110)
    assert len(expand(read_id_list([("*", 54331)]), ids, ANY).ids) > 0
    for entries in ([("*", mjd) for mjd in range(54000, 54100)], [(1, mjd) for mjd in range(50000, 51000)]):
        with pytest.raises(LimitExceeded, match="look at more than 5000000 spectra: give plates"):
            expand(read_id_list(entries), ids, ANY)


def test_bisections_count_as_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = survey(400, 110)
    monkeypatch.setattr(module, "MAX_LOOKS", 30_000)
    assert len(expand(read_id_list([(1961, 54331)]), ids, ANY).ids) == 110
    with pytest.raises(LimitExceeded, match="look at more than 30000 spectra"):
        expand(read_id_list([("*", 54331, 5)]), ids, ANY)


def test_a_list_beyond_the_limit_is_refused_before_all_of_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = survey(4000, 100)
    monkeypatch.setattr(module, "MAX_LOOKS", 3 * len(ids))
    monkeypatch.setattr(module, "_CHUNK", 1000)
    id_list = read_id_list([("*", 54331)] * 100)
    tracemalloc.start()
    with pytest.raises(LimitExceeded, match="max_ids = 10"):
        expand(id_list, ids, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(ids) / 4


def test_a_hundred_thousand_tuples_cost_no_more_than_a_few_sorts() -> None:
    ids = survey(4000, 100)
    chosen = np.random.default_rng(1).choice(ids, 100_000)
    parts = unpack_specobjid(chosen)
    id_list = read_id_list(np.stack([parts.plate, parts.mjd, parts.fiberid], axis=1))
    start = time.process_time()
    np.sort(ids[np.random.default_rng(2).permutation(len(ids))])
    base = time.process_time() - start
    start = time.process_time()
    expansion = expand(id_list, ids, ANY)
    assert time.process_time() - start < 20 * base + 0.1
    assert expansion.ids.tolist() == chosen.tolist()
