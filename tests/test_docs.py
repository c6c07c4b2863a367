"""The words agree with the code: every block runs, every table is complete, every link leads somewhere."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow.flight as fl
import pytest
import typer
from pydantic import BaseModel
from typer.core import TyperGroup

from specflight import errors
from specflight.catalog.functions import KNOWN
from specflight.client import Client
from specflight.errors import SpecflightError
from specflight.flight.actions import ACTIONS
from specflight.flight.requests import (
    FitsRequest,
    MatchRequest,
    QueryRequest,
    SpanRequest,
    SpectraRequest,
    parse_request,
)
from specflight.flight.settings import ContextSettings, HttpSettings, ProfileSettings, Settings
from specflight.flight.store import INDEX_SCHEMA
from specflight.flight.tokens import TokenKey
from specflight.http.app import ENDPOINTS
from specflight.http.endpoints import ERRORS, Endpoint
from specflight.http.parameters import Parameters
from specflight.tools.cli import app
from specflight.tools.demo import prepare
from specflight.tools.ingest import ingest
from specflight.tools.serve import start

ROOT = Path(__file__).parents[1]
DOCS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REQUESTS: dict[str, type[BaseModel]] = {
    "spectra": SpectraRequest,
    "query": QueryRequest,
    "span": SpanRequest,
    "fits": FitsRequest,
    "match": MatchRequest,
}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str, pages: list[Path] = DOCS) -> list[Block]:
    found = []
    for page in pages:
        text = page.read_text()
        found += [
            Block(page, text.count("\n", 0, match.start(2)) + 1, match[2])
            for match in BLOCK.finditer(text)
            if match[1] == language
        ]
    return found


def section(page: str, heading: str) -> str:
    """Text under a heading, up to the next one of any level."""
    text = (ROOT / "docs" / page).read_text()
    match = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"docs/{page} has no section '{heading}'"
    return match[1]


def rows(text: str) -> list[list[str]]:
    """Cells of the tables of a section, without heads, code marks removed."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [number for number, row in enumerate(cells) if not "".join(row).strip("-")]
    heads = {number - 1 for number in rules} | set(rules)
    return [[cell.replace("`", "") for cell in row] for number, row in enumerate(cells) if number not in heads]


@dataclass(frozen=True, slots=True)
class Service:
    """What the blocks talk to."""

    data: Path
    flight: str
    http: str

    def real(self, code: str) -> str:
        """Code with the addresses of this service in place of those that the documentation shows."""
        code = code.replace("grpc://127.0.0.1:8815", self.flight).replace("http://127.0.0.1:6998", self.http)
        return code.replace("file:///DATA", self.data.as_uri()).replace('"DATA/', f'"{self.data}/')


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The demo's data, enough of them that every query of the documentation finds something."""
    data = tmp_path_factory.mktemp("docs") / "data"
    prepare(data, 300)
    for context, tree in (("sdss_dr12", "dr12"), ("sdss_dr16", "dr16")):
        ingest(data, context, [data / "archive" / tree], 1)
    with start(data, "127.0.0.1", 0, 0, workers=1) as running:
        yield Service(data, running.flight[0], running.http)


