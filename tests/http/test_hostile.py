"""Strangers, careless pipelines and broken clients at a real service."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import uvicorn
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from specflight.errors import InvalidRequest
from specflight.flight.tokens import TokenKey
from specflight.http.parameters import MAX_FIELDS, Parameters, read_parameters
from specflight.tools import httpworker, serve
from specflight.tools.ingest import ingest
from specflight.tools.serve import Running, start

CONTEXT = "sdss_dr16"
FORM = b"Content-Type: application/x-www-form-urlencoded"
ALL = {"context": CONTEXT, "cond": "limit 1000"}


@dataclass(frozen=True)
class Service:
    """A service with one HTTP process."""

    data: Path
    running: Running
    web: httpx.Client
    token: str
    ids: list[int]

    def connect(self) -> socket.socket:
        """A connection to its HTTP side."""
        host, port = self.running.http.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=20)

    def raw(self, text: bytes) -> bytes:
        """What comes back for the bytes of a request, until the connection ends."""
        with self.connect() as connection:
            connection.sendall(text)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    def get(self, path: str, headers: bytes = b"", host: bytes = b"x") -> tuple[int, bytes]:
        """Status and body of a GET, of a path as it stands."""
        request = b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n" % (path.encode(), host, headers)
        head, _, body = self.raw(request).partition(b"\r\n\r\n")
        return int(head.split()[1]), body


@pytest.fixture
def copied(sim_data: Path, tmp_path: Path) -> Path:
    """A data directory for one test, with little time for what is in flight at the end."""
    data = tmp_path / "data"
    shutil.copytree(sim_data, data, symlinks=True)
    (data / "specflight.toml").write_text("drain_seconds = 8\n[http]\nprocesses = 1\n")
    return data


@pytest.fixture(scope="module")
def service(sim_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of all simulated contexts."""
    data = tmp_path_factory.mktemp("hostile") / "data"
    shutil.copytree(sim_data, data, symlinks=True)
    (data / "specflight.toml").write_text("[http]\nprocesses = 1\n")
    token = TokenKey(data).issue("alice")
    with start(data, "127.0.0.1", 0, 0, workers=1) as running, httpx.Client(base_url=running.http, timeout=60) as web:
        ids = [int(text) for text in web.get("/query", params=ALL).text.split()[1:]]
        yield Service(data, running, web, token, ids)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextlib.contextmanager
def pinging(service: Service) -> Iterator[list[float]]:
    """Seconds that `/ping` takes meanwhile."""
    stop, took = threading.Event(), [0.0]

    def ping() -> None:
        with httpx.Client(base_url=service.running.http, timeout=60) as web:
            while not stop.wait(0.01):
                started = time.monotonic()
                assert web.get("/ping").text == "OK"
                took.append(time.monotonic() - started)

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join()


