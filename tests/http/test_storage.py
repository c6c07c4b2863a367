from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import psutil
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from vosfiles import tree_of

from specflight.client import Client
from specflight.errors import SpecflightError, Unauthenticated
from specflight.http.endpoints import add_endpoints
from specflight.http.parameters import MissingParameter
from specflight.http.state import Caller
from specflight.http.storage import ENDPOINTS
from specflight.http.transfer import router
from specflight.http.vos import Storage

MB = 1 << 20
QUOTA, MAX_FILE = 64 * MB, 40 * MB
TOKENS = {name: f"{name}.1.1.$1$0123456789abcdefghijkl" for name in ("alice", "bob")}


@dataclass
class Service:
    """The storage endpoints of a running server."""

    url: str
    folder: Path
    state: Any
    web: httpx.Client

    def ask(self, path: str, user: str = "alice", method: str = "GET", **parameters: str) -> httpx.Response:
        """Answer to a request as the old client sends it."""
        headers = {"X-DL-AuthToken": TOKENS.get(user, "anonymous.0.0.anon_access")}
        query = parameters if method == "GET" else None
        body = parameters if method == "POST" else None
        return self.web.request(method, f"{self.url}/storage{path}", params=query, data=body, headers=headers)

    def file(
        self,
        method: str,
        path: str,
        user: str = "alice",
        content: bytes | Iterator[bytes] | None = None,
        **headers: str,
    ) -> httpx.Response:
        """Answer to a request for a file, as curl sends it."""
        token = {"Authorization": f"Bearer {TOKENS[user]}"} if user in TOKENS else {}
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.url}/storage/files/{path}"
        return self.web.request(method, url, headers=token | told, content=content)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, SpecflightError)
    text = f"Param Error: '{error}'" if isinstance(error, MissingParameter) else f"Error: {error}"
    return PlainTextResponse(text, error.http_status)


def _admit(token: str) -> tuple[Caller, tuple[Client, ...]]:
    user = token.partition(".")[0]
    if user not in ("", "anonymous") and TOKENS.get(user) != token:
        raise Unauthenticated("token: it is forged")
    return Caller(user or "anonymous"), ()


@contextmanager
def serving(folder: Path) -> Iterator[Service]:
    state = SimpleNamespace(
        settings=SimpleNamespace(max_body=MB, storage_url_seconds=300),
        storage=Storage(str(folder), QUOTA, MAX_FILE),
        secret=b"secret of this test",
        admit=_admit,
    )
    app = FastAPI(exception_handlers={SpecflightError: _refused}, redirect_slashes=False)
    app.state.specflight = state
    add_endpoints(cast(Any, app.router), ENDPOINTS)
    app.include_router(router)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            with httpx.Client(timeout=20) as web:
                yield Service(f"http://127.0.0.1:{listening.getsockname()[1]}", folder, state, web)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("served") / "storage") as service:
        yield service


@pytest.fixture
def service(running: Service, tmp_path: Path) -> Service:
    """A server without any files."""
    running.state.storage = Storage(str(tmp_path / "storage"), QUOTA, MAX_FILE)
    running.state.settings.storage_url_seconds = 300
    return replace(running, folder=tmp_path / "storage")


def send(service: Service, name: str, content: bytes, user: str = "alice") -> httpx.Response:
    """Send a file as the old client does."""
    told = service.ask("/put", user, name=name)
    assert told.status_code == 200, told.text
    return service.web.put(told.text, content=content)


def fetch(service: Service, name: str, user: str = "alice") -> bytes:
    """Fetch a file as the old client does."""
    told = service.ask("/get", user, name=name)
    assert told.status_code == 200, told.text
    answer = service.web.get(told.text)
    assert answer.status_code == 200, answer.text
    return answer.content


def test_the_service_says_hello_in_the_words_that_the_old_client_waits_for(service: Service) -> None:
    assert service.ask("").text.lower().startswith("hello world")


