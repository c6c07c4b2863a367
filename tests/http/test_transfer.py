from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from fixtures_http import MB, Scratch, wait_for
from storageserver import Service, fetch, send
from vosfiles import tree_of


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
        answer = service.web.get(url, headers={"Range": asked, "X-DL-AuthToken": service.tokens["alice"]})
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


def test_large_files_pass_through_in_little_memory(service: Service, scratch: Scratch) -> None:
    process = scratch.process
    before = process.memory_info().rss
    grown = []

    def measured(pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            grown.append(process.memory_info().rss - before)

    assert service.file("PUT", "large", content=measured(chunks(32))).status_code == 201
    with service.web.stream("GET", service.ask("/get", name="large").text) as answer:
        assert answer.headers["content-length"] == str(32 * MB)
        assert sum(map(len, measured(answer.iter_raw()))) == 32 * MB
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


@pytest.mark.parametrize("length", ["Content-Length: 5000000", "Transfer-Encoding: chunked"])
def test_an_upload_that_breaks_off_leaves_nothing(service: Service, length: str) -> None:
    service.file("PUT", "a", content=b"earlier")
    uploads = service.folder / "alice" / ".uploads"
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = (
            f"PUT /storage/files/a HTTP/1.1\r\nHost: x\r\nX-DL-AuthToken: {service.tokens['alice']}\r\n{length}\r\n\r\n"
        )
        piece = b"x" * 2_000_000
        connection.sendall(head.encode() + (b"1e8480\r\n" + piece + b"\r\n" if "chunked" in length else piece))
        wait_for(lambda: any(path.stat().st_size for path in uploads.iterdir()))
    wait_for(lambda: not any(uploads.iterdir()))
    assert service.file("GET", "a").content == b"earlier"


def test_a_download_that_breaks_off_closes_the_file(service: Service, scratch: Scratch) -> None:
    service.file("PUT", "large", content=chunks(32))
    path = str(service.folder / "alice" / "large")

    def is_open() -> bool:
        return any(file.path == path for file in scratch.process.open_files())

    with service.web.stream("GET", service.ask("/get", name="large").text) as answer:
        pieces = answer.iter_raw()
        next(pieces)
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
            head += f"X-DL-AuthToken: {service.tokens['alice']}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert int(answer.split()[1]) < 500
        assert b"secret" not in answer
        assert b"root:" not in answer
    assert tree_of(service.folder / "bob") == before
    assert {path.name for path in service.folder.iterdir()} <= {"alice", "bob"}