@pytest.fixture(autouse=True)
def token(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user has in the environment."""
    monkeypatch.setenv("SPECFLIGHT_TOKEN", TokenKey(service.data).issue("alice"))


@pytest.mark.parametrize("page", [page for page in DOCS if blocks("python", [page])], ids=lambda page: page.name)
def test_python_blocks_of_a_page_run_in_order(page: Path, service: Service) -> None:
    names: dict[str, Any] = {"__name__": "docs"}
    for block in blocks("python", [page]):
        # Lines of the page in tracebacks.
        code = "\n" * (block.line - 1) + service.real(block.text)
        exec(compile(code, str(page), "exec"), names)
    for value in names.values():
        if isinstance(value, Client | httpx.Client):
            value.close()


def test_readme_leaves_spectra_in_the_readers_hands(service: Service) -> None:
    names: dict[str, Any] = {}
    for block in blocks("python", [ROOT / "README.md"]):
        exec(service.real(block.text), names)
    assert len(names["ids"]) > 0
    assert len(names["frames"]) == len(names["ids"])


REQUEST_BLOCKS = [block for block in blocks("json") if json.loads(block.text).get("what") in REQUESTS]


@pytest.mark.parametrize("block", REQUEST_BLOCKS, ids=str)
def test_json_requests_are_requests_and_are_answered(block: Block, service: Service) -> None:
    request = parse_request(block.text)
    client = fl.connect(service.flight)
    assert client.do_get(fl.Ticket(block.text.encode())).read_all().num_rows > 0
    assert request.what in REQUESTS
    client.close()


def test_every_kind_of_request_has_an_example() -> None:
    assert {json.loads(block.text)["what"] for block in REQUEST_BLOCKS} == set(REQUESTS)


@pytest.mark.parametrize("what", REQUESTS)
def test_protocol_lists_every_field_of_a_request_with_its_default(what: str) -> None:
    listed = {row[0]: row[1] for row in rows(section("protocol.md", what))}
    fields = REQUESTS[what].model_fields
    assert listed == {name: "" if name == "what" else json.dumps(field.default) for name, field in fields.items()}


def test_the_client_page_lists_every_function_of_a_condition() -> None:
    listed = {row[0]: row[1] for row in rows(section("client.md", "What a condition may say"))}
    assert {*listed["functions"].split(), *listed["sky"].split()} == set(KNOWN)


def test_protocol_lists_every_action() -> None:
    assert [row[0] for row in rows(section("protocol.md", "Actions"))] == list(ACTIONS)


def test_protocol_lists_every_error_with_its_http_status() -> None:
    listed = {row[0]: int(row[2]) for row in rows(section("protocol.md", "Errors"))}
    kinds: list[type[SpecflightError]] = [getattr(errors, name) for name in errors.__all__]
    assert listed == {kind.__name__: kind.http_status for kind in kinds}


def test_protocol_lists_every_column_of_the_index_with_its_type() -> None:
    listed = [(row[0], row[1]) for row in rows(section("protocol.md", "Index"))]
    assert listed == [(field.name, str(field.type)) for field in INDEX_SCHEMA]


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, object, str | None]]:
    for name, field in model.model_fields.items():
        yield prefix + name, field.default, field.description


def test_operators_guide_lists_every_setting_with_its_default_and_meaning() -> None:
    shown: dict[str, tuple[object, ...]] = {"not given": (None,), "none": ({}, ()), "empty": ("",), "default": ({},)}
    shown["below"] = (HttpSettings(),)
    listed = {row[0]: (row[1], row[2]) for row in rows(section("operators.md", "Settings"))}
    known = [
        *_settings(Settings),
        *_settings(ContextSettings, "contexts.NAME."),
        *_settings(ProfileSettings, "profiles.NAME."),
        *_settings(HttpSettings, "http."),
    ]
    assert set(listed) == {name for name, _, _ in known}
    for name, default, meaning in known:
        text, said = listed[name]
        told = str(default).lower() if isinstance(default, bool) else str(default)
        assert default in shown.get(text, ()) or text == told, name
        assert said == (meaning or "").replace("`", ""), name


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_blocks_are_settings(block: Block) -> None:
    Settings(**tomllib.loads(block.text))


@dataclass(frozen=True, slots=True)
class Line:
    """A command line of specflight; `whole` if it could be typed as it stands."""

    where: str
    words: list[str]
    whole: bool

    def __str__(self) -> str:
        return f"{self.where} {self.words[0]}"


def command_lines() -> Iterator[Line]:
    """Lines of the sh blocks, and what the text mentions between code marks."""
    found = [(str(block), line, True) for block in blocks("sh") for line in block.text.splitlines()]
    for page in DOCS:
        mentions = re.findall(r"`(specflight [^`]+)`", BLOCK.sub("", page.read_text()))
        found += [(page.name, text, False) for text in mentions]
    for where, line, whole in found:
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            at = [number for number, word in enumerate(words) if word.rpartition("/")[2] == "specflight"]
            if at:
                yield Line(where, words[at[0] + 1 :], whole)


def _commands() -> dict[str, Any]:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return dict(group.commands)


@pytest.mark.parametrize("line", list(command_lines()), ids=str)
def test_commands_and_their_options_exist(line: Line) -> None:
    name, *arguments = line.words
    command = _commands()[name]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word for word in arguments if word.startswith("--")} <= known
    if line.whole:
        command.make_context(name, arguments)


def test_readme_lists_every_command() -> None:
    listed = {row[0].removeprefix("specflight ") for row in rows((ROOT / "README.md").read_text())}
    assert set(_commands()) <= listed


COMMON = set(Parameters.model_fields)


@pytest.mark.parametrize("endpoint", [one for one in ENDPOINTS if "/storage" not in one.path], ids=lambda one: one.path)
def test_the_http_page_lists_every_endpoint_with_its_parameters(endpoint: Endpoint[Any]) -> None:
    listed = {path.strip(): row[1] for row in rows(section("http.md", "Endpoints")) for path in row[0].split(",")}
    assert listed[endpoint.path] == ", ".join(endpoint.methods)
    alike = {"/plotGrid": "/gridPlot", "/listSpan": "/getSpec"}
    names = set(endpoint.parameters.model_json_schema()["properties"]) - COMMON
    if endpoint.path in ("/contexts", "/profiles", "/catalogs", "/validate"):
        (row,) = (row for row in rows(section("http.md", "Endpoints")) if row[0] == endpoint.path)
        assert all(name in row[2] for name in names)
    elif names:
        table = rows(section("http.md", alike.get(endpoint.path, endpoint.path)))
        known = {name.strip() for row in table for name in row[0].split(",")}
        assert names == known - ({"out"} if endpoint.path == "/listSpan" else set())


def test_the_http_page_lists_every_endpoint_of_the_storage() -> None:
    listed = {path.strip(): row[1] for row in rows(section("http.md", "Virtual storage")) for path in row[0].split(",")}
    for endpoint in ENDPOINTS:
        if endpoint.path.startswith("/storage/"):
            known = endpoint.parameters.model_json_schema()["properties"].keys() - COMMON
            told = listed[endpoint.path]
            assert not told or all(name in told for name in known), endpoint.path


def test_the_http_page_lists_every_status() -> None:
    listed = {int(row[0]) for row in rows(section("http.md", "Refusals"))}
    assert listed == {*ERRORS, 405, 416}


def _anchors(page: Path) -> set[str]:
    """Anchors of the headings, as forges make them."""
    heads = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*DOCS, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text())):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in _anchors(target), f"{page.name}: {link}"


MODULES = sorted(
    path for folder in ("catalog", "flight", "client", "http", "tools") for path in (ROOT / folder).glob("*.py")
)


def test_architecture_lists_every_module() -> None:
    listed = {row[0] for row in rows(section("architecture.md", "Modules"))}
    assert listed == {str(path.relative_to(ROOT)) for path in MODULES if path.name != "__init__.py"}


ALLOWED = {
    "catalog": ("catalog", "errors"),
    "flight": ("flight", "catalog", "errors"),
    "client": ("client", "flight.protocol", "flight.requests", "catalog.identifiers", "catalog.idlists", "errors"),
    "http": (
        "http",
        "client",
        "flight.protocol",
        "flight.requests",
        "flight.settings",
        "flight.lines",
        "catalog.identifiers",
        "catalog.idlists",
        "errors",
    ),
    "tools": ("tools", "http", "client", "flight", "catalog", "errors"),
}
LAZY = {("client/_transport.py", name) for name in ("flight.service", "flight.actions", "catalog.database")}
"""For a data directory opened in this process."""


def imported(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports, wherever in it, without the leading ``specflight.``."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [node.module or ""]
            if node.module == "specflight":
                names = [f"specflight.{alias.name}" for alias in node.names]
        yield from (name.removeprefix("specflight.") for name in names if name.startswith("specflight."))


def test_imports_point_one_way() -> None:
    seen = set()
    for path in MODULES:
        where = str(path.relative_to(ROOT))
        for name in imported(path):
            allowed = any(name == root or name.startswith(f"{root}.") for root in ALLOWED[path.parent.name])
            assert allowed or (where, name) in LAZY, f"{where} imports {name}"
            seen.add((where, name))
    assert seen >= LAZY
    assert not list(imported(ROOT / "src" / "specflight" / "errors.py"))


def test_architecture_states_the_directions_of_imports_that_hold() -> None:
    listed = dict(row[:2] for row in rows(section("architecture.md", "Folders and imports")))
    assert listed.pop("errors.py") == "nothing"
    assert listed.pop("tools") == "all of them"
    assert listed == {
        folder: ", ".join(name for name in names if name != folder)
        for folder, names in ALLOWED.items()
        if folder != "tools"
    }