def test_a_file_goes_there_and_back_by_urls_that_need_no_token(service: Service) -> None:
    content = bytes(range(256)) * 1000
    told = service.ask("/put", name="vos://ids/a.bin")
    assert re.fullmatch(rf"{service.url}/storage/transfer/[A-Za-z0-9_.-]+", told.text)
    stored = service.web.put(told.text, content=content)
    assert (stored.status_code, stored.json()["size"]) == (201, len(content))
    assert (service.folder / "alice" / "ids" / "a.bin").read_bytes() == content
    assert fetch(service, "vos://ids/a.bin") == content
    assert service.web.put(told.text, content=b"later").status_code == 200
    assert fetch(service, "ids/a.bin") == b"later"


def test_the_calls_of_the_old_client_are_answered_as_it_expects(service: Service) -> None:
    for name in ("b.csv", "a.csv"):
        send(service, f"vos://{name}", b"123")
    expected: list[tuple[str, dict[str, str], int, str]] = [
        ("/isdir", {"name": "vos://"}, 200, "True"),
        ("/isdir", {"name": "vos://a.csv"}, 200, "False"),
        ("/isdir", {"name": "vos://nothing"}, 200, "False"),
        ("/access", {"name": "vos://a.csv", "mode": "None", "verbose": "True"}, 200, "True"),
        ("/access", {"name": "vos://a.csv", "mode": "rw"}, 200, "True"),
        ("/access", {"name": "vos://nothing", "mode": ""}, 200, "False"),
        ("/ls", {"name": "vos://", "format": "csv", "verbose": "False"}, 200, "a.csv,b.csv,public"),
        ("/ls", {}, 200, "a.csv,b.csv,public"),
        ("/ls", {"name": "vos:///", "format": "raw"}, 200, "a.csv\nb.csv\npublic"),
        ("/mkdir", {"dir": "vos://results"}, 201, "OK"),
        ("/isdir", {"name": "vos://results"}, 200, "True"),
        ("/mv", {"from": "vos://a.csv", "to": "vos://results"}, 200, "COMPLETED"),
        ("/cp", {"from": "vos://results/a.csv", "to": "vos://c.csv"}, 200, "COMPLETED"),
        ("/ls", {"name": "vos://results"}, 200, "a.csv"),
        ("/rmdir", {"dir": "vos://results"}, 400, "Error: name: 'vos://results' is not empty"),
        ("/rm", {"file": "vos://results/a.csv"}, 204, ""),
        ("/rmdir", {"dir": "vos://results"}, 204, ""),
        ("/ls", {"name": "vos://"}, 200, "b.csv,c.csv,public"),
        ("/rm", {"file": "vos://nothing"}, 404, "Error: name: there is no 'vos://nothing'"),
        ("/get", {"name": "vos://nothing"}, 404, "Error: name: there is no 'vos://nothing'"),
        ("/get", {"name": "vos://public"}, 400, "Error: name: 'vos://public' is a folder"),
        ("/put", {"name": "vos://public"}, 400, "Error: name: 'vos://public' is a folder that stays as it is"),
        ("/put", {"name": "vos://b.csv/x"}, 400, "Error: name: 'b.csv' is not a folder"),
        ("/stat", {}, 400, "Param Error: 'name'"),
        ("/cp", {"to": "x"}, 400, "Param Error: 'from'"),
    ]
    for path, parameters, status, text in expected:
        answer = service.ask(path, **parameters)
        assert (path, answer.status_code, answer.text) == (path, status, text)


def test_every_call_takes_post_as_well(service: Service) -> None:
    send(service, "a", b"x")
    assert service.ask("/cp", method="POST", **{"from": "a", "to": "b"}).text == "COMPLETED"
    assert service.ask("/ls", method="POST").text == "a,b,public"


def test_stat_tells_what_old_clients_know_of_a_file(service: Service) -> None:
    send(service, "public/a.csv", b"123")
    told = service.ask("/stat", "bob", name="alice://public/a.csv", verbose="True").json()
    when = told.pop("modified")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", when)
    assert told == {
        "name": "a.csv",
        "owner": "alice",
        "type": "data",
        "size": 3,
        "perms": "-rw-r--r--",
        "publicread": 1,
        "groupread": "",
        "groupwrite": "",
        "target": "",
    }
    top = service.ask("/stat", name="vos://").json()
    assert (top["name"], top["type"], top["perms"], top["publicread"]) == ("/", "container", "drwx------", 0)
    assert service.ask("/stat", name="vos://nothing").status_code == 404