NAMES = [f"{number:x}" for number in range(300_000)]
BODIES = {
    "form of names": ("application/x-www-form-urlencoded", "&".join([*NAMES, NAMES[-1]])),
    "form of nothing": ("application/x-www-form-urlencoded", "&" * (8 << 20)),
    "names in JSON": ("application/json", "{" + ",".join(f'"{name}":1' for name in NAMES) + "}"),
    "lists in JSON": ("application/json", '{"id_list":[' + "[]," * (4 << 20) + "[]]}"),
    "ids": ("application/x-www-form-urlencoded", "id_list=" + ",".join(map(str, range(10**18, 10**18 + 1_100_000)))),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_of_too_much_is_413_and_delays_nobody(service: Service, kind: str) -> None:
    content_type, body = BODIES[kind]
    with pinging(service) as took:
        answer = service.web.post("/getSpec", content=body, headers={"content-type": content_type})
    assert answer.status_code == 413
    assert "more than" in answer.text
    assert max(took) < 1.5


def test_more_parameters_than_there_can_be_are_refused(service: Service) -> None:
    query = "&".join(f"{number:x}" for number in range(MAX_FIELDS + 1))
    assert (service.web.get(f"/getSpec?{query}").status_code, service.web.get("/getSpec?a&b").status_code) == (413, 400)


@pytest.mark.parametrize("header", ["X-DL-AuthToken: ", "Authorization: Bearer "])
@pytest.mark.parametrize("token", ["\xe9", "a\tb", "\x80\xff", "x" * 5000, '"', "alice"])
def test_whatever_is_no_token_is_401(service: Service, header: str, token: str) -> None:
    status, text = service.get("/storage/ls", f"{header}{token}\r\n".encode("latin-1"))
    assert (status, text.startswith(b"Error: token: ")) == (401, True)


def test_tokens_end_when_they_expire_and_with_their_key(service: Service, tmp_path: Path) -> None:
    def ask(token: str, path: str = "/storage/ls") -> int:
        return service.web.get(path, headers={"X-DL-AuthToken": token}).status_code

    assert ask(TokenKey(tmp_path).issue("alice")) == 401
    brief = TokenKey(service.data).issue("alice", days=2.5 / 86_400)
    admin = TokenKey(service.data).issue("root", admin=True)
    assert (ask(brief), ask(admin), ask(service.token)) == (200, 200, 200)
    assert (ask(admin, "/debug"), ask(admin, "/debug"), ask(service.token, "/debug"), ask("", "/debug")) == (
        200,
        200,
        403,
        401,
    )
    wait_for(lambda: ask(brief) == 401, 3)
    key = service.data / "token.key"
    key.rename(tmp_path / "kept.key")
    try:
        assert (ask(admin, "/debug"), ask(admin, "/shutdown")) == (401, 401)
    finally:
        (tmp_path / "kept.key").rename(key)
    assert service.web.get("/ping").text == "OK"


@pytest.mark.parametrize(
    "context", ["a" * 300, "a" * 5000, "%00", "a%00b", "..", "..%2F..%2Fetc", "%2Fetc", "%FF", "é"]
)
@pytest.mark.parametrize("path", ["getSpec?id_list=1", "listSpan?id_list=1", "stackedImage?id_list=1", "preview?id=1"])
def test_a_name_that_no_context_can_have_is_404(service: Service, path: str, context: str) -> None:
    answer = service.web.get(f"/{path}&context={context}")
    assert answer.status_code == 404
    assert str(service.data) not in answer.text


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("getSpec", "id_list"),
        ("getSpec", "values"),
        ("getSpec", "format"),
        ("getSpec", "cutout"),
        ("getSpec", "\\ud800"),
        ("stackedImage", "cmap"),
        ("query", "region"),
        ("query", "cond"),
        ("storage/stat", "name"),
    ],
)
def test_half_a_character_in_json_is_400(service: Service, path: str, field: str) -> None:
    body = f'{{"id_list": 1, "{field}": "\\ud800"}}' if field != "id_list" else '{"id_list": "\\ud800"}'
    answer = service.web.post(f"/{path}", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, "JSON" in answer.text) == (400, True)
    whole = service.web.post("/getSpec", content='{"id_list": "\\ud83d\\ude00"}')
    assert whole.status_code == 400


def test_a_body_that_breaks_off_is_no_fault_of_ours() -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "headers": [], "query_string": b""}
    with pytest.raises(InvalidRequest, match="ended"):
        asyncio.run(read_parameters(Request(scope, gone), Parameters, 1000))


@pytest.mark.parametrize("host", [b"evil.example", b"a b", b"[", b"x/y?z#", b"", b"\xff", b"x:99999999", b"<script>"])
def test_no_host_makes_a_url_of_another_form(service: Service, host: bytes) -> None:
    mine = {"X-DL-AuthToken": service.token}
    assert service.web.put("/storage/files/public/a.txt", content=b"1", headers=mine).status_code in (200, 201)
    token = b"X-DL-AuthToken: %s\r\n" % service.token.encode()
    status, url = service.get("/storage/get?name=vos://public/a.txt", token, host)
    assert status == 200
    assert re.fullmatch(rb"http://[a-z0-9.:]+/storage/transfer/[\w.-]+", url)
    assert service.get("/nothing", host=host) == (404, b"Error: there is no /nothing")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/spec/spec/ping", 404),
        ("//ping", 404),
        ("/spec/../ping", 404),
        ("/ping/", 404),
        ("/ping%00", 404),
        ("/storage/files/..%2f..%2fx", 400),
        ("/storage/files/a%0d%0aSet-Cookie:%20x", 404),
    ],
)
def test_tricks_with_paths_lead_nowhere(service: Service, path: str, status: int) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-DL-AuthToken: {service.token}\r\nConnection: close\r\n\r\n"
    told = service.raw(head.encode())
    assert int(told.split()[1]) == status
    assert b"set-cookie" not in told.partition(b"\r\n\r\n")[0].lower()


def test_strangers_cannot_make_up_counters(service: Service) -> None:
    for number in range(30):
        service.web.get(f"/storage/files/{number}")
        service.web.get(f"/{number}")
        service.web.request(f"X{number}", "/ping")
    told = service.web.get("/metrics").text
    assert set(re.findall(r'path="([^"]*)"', told)) >= {"unknown", "/storage/files/{path:path}"}
    assert not re.search(r'path="/(storage/files/)?\d', told)
    assert 'method="X' not in told


