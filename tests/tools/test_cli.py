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
COMMANDS = {"ingest", "serve", "token", "demo", "check", "conformance", "bench"}


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
        (
            "ingest",
            ["--data", "--context", "--workers", "PATH...", "--catalog", "SCHEMA.TABLE", "--ra", "--dec", "--id"],
        ),
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
        ["ingest", "--data", "x", "--context", "a", "--catalog", "a.b"],
        ["serve", "--data", "x", "--workers", "0"],
        ["demo", "--spectra", "3"],
        ["fly"],
    ],
)
def test_options_at_fault_are_status_2(arguments: list[str]) -> None:
    assert run(*arguments)[0] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ra", "x"], "ra: --ra goes with --catalog only"),
        (["--dec", "x"], "dec: --dec goes with --catalog only"),
        (["--id", "x"], "id: --id goes with --catalog only"),
        (["--description", ""], "description: --description goes with --catalog only"),
        (["--catalog", "a.b", "other.csv"], "PATH: --catalog takes one file, and other.csv is another"),
        (["--catalog", "b"], "catalog: 'b' is not SCHEMA.TABLE"),
    ],
)
def test_options_that_do_not_go_together_are_named(options: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    arguments = ["ingest", "--data", str(tmp_path / "data"), "--context", "a", str(tmp_path / "t.csv")]
    status, text = run(*arguments, *options)
    assert status == 2
    assert words in text
    assert not (tmp_path / "data").exists()


def test_an_ingested_catalogue_is_told_by_its_rows_and_by_the_columns_that_were_taken(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("TargetID,RAdeg,DEdeg,z\n-1,10,20,0.5\n7,,,1\n")
    arguments = ["ingest", "--data", str(tmp_path / "data"), "--context", "desi", str(file)]
    status, text = run(*arguments, "--catalog", "DESI.Table", "--id", "targetid", "--description", "Targets")
    assert status == 0
    assert "ingested 2 rows of 4 columns into desi.table of context 'desi'" in text
    assert "1 row has a position: radeg, dedeg" in text
    assert "2 rows have an identifier: targetid" in text
    status, text = run(*arguments, "--catalog", "vac.t", "--ra", "RAdeg", "--dec", "z")
    assert status == 0
    assert "1 row has a position: radeg, z" in text
    assert "no identifiers: its rows belong to no spectra" in text
    file.write_text("plate,mjd,fiberid,run2d\n266,51630,1,26\n")
    status, text = run(*arguments, "--catalog", "vac.fibres")
    assert status == 0
    assert "no positions: it cannot be searched by place" in text
    file.write_text("plate,mjd,fiberid,run2d,ra,dec\n266,51630,1,26,10,20\n")
    status, text = run(*arguments, "--catalog", "desi.specobjall")
    assert status == 0
    assert "1 row has an identifier: specobjid, packed from plate, mjd and fiberid with run2d" in text
    assert "1 row is its primary view: desi.specobj" in text


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