def test_a_long_list_and_one_in_json_tell_sizes(service: Service) -> None:
    send(service, "a.csv", b"123")
    long = service.ask("/ls", format="long").text.split("\n")
    assert re.fullmatch(r"-rw------- +alice +3 +\d{4}-\d\d-\d\d \d\d:\d\d +a\.csv", long[0])
    assert re.fullmatch(r"drwxr-xr-x +alice +0 +public", long[1])
    listed = service.ask("/ls", format="json").json()
    assert [(node["name"], node["type"], node["size"]) for node in listed] == [
        ("a.csv", "data", 3),
        ("public", "container", 0),
    ]
    assert service.ask("/ls", format="xml").status_code == 400


def test_rights_are_statuses(service: Service) -> None:
    send(service, "a", b"x")
    send(service, "public/a", b"x")
    assert service.ask("/get", "bob", name="alice://a").status_code == 403
    assert service.ask("/get", "bob", name="alice://nothing").status_code == 403
    assert service.ask("/put", "bob", name="alice://public/b").status_code == 403
    assert service.ask("/rm", "bob", file="alice://public/a").status_code == 403
    assert service.ask("/ls", "anonymous", name="vos://").status_code == 401
    assert service.ask("/put", "anonymous", name="vos://a").status_code == 401
    assert fetch(service, "alice://public/a", "anonymous") == b"x"
    answers = [
        ("alice", "vos://a", "w", "True"),
        ("bob", "alice://public/a", "r", "True"),
        ("bob", "alice://public/a", "rw", "False"),
        ("bob", "alice://a", "r", "False"),
        ("anonymous", "vos://a", "r", "False"),
        ("anonymous", "alice://public/a", "", "True"),
    ]
    for user, name, mode, answer in answers:
        assert service.ask("/access", user, name=name, mode=mode).text == answer
    assert service.ask("/ls", "anonymous", name="alice://public").text == "a"


def test_a_forged_token_is_refused(service: Service) -> None:
    forged = {"X-DL-AuthToken": TOKENS["alice"][:-1]}
    for url in ("/storage/ls", "/storage/files/a"):
        assert service.web.get(service.url + url, headers=forged).status_code == 401
    assert service.web.put(f"{service.url}/storage/files/a", headers=forged, content=b"x").status_code == 401
    assert not service.folder.exists()


def test_a_url_is_for_one_direction_and_one_file_and_cannot_be_forged(service: Service) -> None:
    send(service, "a", b"x")
    getting, putting = service.ask("/get", name="a").text, service.ask("/put", name="a").text
    assert service.web.put(getting, content=b"changed").status_code == 401
    assert service.web.get(putting).status_code == 401
    assert service.web.head(putting).status_code == 401
    start = getting.rpartition("/")[0]
    other = service.ask("/get", "bob", name="alice://public/nothing").text
    assert other.startswith("Error")
    for signature in ("x", getting.rpartition("/")[2][:-1], "." + getting.rpartition("/")[2], "%00"):
        assert service.web.get(f"{start}/{signature}").status_code == 401
    payload, rest = getting.rpartition("/")[2].split(".", 1)
    changed = payload[:-3] + ("AAA" if payload[-3:] != "AAA" else "BBB")
    assert service.web.get(f"{start}/{changed}.{rest}").status_code == 401
    service.state.secret, kept = b"another secret", service.state.secret
    try:
        assert service.web.get(getting).status_code == 401
    finally:
        service.state.secret = kept
    assert service.web.get(getting).content == b"x"


def test_a_url_lives_for_a_short_time(service: Service) -> None:
    send(service, "a", b"x")
    getting, putting = service.ask("/get", name="a").text, service.ask("/put", name="a").text
    service.state.settings.storage_url_seconds = 0
    time.sleep(1.1)  # signatures hold whole seconds
    for answer in (service.web.get(getting), service.web.put(putting, content=b"changed")):
        assert answer.status_code == 401
        assert "of the last 0 s" in answer.text
    assert (service.folder / "alice" / "a").read_bytes() == b"x"


