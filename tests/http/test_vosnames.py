from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from vosfiles import MAX_FILE, QUOTA, files_of, get, names, put, tree_of

from specflight.errors import InvalidRequest, SpecflightError
from specflight.http.vos import Storage
from specflight.http.vosnames import UPLOADS

REFUSED = [
    "../bob/secret",
    "a/../../bob/secret",
    "..",
    ".",
    "./a",
    "...",
    "a/. .",
    "/../../etc/passwd",
    "vos://../bob/secret",
    "public/../../bob/secret",
    "alice://public/../notes",
    "..\\bob\\secret",
    "%2e%2e/bob/secret",
    "a%00b",
    "a\x00b",
    "a\nb",
    "a\x7fb",
    "\u202etxt.exe",
    "a\u200bb",
    "\ud800",
    "\ufffd",
    "a*",
    "a?b",
    "a[1]",
    "a{b,c}",
    "a:b",
    "C:/a",
    "vos:///file:///etc/passwd",
    "::",
    "a#b",
    "a,b",
    " a",
    "a ",
    "a/ /b",
    "\u00a0a",
    ".uploads",
    ".Uploads/x",
    "x" * 256,
    "é" * 128,
    "/".join(["x" * 200] * 6),
    "/".join("x" * 33),
    "Alice://public/a",
    "a/b://public/a",
    "://a",
    f"{'a' * 33}://public/a",
]


@pytest.mark.parametrize("uri", REFUSED)
def test_names_that_could_lead_elsewhere_are_refused(storage: Storage, storage_url: str, uri: str) -> None:
    put(storage, "notes", b"mine")
    put(storage, "secret", b"theirs", caller="bob")
    before = files_of(storage_url)
    for call in (storage.stat, storage.open, storage.list, storage.remove, storage.make_folder, storage.check_target):
        with pytest.raises(InvalidRequest, match=r"^name: "):
            call("alice", uri)
    for source, target in ((uri, "x"), ("notes", uri)):
        for change in (storage.move, storage.copy):
            with pytest.raises(InvalidRequest, match=r"^name: "):
                change("alice", source, target)
    assert files_of(storage_url) == before


@pytest.mark.parametrize(
    "name",
    ["a b", "a+b=c", "~", "~root", "..a", "a..", ".hidden", "été", "日本", "a&b;c", "'\"", "-rf", "$HOME", "x" * 255],
)
def test_ordinary_and_odd_names_are_names(local: Storage, tmp_path: Path, name: str) -> None:
    put(local, name, b"x")
    assert names(local) == sorted([name, "public"])
    assert (tmp_path / "storage" / "alice" / name).read_bytes() == get(local, f"vos://{name}") == b"x"


def test_a_name_is_the_same_however_its_letters_are_written(local: Storage) -> None:
    put(local, "e\u0301te\u0301", b"x")
    assert get(local, "\u00e9t\u00e9") == b"x"
    assert names(local) == ["public", "\u00e9t\u00e9"]


UNICODE = ["\uff0e\uff0e", "\u2024\u2024", "\u2025", "a\u0338", "\u2215", "\u037e"]  # which look like dots and slashes
PLAIN = ["alice", "bob", "public", "secret", "outside", "link", "link/secret", "etc/passwd", UPLOADS]
SIGNS = ["..", ".", "", "~", "vos:", "file:", "*", "%2e%2e", "..%2f", "\\", "\x00"]
NASTY = st.sampled_from([*UNICODE, *PLAIN, *SIGNS])
PARTS = st.one_of(NASTY, st.text(max_size=8))
URIS = st.tuples(
    st.sampled_from(["", "", "vos://", "alice://", "bob://", "file://", "://", "/", "../"]),
    st.lists(PARTS, max_size=6).map("/".join),
).map("".join)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, Path]:
    """A user's folder beside another's, with a link from the one to the other."""
    root = tmp_path_factory.mktemp("guarded")
    storage = Storage(str(root / "storage"), QUOTA, MAX_FILE)
    put(storage, "secret", b"secret", caller="bob")
    put(storage, "public/secret", b"no secret", caller="bob")
    put(storage, "a", b"mine")
    (root / "outside").mkdir()
    (root / "outside" / "secret").write_bytes(b"secret")
    (root / "storage" / "alice" / "link").symlink_to(root / "storage" / "bob")
    return storage, root


@given(uri=URIS, other=URIS)
@example(uri="../bob/secret", other="a")
@example(uri="link/secret", other="a")
@example(uri="bob://secret", other="a")
def test_whatever_the_name_nothing_else_is_read_or_written(guarded: tuple[Storage, Path], uri: str, other: str) -> None:
    storage, root = guarded

    def elsewhere() -> dict[str, bytes | None]:
        inside = str(root / "storage" / "alice")
        return {path: content for path, content in tree_of(root).items() if not path.startswith(inside)}

    before = elsewhere()
    read, refused = [], []
    calls: list[Any] = [
        lambda: put(storage, uri, b"changed"),
        lambda: read.append(get(storage, uri)),
        lambda: storage.list("alice", uri),
        lambda: storage.make_folder("alice", uri),
        lambda: storage.copy("alice", uri, other),
        lambda: storage.move("alice", uri, other),
        lambda: read.append(get(storage, other)),
        lambda: storage.remove("alice", uri),
        lambda: storage.remove_folder("alice", uri),
        lambda: storage.remove("alice", other),
        lambda: storage.remove_folder("alice", other),
    ]
    for call in calls:
        try:
            call()
        except SpecflightError as error:
            refused.append(error)
    assert {error.http_status for error in refused} <= {400, 403, 404, 413}
    assert all(str(error).isprintable() for error in refused)
    assert elsewhere() == before
    assert b"secret" not in read
    assert (root / "storage" / "alice" / "link").is_symlink()