def all_of(service: Service, times: int, **more: str) -> dict[str, str]:
    return {"id_list": ",".join(map(str, service.ids * times)), "context": CONTEXT, "align": "True"} | more


def test_callers_who_hang_up_leave_nothing_behind(service: Service) -> None:
    form = httpx.Request("POST", "http://x/getSpec", data=all_of(service, 20))
    head = b"POST /getSpec HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: %d\r\n\r\n"
    long = head % (FORM, len(form.content)) + form.content
    token, context = service.token.encode(), CONTEXT.encode()
    gets = [
        b"getSpec?context=%s&format=fits&id_list=%d" % (context, service.ids[0]),
        b"query?context=%s&fields=ra,dec&cond=limit+1000" % context,
        b"preview?context=%s&id=%d" % (context, service.ids[0]),
        b"healthz",
    ]
    requests = [
        long,
        long[:500],
        b"PUT /storage/files/a HTTP/1.1\r\nHost: x\r\nX-DL-AuthToken: %s\r\nContent-Length: 9\r\n\r\nx" % token,
        *(b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % get for get in gets),
    ]

    def strike() -> None:
        for number, request in enumerate(requests * 6):
            with service.connect() as connection:
                connection.sendall(request)
                if number % 3 == 0:
                    time.sleep(0.03)
                elif number % 3 == 1:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def settled() -> bool:
        return re.search(r"^specflight_http_requests_running (.*)$", service.web.get("/metrics").text, re.M)[1] == "1.0"  # type: ignore[index]

    process = psutil.Process(service.running.http_pids[0])
    flight = psutil.Process(service.running.worker_pids[0])
    strike()
    wait_for(settled)
    before = process.num_fds(), flight.num_fds()
    strike()
    strike()
    wait_for(settled)
    wait_for(lambda: process.num_fds() <= before[0] + 2 and flight.num_fds() <= before[1] + 2)
    assert process.num_threads() < 32 + 40 + 40
    assert not list((service.data / "storage" / "alice" / ".uploads").iterdir())
    assert service.running.http_pids == [process.pid]


def test_callers_who_stop_reading_cost_neither_threads_nor_others_time(service: Service) -> None:
    form = httpx.Request("POST", "http://x/getSpec", data=all_of(service, 100)).content
    head = b"POST /getSpec HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: %d\r\n\r\n"
    process = psutil.Process(service.running.http_pids[0])
    before = process.memory_info().rss
    with contextlib.ExitStack() as stack:
        for _ in range(45):
            connection = stack.enter_context(service.connect())
            connection.sendall(head % (FORM, len(form)) + form)
            connection.recv(100)
        with pinging(service) as took:
            answer = service.web.get("/getSpec", params={"id_list": service.ids[0], "context": CONTEXT})
        assert answer.status_code == 200
        assert max(took) < 1
        assert process.memory_info().rss - before < 45 * (16 << 20)  # of 880 MB each


def test_two_hundred_connections_at_once_are_answered(service: Service) -> None:
    request = b"GET /getSpec?context=%s&id_list=%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(service.connect()) for _ in range(200)]
        for connection in connections:
            connection.sendall(request % (CONTEXT.encode(), service.ids[0]))
        for connection in connections:
            assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_a_process_that_was_killed_answers_nothing_any_more(copied: Path) -> None:
    with start(copied, "127.0.0.1", 0, 0, workers=1) as running:
        ids = httpx.get(f"{running.http}/query", params=ALL).text.split()[1:]
        whole = httpx.post(f"{running.http}/getSpec", data={"id_list": ",".join(ids), "context": CONTEXT, "align": "1"})
        assert whole.status_code == 200
        ends: list[bool] = []

        def ask() -> None:
            for _ in range(10):
                try:
                    asked = {"id_list": ",".join(ids), "context": CONTEXT, "align": "1"}
                    answer = httpx.post(f"{running.http}/getSpec", data=asked, timeout=60)
                    assert answer.status_code == 200
                    ends.append(answer.content == whole.content)
                except httpx.HTTPError:
                    pass

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        os.kill(running.http_pids[0], signal.SIGKILL)
        os.kill(running.worker_pids[0], signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert all(ends)

        def well() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"{running.http}/healthz", timeout=10).status_code == 200
            return False

        wait_for(well, 40)
        assert "specflight_http_requests_running 1.0\n" in httpx.get(f"{running.http}/metrics").text