def test_what_is_not_served_says_so(service: Service) -> None:
    for path, parameters, why in (
        ("/ln", {"from": "vos://a", "to": "vos://b"}, "copy 'vos://a' with cp"),
        ("/tag", {"name": "a", "tag": "word"}, "'word'"),
        ("/load", {"name": "a", "endpoint": "http://127.0.0.1/", "is_vospace": "False"}, "'http://127.0.0.1/'"),
    ):
        answer = service.ask(path, **parameters)
        assert answer.status_code == 400
        assert why in answer.text


def test_plain_requests_store_list_fetch_and_remove(service: Service) -> None:
    first = service.file("PUT", "results/a.csv", content=b"123")
    assert (first.status_code, first.json()["size"], first.json()["name"]) == (201, 3, "a.csv")
    assert service.file("PUT", "results/a.csv", content=b"12345").status_code == 200
    assert service.file("GET", "results/a.csv").content == b"12345"
    assert [node["name"] for node in service.file("GET", "results/").json()] == ["a.csv"]
    assert [node["name"] for node in service.file("GET", "").json()] == ["public", "results"]
    assert service.file("DELETE", "results").status_code == 400
    assert service.file("DELETE", "results/a.csv").status_code == 204
    assert service.file("DELETE", "results").status_code == 204
    assert service.file("GET", "results").status_code == 404
    assert service.file("DELETE", "results").status_code == 404
    service.file("PUT", "public/a", content=b"for all")
    assert service.file("GET", "alice://public/a", "bob").content == b"for all"
    assert service.file("GET", "alice%3A%2F%2Fpublic%2Fa", "anonymous").content == b"for all"
    for method in ("PUT", "DELETE"):
        assert service.file(method, "alice://public/a", "bob").status_code == 403
        assert service.file(method, "public/a", "anonymous").status_code == 401


def test_what_is_fetched_is_never_shown_as_a_page(service: Service) -> None:
    service.file("PUT", "public/été.html", content=b"<script>")
    for answer in (
        service.file("GET", "public/été.html"),
        service.file("HEAD", "public/été.html"),
        service.web.get(service.ask("/get", name="public/été.html").text),
    ):
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%A9t%C3%A9.html"
        assert answer.headers["content-length"] == "8"


@pytest.mark.parametrize(
    ("asked", "status", "content", "told"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=8-30", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=5-3", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
    ],
)
def test_a_part_of_a_file_can_be_fetched(
    service: Service, asked: str, status: int, content: bytes | None, told: str | None
) -> None:
    service.file("PUT", "a", content=b"0123456789")
    for url in (f"{service.url}/storage/files/a", service.ask("/get", name="a").text):
        answer = service.web.get(url, headers={"Range": asked, "X-DL-AuthToken": TOKENS["alice"]})
        assert (answer.status_code, answer.headers.get("content-range")) == (status, told)
        assert content is None or answer.content == content
        assert "'bytes=" in answer.text or content is not None
    assert service.file("GET", "a", Range=asked, If_Range='"x"').content == b"0123456789"


def test_an_empty_file_is_a_file(service: Service) -> None:
    assert send(service, "a", b"").status_code == 201
    assert fetch(service, "a") == b""
    assert service.file("PUT", "b", content=b"").status_code == 201
    assert service.file("GET", "b", Range="bytes=0-").status_code == 416


