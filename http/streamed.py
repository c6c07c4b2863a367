"""Answers that are sent while they arrive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from specflight.errors import SpecflightError

__all__ = ["Streamed"]

log = logging.getLogger(__name__)


class Streamed(StreamingResponse):
    """A body that is read in threads, chunk by chunk, as the caller takes it; never whole in memory.

    Whatever ends it, its source is closed. An error in the middle breaks the connection off, so that nobody takes what
    was sent for the whole.

    Parameters
    ----------
    chunks : iterator of bytes or memoryview
    media_type : str
    close : callable
        Lets go of what the chunks come from.
    length : int or None
        Bytes in all, if that is known.
    """

    def __init__(
        self,
        chunks: Iterator[bytes | memoryview],
        media_type: str,
        close: Callable[[], None],
        length: int | None = None,
    ) -> None:
        headers = {} if length is None else {"content-length": str(length)}
        super().__init__(chunks, headers=headers, media_type=media_type)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.responses.StreamingResponse`."""
        try:
            await super().__call__(scope, receive, send)
        except SpecflightError as error:
            # Without the end of its body an answer counts as broken: the server closes the connection.
            log.error("%s broke off: %s", scope["path"], error)
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._close)
