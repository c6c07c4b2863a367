"""Streamed answers, answers that are kept, and parts of them, over real connections."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from specflight.errors import DamagedData
from specflight.http.conditional import MAX_AGE, etag_of, kept
from specflight.http.streamed import Streamed

CONTENT = bytes(range(256)) * 3
PIECE = b"\x01" * 100_000


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class Source:
    """Pieces of a body; remembers what became of it."""

    def __init__(self, count: int, fails: bool) -> None:
        self.count, self.fails, self.given = count, fails, 0
        self.closed = threading.Event()

    def pieces(self) -> Iterator[bytes]:
        while self.given < self.count:
            self.given += 1
            yield PIECE
        if self.fails:
            raise DamagedData("spectrum 42 cannot be read")


@contextmanager
def streaming(source: Source, length: int | None = None) -> Iterator[str]:
    def endpoint(request: Request) -> Response:
        return Streamed(source.pieces(), "application/x-pieces", source.closed.set, length)

    with serving(Starlette(routes=[Route("/", endpoint)])) as url:
        yield url


def test_a_body_whose_length_is_known_says_so_and_its_source_is_closed() -> None:
    source = Source(5, fails=False)
    with streaming(source, 5 * len(PIECE)) as url:
        answer = httpx.get(url)
        assert answer.content == 5 * PIECE
        assert answer.headers["content-length"] == str(5 * len(PIECE))
        assert answer.headers["content-type"] == "application/x-pieces"
        assert source.closed.wait(5)


@pytest.mark.parametrize("length", [None, 6 * len(PIECE)])
def test_damage_in_the_middle_does_not_look_like_the_whole(
    length: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(5, fails=True)
    with caplog.at_level(logging.ERROR), streaming(source, length) as url:
        with pytest.raises(httpx.RemoteProtocolError, match=r"complete"):
            httpx.get(url)
        assert source.closed.wait(5)
    assert "/ broke off: spectrum 42 cannot be read" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_caller_who_hangs_up_ends_the_source() -> None:
    source = Source(1_000_000, fails=False)
    with streaming(source) as url:
        with httpx.stream("GET", url) as answer:
            next(answer.iter_raw())
        assert source.closed.wait(5)
        given_then = source.given
    assert source.given == given_then < source.count


def test_a_caller_who_takes_nothing_is_waited_for_without_storing_up() -> None:
    source = Source(1_000_000, fails=False)
    with streaming(source) as url, httpx.stream("GET", url) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        assert not source.closed.wait(0.5)
        assert 0 < source.given < 500, "it reads on though nobody takes what it reads"


@pytest.fixture(scope="module")
def keeping() -> Iterator[httpx.Client]:
    def endpoint(request: Request) -> Response:
        in_parts = request.url.path == "/parts"
        return kept(request, CONTENT, "application/x-kept", {"X-More": "1"}, in_parts=in_parts)

    routes = [Route(path, endpoint, methods=["GET", "POST"]) for path in ("/whole", "/parts")]
    with serving(Starlette(routes=routes)) as url, httpx.Client(base_url=url) as client:
        yield client


def test_what_is_kept_has_a_tag_of_its_content_and_an_age(keeping: httpx.Client) -> None:
    answer = keeping.get("/whole")
    assert (answer.status_code, answer.content, answer.headers["x-more"]) == (200, CONTENT, "1")
    assert answer.headers["etag"] == etag_of(CONTENT) != etag_of(CONTENT[1:])
    assert answer.headers["cache-control"] == f"max-age={MAX_AGE}"
    assert "accept-ranges" not in answer.headers
    assert keeping.get("/parts").headers["accept-ranges"] == "bytes"


def test_a_caller_who_has_it_gets_304_without_a_body(keeping: httpx.Client) -> None:
    tag = etag_of(CONTENT)
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = keeping.get("/whole", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert keeping.get("/whole", headers={"If-None-Match": '"other"'}).content == CONTENT


def test_a_post_is_never_answered_from_what_is_kept(keeping: httpx.Client) -> None:
    answer = keeping.post("/parts", headers={"If-None-Match": "*", "Range": "bytes=0-1"})
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert "etag" not in answer.headers


@given(st.integers(0, 767), st.integers(0, 2000))
def test_a_range_is_the_bytes_that_it_names(keeping: httpx.Client, first: int, more: int) -> None:
    answer = keeping.get("/parts", headers={"Range": f"bytes={first}-{first + more}"})
    last = min(first + more, len(CONTENT) - 1)
    assert (answer.status_code, answer.content) == (206, CONTENT[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(CONTENT)}"
    assert answer.headers["etag"] == etag_of(CONTENT)


@pytest.mark.parametrize(("asked", "expected"), [("700-", CONTENT[700:]), ("-5", CONTENT[-5:]), ("-9999", CONTENT)])
def test_a_range_may_be_open(keeping: httpx.Client, asked: str, expected: bytes) -> None:
    answer = keeping.get("/parts", headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.content) == (206, expected)


@pytest.mark.parametrize("asked", ["768-", "768-800", "-0", "99999999999-"])
def test_a_range_behind_the_end_is_416(keeping: httpx.Client, asked: str) -> None:
    answer = keeping.get("/parts", headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")
    assert asked in answer.text


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "bytes=-", "bytes=5-3", "lines=0-1", "bytes=a-b", "0-1"])
def test_what_is_no_single_range_gives_the_whole(keeping: httpx.Client, asked: str) -> None:
    answer = keeping.get("/parts", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_a_part_of_another_version_is_the_whole(keeping: httpx.Client) -> None:
    fitting = {"Range": "bytes=0-1", "If-Range": etag_of(CONTENT)}
    assert keeping.get("/parts", headers=fitting).status_code == 206
    assert keeping.get("/parts", headers=fitting | {"If-Range": '"older"'}).status_code == 200
    assert keeping.get("/whole", headers=fitting).status_code == 200
