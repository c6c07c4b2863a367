"""What becomes of the source of a streamed body; what is sent is seen in test_spectra.py and test_spectrafiles.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from starlette.types import Message

from specflight.errors import DamagedData
from specflight.http.streamed import Streamed

PIECE = b"\x01" * 100_000


class Source:
    """Pieces of a body; remembers what became of it."""

    def __init__(self, count: int, fails: bool = False) -> None:
        self.count, self.fails = count, fails
        self.given = self.closed = 0

    def pieces(self) -> Iterator[bytes]:
        while self.given < self.count:
            self.given += 1
            yield PIECE
        if self.fails:
            raise DamagedData("spectrum 42 cannot be read")

    def close(self) -> None:
        self.closed += 1


def sent(source: Source, length: int | None = None, taken: int = 1_000_000) -> list[Message]:
    """What goes to a caller who hangs up when so many messages have come, as uvicorn tells it."""
    messages: list[Message] = []

    async def run() -> None:
        gone = asyncio.Event()

        async def send(message: Message) -> None:
            messages.append(message)
            if len(messages) == taken:
                gone.set()
            await asyncio.sleep(0)

        async def receive() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        answer = Streamed(source.pieces(), "application/x-pieces", source.close, length)
        await answer({"type": "http", "path": "/x", "asgi": {"spec_version": "2.3"}}, receive, send)

    asyncio.run(run())
    return messages


@pytest.mark.parametrize("length", [None, 5 * len(PIECE)])
def test_a_body_is_sent_with_its_length_if_that_is_known_and_its_source_closed(length: int | None) -> None:
    source = Source(5)
    start, *pieces, end = sent(source, length)
    told = dict(start["headers"])
    assert told[b"content-type"] == b"application/x-pieces"
    assert told.get(b"content-length") == (None if length is None else b"500000")
    assert b"".join(piece["body"] for piece in pieces) == 5 * PIECE
    assert (end["body"], end["more_body"]) == (b"", False)
    assert source.closed == 1


def test_damage_in_the_middle_leaves_the_body_without_an_end(caplog: pytest.LogCaptureFixture) -> None:
    source = Source(5, fails=True)
    with caplog.at_level(logging.ERROR):
        _, *pieces = sent(source)
    assert [piece["more_body"] for piece in pieces] == [True] * 5
    assert source.closed == 1
    assert "/x broke off: spectrum 42 cannot be read" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_caller_who_hangs_up_ends_the_source() -> None:
    source = Source(1_000_000)
    sent(source, taken=3)
    assert source.closed == 1
    assert 2 <= source.given < 10