def chunks(count: int) -> Iterator[bytes]:
    piece = bytes(range(256)) * (MB // 256)
    for _ in range(count):
        yield piece


def test_large_files_pass_through_in_little_memory(service: Service) -> None:
    before = psutil.Process().memory_info().rss
    grown = []
    assert service.file("PUT", "large", content=chunks(32)).status_code == 201
    grown.append(psutil.Process().memory_info().rss - before)
    with service.web.stream("GET", service.ask("/get", name="large").text) as answer:
        assert answer.headers["content-length"] == str(32 * MB)
        for part in answer.iter_raw():
            del part
    grown.append(psutil.Process().memory_info().rss - before)
    assert (service.folder / "alice" / "large").stat().st_size == 32 * MB
    assert max(grown) < 16 * MB


@pytest.mark.parametrize("told", [True, False])
def test_a_file_beyond_a_limit_is_413_and_leaves_nothing(service: Service, told: bool) -> None:
    headers = {"Content_Length": str(41 * MB)} if told else {}
    answer = service.file("PUT", "large", content=chunks(41), **headers)
    assert (answer.status_code, "storage_max_file" in answer.text) == (413, True)
    assert send(service, "a", b"x" * 40 * MB).status_code == 201
    answer = send(service, "b", b"x" * 30 * MB)
    assert (answer.status_code, "storage_quota" in answer.text) == (413, True)
    assert [path for path in tree_of(service.folder) if path.endswith(("a", "b", "large"))] == [
        str(service.folder / "alice" / "a")
    ]
    assert list((service.folder / "alice" / ".uploads").iterdir()) == []


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("length", ["Content-Length: 5000000", "Transfer-Encoding: chunked"])
def test_an_upload_that_breaks_off_leaves_nothing(service: Service, length: str) -> None:
    service.file("PUT", "a", content=b"earlier")
    uploads = service.folder / "alice" / ".uploads"
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"PUT /storage/files/a HTTP/1.1\r\nHost: x\r\nX-DL-AuthToken: {TOKENS['alice']}\r\n{length}\r\n\r\n"
        piece = b"x" * 2_000_000
        connection.sendall(head.encode() + (b"1e8480\r\n" + piece + b"\r\n" if "chunked" in length else piece))
        wait_for(lambda: any(path.stat().st_size for path in uploads.iterdir()))
    wait_for(lambda: not any(uploads.iterdir()))
    assert service.file("GET", "a").content == b"earlier"


def test_a_download_that_breaks_off_closes_the_file(service: Service) -> None:
    service.file("PUT", "large", content=chunks(32))
    path = str(service.folder / "alice" / "large")

    def is_open() -> bool:
        return any(file.path == path for file in psutil.Process().open_files())

    with service.web.stream("GET", service.ask("/get", name="large").text) as answer:
        next(answer.iter_raw())
        assert is_open()
    wait_for(lambda: not is_open())


@pytest.mark.parametrize(
    "path",
    [
        "../bob/a",
        "%2e%2e/bob/a",
        "..%2fbob%2fa",
        "public/%2e%2e/%2e%2e/bob/a",
        "%252e%252e/bob/a",
        "%EF%BC%8E%EF%BC%8E/bob/a",
        "bob://a",
        "bob://../bob/a",
        "file:///etc/passwd",
        "%2Fetc%2Fpasswd/../../x",
        "a%00b",
        "a%5Cb",
        "%ff",
        ".uploads/x",
    ],
)
def test_no_path_leads_out_of_the_folder_of_a_user(service: Service, path: str) -> None:
    service.file("PUT", "a", "bob", b"secret")
    before = tree_of(service.folder / "bob")
    host, port = service.url.removeprefix("http://").split(":")
    for method, body in (("GET", b""), ("PUT", b"changed"), ("DELETE", b"")):
        with socket.create_connection((host, int(port))) as connection:
            head = f"{method} /storage/files/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            head += f"X-DL-AuthToken: {TOKENS['alice']}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert int(answer.split()[1]) < 500
        assert b"secret" not in answer
        assert b"root:" not in answer
    assert tree_of(service.folder / "bob") == before
    assert {path.name for path in service.folder.iterdir()} <= {"alice", "bob"}


def test_openapi_lists_the_calls_with_their_statuses(service: Service) -> None:
    paths = service.web.get(f"{service.url}/openapi.json").json()["paths"]
    assert set(paths["/storage/files/{path}"]) == {"get", "head", "put", "delete"}
    assert set(paths["/storage/transfer/{signature}"]) == {"get", "head", "put"}
    for path in ("/storage/files/{path}", "/storage/transfer/{signature}"):
        for call in paths[path].values():
            assert {"401", "404", "413"} <= set(call["responses"])
            assert "422" not in call["responses"]
            assert [parameter["in"] for parameter in call["parameters"]] == ["path"]
    assert set(paths["/storage/mkdir"]["get"]["responses"]) >= {"201", "400"}
    assert set(paths["/storage/rm"]["get"]["responses"]) >= {"204", "404"}
    assert [about["name"] for about in paths["/storage/mv"]["get"]["parameters"]][-2:] == ["from", "to"]
