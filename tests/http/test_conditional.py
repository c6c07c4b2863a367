"""Answers that callers may keep, and parts of them: original files and arrays of a running service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from webspectra import CONTEXT, Truth

from specflight.http.conditional import MAX_AGE, etag_of


@dataclass(frozen=True, slots=True)
class File:
    """The original file of a spectrum, and an array of it."""

    web: httpx.Client
    specobjid: int
    path: Path
    content: bytes

    def get(self, kind: str = "fits", **headers: str) -> httpx.Response:
        asked = {"id": str(self.specobjid), "context": CONTEXT, "format": kind}
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.web.get("/getSpec", params=asked, headers=told)


@pytest.fixture(scope="module")
def file(web: httpx.Client, sim_truth: Truth) -> File:
    specobjid, path = next(iter(sim_truth[CONTEXT].items()))
    return File(web, specobjid, path, path.read_bytes())


@pytest.fixture(scope="module")
def size(file: File) -> int:
    return len(file.content)


def test_what_is_kept_has_a_tag_of_its_content_and_an_age(file: File) -> None:
    answer = file.get()
    assert (answer.status_code, answer.content) == (200, file.content)
    assert answer.headers["etag"] == etag_of(file.content) != etag_of(file.content[1:])
    assert answer.headers["cache-control"] == f"max-age={MAX_AGE}"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == f'attachment; filename="{file.path.name}"'
    array = file.get("npy")
    assert array.headers["etag"] == etag_of(array.content)
    assert "accept-ranges" not in array.headers


def test_a_caller_who_has_it_gets_304_without_a_body(file: File) -> None:
    tag = etag_of(file.content)
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = file.get(If_None_Match=known)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert file.get(If_None_Match='"other"').content == file.content


def test_a_post_is_never_answered_from_what_is_kept(file: File) -> None:
    asked = {"id": str(file.specobjid), "context": CONTEXT, "format": "fits"}
    answer = file.web.post("/getSpec", data=asked, headers={"If-None-Match": "*", "Range": "bytes=0-1"})
    assert (answer.status_code, answer.content) == (200, file.content)
    assert "etag" not in answer.headers


@given(share=st.floats(0, 1, exclude_max=True), more=st.integers(0, 200_000))
def test_a_range_is_the_bytes_that_it_names(file: File, size: int, share: float, more: int) -> None:
    first = int(share * size)
    last = min(first + more, size - 1)
    answer = file.get(Range=f"bytes={first}-{first + more}")
    assert (answer.status_code, answer.content) == (206, file.content[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
    assert answer.headers["etag"] == etag_of(file.content)


def test_a_range_may_be_open(file: File, size: int) -> None:
    for asked, expected in (("700-", file.content[700:]), ("-5", file.content[-5:]), (f"-{size + 9}", file.content)):
        answer = file.get(Range=f"bytes={asked}")
        assert (answer.status_code, answer.content) == (206, expected)


def test_a_range_behind_the_end_is_416(file: File, size: int) -> None:
    for asked in (f"{size}-", f"{size}-{size + 32}", "-0", "99999999999-"):
        answer = file.get(Range=f"bytes={asked}")
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}")
        assert asked in answer.text


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "bytes=-", "bytes=5-3", "lines=0-1", "bytes=a-b", "0-1"])
def test_what_is_no_single_range_gives_the_whole(file: File, asked: str) -> None:
    answer = file.get(Range=asked)
    assert (answer.status_code, answer.content) == (200, file.content)


def test_a_part_of_another_version_is_the_whole(file: File) -> None:
    tag = etag_of(file.content)
    assert file.get(Range="bytes=0-1", If_Range=tag).status_code == 206
    assert file.get(Range="bytes=0-1", If_Range='"older"').status_code == 200
    assert file.get("npy", Range="bytes=0-1").status_code == 200
