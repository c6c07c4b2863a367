"""Answers that callers may keep, ask for again only if they changed, or fetch in parts (RFC 9110, RFC 9111)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

__all__ = ["CHANGED_ONLY", "IN_PARTS", "MAX_AGE", "etag_of", "kept", "not_within", "part_of"]

CHANGED_ONLY = {304: "the caller has it already, as the header If-None-Match says"}
IN_PARTS = CHANGED_ONLY | {206: "the part that the header Range asks for", 416: "there is no such part"}
"""Statuses of answers that `kept` gives beside 200, for the documentation."""

MAX_AGE = 300
"""Seconds that an answer may be used without asking again: a spectrum that is ingested anew has another one."""

_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")


def etag_of(content: bytes | memoryview) -> str:
    """Strong entity tag: the same for the same bytes."""
    return f'"{blake2b(content, digest_size=16).hexdigest()}"'


def kept(
    request: Request,
    content: bytes | memoryview,
    media_type: str,
    headers: Mapping[str, str] | None = None,
    in_parts: bool = False,
) -> Response:
    """Answer with a small content that rarely changes.

    Parameters
    ----------
    request : Request
        Only one with GET may be answered from a cache.
    content : bytes or memoryview
    media_type : str
    headers : mapping or None
        More headers.
    in_parts : bool
        Whether a range of the bytes may be asked for.

    Returns
    -------
    Response
        200; 304 if the caller has it; 206 with a part of it, or 416 if there is no such part.
    """
    more = dict(headers or {})
    if request.method != "GET":
        return Response(content, media_type=media_type, headers=more)
    tag = etag_of(content)
    more |= {"ETag": tag, "Cache-Control": f"max-age={MAX_AGE}"}
    if _has(request.headers, tag):
        return Response(status_code=304, headers=more)
    if not in_parts:
        return Response(content, media_type=media_type, headers=more)
    more["Accept-Ranges"] = "bytes"
    size = len(content)
    match part_of(request.headers, size, tag):
        case None:
            return Response(content, media_type=media_type, headers=more)
        case (start, end) if start < end:
            more["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            return Response(memoryview(content)[start:end], 206, more, media_type)
        case _:
            return not_within(request.headers, size)


def not_within(headers: Headers, size: int) -> Response:
    """Refusal of a range that a content of some bytes has nothing of."""
    text = f"Error: Range: '{headers['range']}' is not within the {size} bytes"
    return PlainTextResponse(text, 416, {"Content-Range": f"bytes */{size}"})


def _has(headers: Headers, tag: str) -> bool:
    known = [word.strip().removeprefix("W/") for word in headers.get("if-none-match", "").split(",")]
    return tag in known or "*" in known


def part_of(headers: Headers, size: int, tag: str = "") -> tuple[int, int] | None:
    """Range of a content of some bytes that a request asks for.

    Parameters
    ----------
    headers : Headers
        Of the request.
    size : int
    tag : str
        Entity tag of the content; empty where none is given out.

    Returns
    -------
    (start, end) or None
        First byte and the one behind the last; equal if there are none. None for all of it.
    """
    found = _RANGE.fullmatch(headers.get("range", ""))
    # Several ranges, and what is none, are answered with the whole; so is a part of another version.
    if found is None or not (found[1] or found[2]) or headers.get("if-range", tag) != tag:
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    start, last = int(found[1]), int(found[2] or size)
    if found[2] and last < start:
        return None
    return min(start, size), min(last + 1, size)
