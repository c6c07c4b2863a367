from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specflight.flight.archive import newest
from specflight.tools.chunks import MEAN_CHUNK, Chunk, SourceFile, split
from specflight.tools.simplates import observation

NAMES = st.sets(st.text("abcdef0123456789/-", min_size=1, max_size=30), max_size=200)


def sources(names: set[str]) -> list[SourceFile]:
    return [SourceFile(name, 1, 1) for name in sorted(names)]


def survey(count: int) -> set[str]:
    seen = (observation(number) for number in range(count))
    return {f"/sas/{where.folder}/{where.filename}" for where in seen}


@given(NAMES)
def test_chunks_hold_every_file_once_and_in_order(names: set[str]) -> None:
    chunks = list(split(sources(names)))
    assert [file for chunk in chunks for file in chunk] == sources(names)
    assert all(chunks)


@given(st.sets(st.integers(0, 9999), min_size=1, max_size=250), st.data())
def test_one_more_file_changes_one_chunk_or_cuts_it_in_two(numbers: set[int], data: st.DataObject) -> None:
    names = {f"/sas/spec-4055-55359-{number:04d}.fits" for number in numbers}
    extra = data.draw(st.sampled_from(sorted(names)))
    before, after = (set(split(sources(chosen))) for chosen in (names - {extra}, names))
    assert len(before - after) <= 1
    assert 1 <= len(after - before) <= 2


@pytest.mark.parametrize("count", [500, 3000, 20_000])
def test_chunks_of_a_survey_are_neither_many_nor_large(count: int) -> None:
    sizes = Counter(len(chunk) for chunk in split(sources(survey(count))))
    chunks = sum(sizes.values())
    assert count / MEAN_CHUNK / 2 <= chunks <= count / 16
    assert max(sizes) < 8 * count / chunks


def test_a_chunk_is_known_by_names_sizes_and_times_of_its_files() -> None:
    file = SourceFile("/sas/spec.fits", 100, 5)
    others = [SourceFile("/sas/spec2.fits", 100, 5), SourceFile(file.path, 101, 5), SourceFile(file.path, 100, 6)]
    keys = [Chunk(Path("data"), "sdss_dr17", (one,)).key for one in (file, file, *others)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def table(rows: list[tuple[int, float, int, str]]) -> pa.Table:
    kinds = {"specobjid": pa.uint64(), "reduced": pa.float64(), "mtime_ns": pa.int64(), "file": pa.string()}
    columns = list(zip(*rows, strict=True)) or [()] * 4
    return pa.table([pa.array(c, k) for c, k in zip(columns, kinds.values(), strict=True)], names=list(kinds))


IDS = st.sampled_from([0, 1, 2**53 + 1, 2**63, 2**64 - 1])
ROWS = st.tuples(IDS, st.sampled_from([0.0, 1.5e9, 1.6e9]), st.integers(0, 2), st.sampled_from("abcdé"))


@given(st.lists(ROWS, unique=True))
def test_the_newest_is_the_last_by_reduction_then_time_then_name(rows: list[tuple[int, float, int, str]]) -> None:
    best = {row[0]: row for row in sorted(rows)}
    assert [rows[i] for i in newest(table(rows)).tolist()] == [best[key] for key in sorted(best)]