def test_what_is_being_sent_is_finished_when_the_service_ends(copied: Path) -> None:
    got: list[int] = []
    with start(copied, "127.0.0.1", 0, 0, workers=1) as running:
        ids = httpx.get(f"{running.http}/query", params=ALL).text.split()[1:] * 20
        form = {"id_list": ",".join(ids), "context": CONTEXT, "align": "1"}

        def read() -> None:
            with httpx.stream("POST", f"{running.http}/getSpec", data=form, timeout=60) as answer:
                content = io.BytesIO()
                for part in answer.iter_bytes(4 << 20):
                    content.write(part)
                    got.append(len(part))
                    time.sleep(0.02)
            assert len(np.load(io.BytesIO(content.getvalue()))) == len(ids)
            got.append(-1)

        reader = threading.Thread(target=read)
        reader.start()
        wait_for(lambda: len(got) > 1)
    reader.join()
    assert got[-1] == -1


def test_a_process_that_hangs_does_not_keep_the_service_from_ending(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copied / "specflight.toml").write_text("drain_seconds = 1\n[http]\nprocesses = 1\n")
    monkeypatch.setattr(serve, "STOP_SECONDS", 1.0)

    refused: list[httpx.Response] = []

    def ask() -> None:
        refused.append(httpx.get(f"{running.http}/contexts", timeout=60))

    with start(copied, "127.0.0.1", 0, 0, workers=1) as running:
        os.kill(running.worker_pids[0], signal.SIGSTOP)
        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.3)
        started = time.monotonic()
    assert time.monotonic() - started < 8
    asking.join()
    assert (refused[0].status_code, "is ending" in refused[0].text) == (503, True)


def test_what_is_ingested_shows_at_once_and_disturbs_nobody(copied: Path, sim_tree: dict[str, Path]) -> None:
    surveys = sorted(sim_tree[CONTEXT].iterdir())
    failed: list[str] = []
    with start(copied, "127.0.0.1", 0, 0, workers=1) as running:
        stop = threading.Event()

        def count(context: str) -> int:
            return len(httpx.get(f"{running.http}/query", params=ALL | {"context": context}).text.split()) - 1

        def read() -> None:
            with httpx.Client(base_url=running.http, timeout=30) as web:
                ids = web.get("/query", params=ALL | {"context": "fresh"}).text.split()[1:]
                while not stop.wait(0.01):
                    answer = web.post("/getSpec", data={"id_list": ",".join(ids), "context": "fresh", "align": "1"})
                    if answer.status_code != 200:
                        failed.append(answer.text)

        assert httpx.get(f"{running.http}/query", params=ALL | {"context": "fresh"}).status_code == 404
        ingest(copied, "fresh", [surveys[0]], workers=1)
        first = count("fresh")
        reader = threading.Thread(target=read)
        reader.start()
        ingest(copied, "fresh", surveys[1:], workers=1)
        assert 0 < first < count("fresh") == count(CONTEXT)
        ingest(copied, "fresh", surveys, workers=1)
        stop.set()
        reader.join()
    assert not failed


@contextlib.contextmanager
def impatient(app: Callable[[Scope, Receive, Send], Any]) -> Iterator[socket.socket]:
    """A connection to an application behind the protocol of the service."""
    config = uvicorn.Config(app, http=httpworker._impatient(), lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            with socket.create_connection(listener.getsockname(), timeout=20) as connection:
                yield connection
        finally:
            server.should_exit = True
            thread.join()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body; with 32 MB to `/long`."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    text = bytes(32 << 20) if scope["path"] == "/long" else b"%d" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


def ended(connection: socket.socket) -> bool:
    """Whether the other side hangs up, with or without a word."""
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(1 << 20):
            pass
    return True


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nabGET / HT",
    ],
)
def test_a_request_that_does_not_go_on_is_not_waited_for(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpworker, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(httpworker, "BODY_SECONDS", 0.3)
    with impatient(echo) as connection:
        connection.sendall(begun)
        started = time.monotonic()
        assert ended(connection)
        assert time.monotonic() - started < 3  # uvicorn gives up connections between two requests after 5


def test_a_request_that_goes_on_slowly_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpworker, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(httpworker, "BODY_SECONDS", 1.0)
    with impatient(echo) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n")
        for _ in range(6):
            time.sleep(0.4)
            connection.sendall(b"x")
        assert connection.recv(1000).endswith(b"\r\n\r\n6")


@pytest.mark.parametrize("begun", [b"GET /?", b"GET / HTTP/1.1\r\nX: "])
def test_a_head_without_an_end_is_refused(begun: bytes) -> None:
    with impatient(echo) as connection:
        connection.sendall(begun)
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                connection.sendall(b"x" * 10_000)
            pytest.fail("10 MB were taken")


def test_an_answer_that_nobody_takes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpworker, "STALLED_SECONDS", 0.5)
    with impatient(echo) as connection:
        connection.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(1.5)
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(1 << 20):
                got += len(piece)
        assert got < 32 << 20
