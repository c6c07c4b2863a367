from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from typer.testing import CliRunner

from specflight.tools.cli import app

COMMAND = [str(Path(sysconfig.get_path("scripts")) / "specflight")]
COMMANDS = {"ingest", "serve", "demo", "check", "bench"}


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1"})
    return result.exit_code, result.output


def test_the_commands_are_these() -> None:
    assert {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    } == COMMANDS


def test_no_command_shows_the_help_that_names_them_all() -> None:
    status, text = run()
    assert status == 2
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("ingest", ["--data", "--context", "--workers", "PATH..."]),
        ("serve", ["--data", "--host", "--flight-port", "--http-port", "--workers", "127.0.0.1", "8815", "6998"]),
        ("demo", ["--data", "--once", "--spectra"]),
        ("check", ["--data"]),
    ],
)
def test_the_help_names_the_options_that_others_rely_on(command: str, options: list[str]) -> None:
    status, text = run(command, "--help")
    assert status == 0
    assert [option for option in options if option not in text] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve"],
        ["ingest", "--data", "x"],
        ["serve", "--data", "x", "--workers", "0"],
        ["demo", "--spectra", "3"],
        ["fly"],
    ],
)
def test_options_at_fault_are_status_2(arguments: list[str]) -> None:
    assert run(*arguments)[0] == 2


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("uvicorn", ["serve", "--flight-port", "0", "--http-port", "0"]),
        ("duckdb", ["serve", "--flight-port", "0", "--http-port", "0"]),
        ("matplotlib", ["demo", "--once"]),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_what_to_do(
    package: str, arguments: list[str], tmp_path: Path
) -> None:
    lost = f"raise ModuleNotFoundError({package!r}, name={package!r})\n"
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / f"{package}.py").write_text(lost)
    (tmp_path / "data").mkdir()
    done = subprocess.run(
        [*COMMAND, *arguments, "--data", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "lost")},
        check=False,
    )
    assert done.returncode == 2
    assert f"needs the package {package}" in done.stderr
    assert "specflight[all]" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_is_installed_and_is_a_module_too(tmp_path: Path) -> None:
    for call in (COMMAND, [sys.executable, "-m", "specflight.tools.cli"]):
        done = subprocess.run([*call, "--help"], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
        assert done.returncode == 0
        assert "ingest" in done.stdout
