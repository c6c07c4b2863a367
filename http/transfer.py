"""Routes on which the users' files themselves travel, in pieces: signed URLs for the old client, and plain paths."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Literal
from urllib.parse import quote

import anyio
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from specflight.errors import InvalidRequest, ServiceUnavailable
from specflight.http.conditional import not_within, part_of
from specflight.http.endpoints import ERRORS, token_of
from specflight.http.state import State
from specflight.http.storage import NODE, described, opened
from specflight.http.streamed import Streamed
from specflight.http.vos import CHUNK, Storage

__all__ = ["router"]

BYTES = "application/octet-stream"
_BINARY = {BYTES: {"schema": {"type": "string", "format": "binary"}}}

router = APIRouter()
"""Routes ``/storage/transfer/{signature}`` and ``/storage/files/{path}``."""


def _parameter(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


_Responses = dict[int | str, dict[str, Any]]
_REFUSED: _Responses = {
    status: {"description": text, "content": {"text/plain": {"schema": {"type": "string"}}}}
    for status, text in ERRORS.items()
}
_DOWNLOAD: _Responses = _REFUSED | {
    200: {"description": "the file", "content": _BINARY},
    206: {"description": "the part of it that the header Range asks for", "content": _BINARY},
    416: {"description": "there is no such part", "content": {"text/plain": {"schema": {"type": "string"}}}},
}
_READ: _Responses = _DOWNLOAD | {
    200: {
        "description": "the file, or what is in the folder",
        "content": _BINARY | {"application/json": {"schema": {"type": "array", "items": NODE}}},
    }
}
_HEAD: _Responses = {status: {"description": about["description"]} for status, about in _DOWNLOAD.items()}
_UPLOAD: _Responses = _REFUSED | {
    200: {"description": "another file was replaced", "content": {"application/json": {"schema": NODE}}},
    201: {"description": "the file is there", "content": {"application/json": {"schema": NODE}}},
}
_BODY = {"requestBody": {"content": _BINARY}}
_SIGNED = {"parameters": [_parameter("signature", "as `/storage/get` and `/storage/put` give it")]}
_NAMED = {"parameters": [_parameter("path", "`path` of a file of yours, or `USER://public/path`")]}


def _signed(request: Request, direction: Literal["get", "put"]) -> tuple[Storage, str, str]:
    state: State = request.app.state.specflight
    caller, uri = opened(request.path_params["signature"], direction, state)
    return state.storage, caller, uri


async def _named(request: Request) -> tuple[Storage, str, str]:
    state: State = request.app.state.specflight
    caller, _ = await run_in_threadpool(state.admit, token_of(request))
    return state.storage, caller.name, request.path_params["path"]


@router.get("/storage/transfer/{signature}", response_class=Response, responses=_DOWNLOAD, openapi_extra=_SIGNED)
async def download(request: Request) -> Response:
    """Fetch a file from a URL that ``/storage/get`` gave."""
    return await _download(request, *_signed(request, "get"))


@router.head("/storage/transfer/{signature}", response_class=Response, responses=_HEAD, openapi_extra=_SIGNED)
async def download_head(request: Request) -> Response:
    """Say how long a file is."""
    return await _download(request, *_signed(request, "get"))


@router.put(
    "/storage/transfer/{signature}",
    status_code=201,
    response_class=Response,
    responses=_UPLOAD,
    openapi_extra=_SIGNED | _BODY,
)
async def upload(request: Request) -> Response:
    """Send a file to a URL that ``/storage/put`` gave."""
    return await _upload(request, *_signed(request, "put"))


@router.get("/storage/files/{path:path}", response_class=Response, responses=_READ, openapi_extra=_NAMED)
async def read(request: Request) -> Response:
    """Fetch a file, or list a folder as JSON."""
    storage, caller, uri = await _named(request)
    if await run_in_threadpool(storage.is_folder, caller, uri):
        nodes = await run_in_threadpool(storage.list, caller, uri)
        return JSONResponse([described(node) for node in nodes])
    return await _download(request, storage, caller, uri)


@router.head("/storage/files/{path:path}", response_class=Response, responses=_HEAD, openapi_extra=_NAMED)
async def read_head(request: Request) -> Response:
    """Say how long a file is."""
    return await _download(request, *await _named(request))


@router.put(
    "/storage/files/{path:path}",
    status_code=201,
    response_class=Response,
    responses=_UPLOAD,
    openapi_extra=_NAMED | _BODY,
)
async def write(request: Request) -> Response:
    """Store a file; folders on the way to it are made."""
    return await _upload(request, *await _named(request))


@router.delete(
    "/storage/files/{path:path}",
    status_code=204,
    response_class=Response,
    responses=_REFUSED,
    openapi_extra=_NAMED,
)
async def remove(request: Request) -> Response:
    """Remove a file, or an empty folder."""
    storage, caller, uri = await _named(request)
    is_folder = await run_in_threadpool(storage.is_folder, caller, uri)
    await run_in_threadpool(storage.remove_folder if is_folder else storage.remove, caller, uri)
    return Response(status_code=204)


async def _download(request: Request, storage: Storage, caller: str, uri: str) -> Response:
    size, file = await run_in_threadpool(storage.open, caller, uri)
    # What users store is never shown as a page of this service.
    headers = {
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "content-disposition": f"attachment; filename*=UTF-8''{quote(uri.rpartition('/')[2], safe='')}",
        "x-content-type-options": "nosniff",
    }
    part = part_of(request.headers, size)
    start, end = part or (0, size)
    is_head, none = request.method == "HEAD", part is not None and start == end
    if is_head or none:
        await run_in_threadpool(file.close)
        if is_head:
            return Response(headers=headers | {"content-length": str(size)}, media_type=BYTES)
        return not_within(request.headers, size)
    answer = Streamed(_pieces(file, start, end), BYTES, file.close, end - start)
    answer.headers.update(headers)
    if part:
        answer.status_code = 206
        answer.headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    return answer


def _pieces(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    while start < end:
        piece = file.read(min(CHUNK, end - start))
        if not piece:
            raise ServiceUnavailable(f"storage: a file lost its bytes from {start} on while it was sent")
        start += len(piece)
        yield piece


async def _upload(request: Request, storage: Storage, caller: str, uri: str) -> Response:
    told = request.headers.get("content-length", "")
    is_new = not await run_in_threadpool(storage.exists, caller, uri)
    try:
        await _store(request, storage.write(caller, uri, int(told) if told.isdecimal() else 0))
    except ClientDisconnect:
        raise InvalidRequest("body: the connection ended before the file did") from None
    node = await run_in_threadpool(storage.stat, caller, uri)
    return JSONResponse(described(node), 201 if is_new else 200)


async def _store(request: Request, writing: AbstractContextManager[BinaryIO]) -> None:
    """Write what comes; whatever ends it, the block of `writing` is left."""
    file = await run_in_threadpool(writing.__enter__)
    try:
        async for piece in _gathered(request):
            await run_in_threadpool(file.write, piece)
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(writing.__exit__, type(error), error, error.__traceback__)
        raise
    await run_in_threadpool(writing.__exit__, None, None, None)


async def _gathered(request: Request) -> AsyncIterator[bytearray]:
    """Pieces of a body worth a thread's while."""
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) >= CHUNK:
            yield held
            held = bytearray()
    yield held
