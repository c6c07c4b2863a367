"""The OpenAPI document tells the truth: schemathesis tries what it allows, and what it does not."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import httpx
import pytest

from specflight.flight.tokens import TokenKey
from specflight.tools.serve import Running

COMMAND = Path(sysconfig.get_path("scripts")) / "schemathesis"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


def attack(running: Running, token: str, folder: Path, examples: int) -> None:
    command = [
        str(COMMAND),
        "run",
        f"{running.http}/openapi.json",
        f"--checks={','.join(CHECKS)}",
        f"--max-examples={examples}",
        "--phases=coverage,fuzzing",
        "--exclude-path=/shutdown",  # by a user who may not; an administrator ends it in test_serve.py
        "--request-timeout=60",
        f"--header=X-DL-AuthToken: {token}",
        "--no-color",
        "--generation-database=none",
    ]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=3000)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert "No API operations" not in run.stdout


@pytest.fixture
def token(sim_served: Path) -> str:
    return TokenKey(sim_served).issue("mallory", days=1)


def test_the_document_holds_for_whatever_it_allows_and_forbids(sim_server: Running, token: str, tmp_path: Path) -> None:
    attack(sim_server, token, tmp_path, examples=2)


@pytest.mark.slow
def test_the_document_holds_for_long(sim_server: Running, token: str, tmp_path: Path) -> None:
    attack(sim_server, token, tmp_path, examples=100)


def test_every_operation_is_named_and_described(sim_server: Running) -> None:
    document = httpx.get(f"{sim_server.http}/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            assert about["summary"], (path, method)
            assert about["responses"], (path, method)
    names = [about["operationId"] for methods in document["paths"].values() for about in methods.values()]
    assert len(names) == len(set(names))
