"""Endpoints of the users' files: the storage interface of NOIRLab's Data Lab, and plain GET, PUT and DELETE.

What the old client sends and expects back was read from its source, ``dl.storeClient`` of astro-datalab 2.24.0.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Literal

from itsdangerous import BadSignature, URLSafeTimedSerializer
from pydantic import Field
from starlette.responses import JSONResponse, PlainTextResponse, Response

import specflight
from specflight.errors import Forbidden, InvalidRequest, NotFound, Unauthenticated
from specflight.http.endpoints import Call, Endpoint
from specflight.http.parameters import Parameters
from specflight.http.state import State
from specflight.http.vos import Node
from specflight.http.vosnames import shown

__all__ = ["ENDPOINTS", "NODE", "described", "opened"]

_TEXT = {"text/plain": {"type": "string"}}
NODE: dict[str, Any] = {
    "type": "object",
    "required": ["name", "owner", "type", "size", "perms", "publicread", "modified"],
    "properties": {
        "name": {"type": "string", "description": "without folders; `/` for a user's own folder"},
        "owner": {"type": "string"},
        "type": {"type": "string", "enum": ["container", "data"]},
        "size": {"type": "integer", "description": "bytes"},
        "perms": {"type": "string", "description": "as `ls -l` shows them"},
        "publicread": {"type": "integer", "enum": [0, 1]},
        "modified": {"type": ["string", "null"], "description": "ISO 8601, in UTC"},
    },
}
"""JSON schema of `described`."""


class Name(Parameters):
    """One file or folder."""

    name: str = Field(description="file or folder: `vos://path`, or `USER://public/path` of another user")


class AccessParameters(Name):
    """What one wants to do with it."""

    mode: Literal["", "r", "w", "rw"] = Field("", description="whether it can be read, written, both; or is there")


class ListParameters(Parameters):
    """A folder to be listed."""

    name: str = Field("vos://", description="file or folder; your own folder when not given")
    format: Literal["csv", "raw", "long", "json"] = Field(
        "csv", description="names between commas; a name a line; lines as `ls -l` has them; JSON"
    )


class Folder(Parameters):
    """One folder."""

    dir: str = Field(description="folder, `vos://path`")


class File(Parameters):
    """One file."""

    file: str = Field(description="file, `vos://path`")


class FromTo(Parameters):
    """Two files or folders."""

    source: str = Field(alias="from", description="file or folder, `vos://path`")
    to: str = Field(description="its new name; a folder that it goes into; or one that is made, with `/` at the end")


class Tag(Name):
    """A file and a word for it."""

    tag: str = Field(description="word")


class Load(Name):
    """A file and an address."""

    endpoint: str = Field(description="address")
    is_vospace: str = Field("", description="whether the address is of such a service as well")


def hello(parameters: Parameters, call: Call) -> Response:
    """Say that the service is there."""
    return PlainTextResponse(f"Hello World from the storage of specflight {specflight.__version__}\n")


def access(parameters: AccessParameters, call: Call) -> Response:
    """Say whether a file can be read or written: True or False."""
    try:
        node = call.state.storage.stat(call.caller.name, parameters.name)
    except (NotFound, Forbidden, Unauthenticated):
        return PlainTextResponse("False")
    return PlainTextResponse(str("w" not in parameters.mode or node.owner == call.caller.name))


def isdir(parameters: Name, call: Call) -> Response:
    """Say whether a name is of a folder: True or False."""
    return PlainTextResponse(str(call.state.storage.is_folder(call.caller.name, parameters.name)))


def stat(parameters: Name, call: Call) -> Response:
    """Tell about a file or folder."""
    return JSONResponse(described(call.state.storage.stat(call.caller.name, parameters.name)))


def get(parameters: Name, call: Call) -> Response:
    """Give a URL from which a file can be fetched, without a token, for a few minutes."""
    node = call.state.storage.stat(call.caller.name, parameters.name)
    if node.is_folder:
        raise InvalidRequest(f"name: {shown(parameters.name)} is a folder")
    return _url("get", parameters.name, call)


def put(parameters: Name, call: Call) -> Response:
    """Give a URL to which a file can be sent with PUT, without a token, for a few minutes."""
    call.state.storage.check_target(call.caller.name, parameters.name)
    return _url("put", parameters.name, call)


def ls(parameters: ListParameters, call: Call) -> Response:
    """List a folder."""
    nodes = call.state.storage.list(call.caller.name, parameters.name)
    if parameters.format == "json":
        return JSONResponse([described(node) for node in nodes])
    lines = [_line(node) if parameters.format == "long" else node.name for node in nodes]
    return PlainTextResponse(("," if parameters.format == "csv" else "\n").join(lines))


def mkdir(parameters: Folder, call: Call) -> Response:
    """Make a folder, and those on the way to it."""
    call.state.storage.make_folder(call.caller.name, parameters.dir)
    return PlainTextResponse("OK", 201)


def rm(parameters: File, call: Call) -> Response:
    """Remove a file."""
    call.state.storage.remove(call.caller.name, parameters.file)
    return Response(status_code=204)


def rmdir(parameters: Folder, call: Call) -> Response:
    """Remove an empty folder."""
    call.state.storage.remove_folder(call.caller.name, parameters.dir)
    return Response(status_code=204)


def mv(parameters: FromTo, call: Call) -> Response:
    """Move or rename a file or folder; a file of that name is replaced."""
    call.state.storage.move(call.caller.name, parameters.source, parameters.to)
    return PlainTextResponse("COMPLETED")


def cp(parameters: FromTo, call: Call) -> Response:
    """Copy a file, your own or a public one; a file of that name is replaced."""
    call.state.storage.copy(call.caller.name, parameters.source, parameters.to)
    return PlainTextResponse("COMPLETED")


def ln(parameters: FromTo, call: Call) -> Response:
    """Refuse to make a link: there are none here."""
    raise InvalidRequest(f"ln: there are no links here: copy {shown(parameters.source)} with cp")


def tag(parameters: Tag, call: Call) -> Response:
    """Refuse to tag a file: there are no tags here."""
    raise InvalidRequest(f"tag: there are no tags here, such as {shown(parameters.tag)}: put it into the name")


def load(parameters: Load, call: Call) -> Response:
    """Refuse to fetch a file from elsewhere, which could be a place that only this service may reach."""
    raise InvalidRequest(f"endpoint: {shown(parameters.endpoint)} is not fetched by this service: get it, then put it")


def described(node: Node) -> dict[str, object]:
    """What JSON says of a file or folder, in the words of the Data Lab."""
    return {
        "name": node.name,
        "owner": node.owner,
        "type": "container" if node.is_folder else "data",
        "size": node.size,
        "perms": _permissions(node),
        "publicread": int(node.is_public),
        "groupread": "",
        "groupwrite": "",
        "target": "",
        "modified": node.modified and node.modified.isoformat(timespec="seconds"),
    }


def opened(signature: str, direction: Literal["get", "put"], state: State) -> tuple[str, str]:
    """Caller and name of the file that a signed URL was given out for.

    Raises
    ------
    Unauthenticated
        If it was not given out by this service, too long ago, or for the other direction.
    """
    seconds = math.ceil(state.settings.storage_url_seconds)
    try:
        kind, caller, name = _serializer(state).loads(signature, max_age=seconds)
    except BadSignature:
        kind = ""
    if kind != direction:
        raise Unauthenticated(f"signature: {shown(signature)} is not of a URL for {direction} of the last {seconds} s")
    return caller, name


def _serializer(state: State) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(state.secret, "specflight.storage", signer_kwargs={"digest_method": hashlib.sha256})


def _url(direction: Literal["get", "put"], name: str, call: Call) -> Response:
    signature = _serializer(call.state).dumps([direction, call.caller.name, name])
    # The old client takes the text for a URL as it stands, so there is no line end.
    return PlainTextResponse(f"{call.request.base_url}storage/transfer/{signature}")


def _permissions(node: Node) -> str:
    if node.is_folder:
        return "drwxr-xr-x" if node.is_public else "drwx------"
    return "-rw-r--r--" if node.is_public else "-rw-------"


def _line(node: Node) -> str:
    when = f"{node.modified:%Y-%m-%d %H:%M}" if node.modified else ""
    return f"{_permissions(node)}  {node.owner:<12} {node.size:>12}  {when:16}  {node.name}"


ENDPOINTS = (
    Endpoint("/storage", hello, Parameters, _TEXT, ("GET",)),
    Endpoint("/storage/access", access, AccessParameters, _TEXT),
    Endpoint("/storage/isdir", isdir, Name, _TEXT),
    Endpoint("/storage/stat", stat, Name, {"application/json": NODE}),
    Endpoint("/storage/get", get, Name, _TEXT),
    Endpoint("/storage/put", put, Name, _TEXT),
    Endpoint("/storage/ls", ls, ListParameters, _TEXT | {"application/json": {"type": "array", "items": NODE}}),
    Endpoint("/storage/mkdir", mkdir, Folder, _TEXT, status=201),
    Endpoint("/storage/rm", rm, File, {}, status=204),
    Endpoint("/storage/rmdir", rmdir, Folder, {}, status=204),
    Endpoint("/storage/mv", mv, FromTo, _TEXT),
    Endpoint("/storage/cp", cp, FromTo, _TEXT),
    Endpoint("/storage/ln", ln, FromTo, _TEXT),
    Endpoint("/storage/tag", tag, Tag, _TEXT),
    Endpoint("/storage/load", load, Load, _TEXT),
)
