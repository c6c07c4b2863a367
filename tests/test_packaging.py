from __future__ import annotations

import inspect
import subprocess
import sys
import zipfile
from importlib.metadata import requires, version
from importlib.util import find_spec
from pathlib import Path

import pytest

import specflight
from specflight import errors
from specflight.errors import SpecflightError

ROOT = Path(__file__).parents[1]
FOLDERS = ("catalog", "client", "flight", "http", "tools")


def python(code: str, *options: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=60, cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_client_loads_no_server_and_no_astronomy(tmp_path: Path) -> None:
    heavy = ("duckdb", "fastapi", "uvicorn", "fitsio", "matplotlib", "astropy", "pandas", "scipy", "mocpy", "sqlglot")
    code = f"import sys, specflight.client; print([name for name in {heavy} if name in sys.modules])"
    assert python(code, cwd=tmp_path) == "[]"


def test_the_client_needs_the_base_packages_only() -> None:
    needed = [line for line in requires("specflight") or [] if "extra ==" not in line]
    assert {line.split(">")[0].strip() for line in needed} == {
        "httpx",
        "numpy",
        "pyarrow",
        "pydantic",
        "rich",
        "typer",
    }


def test_the_standard_library_keeps_its_http() -> None:
    for folder in (ROOT, ROOT / "src" / "specflight"):
        code = f"import sys; sys.path.insert(0, {str(folder)!r}); import http.client; print(http.client.__file__)"
        assert Path(python(code)).parts[-2:] == ("http", "client.py")
        assert str(ROOT) not in python(code)


def test_the_folders_that_would_hide_others_are_no_regular_packages() -> None:
    assert not (ROOT / "http" / "__init__.py").exists()
    assert list((ROOT / "tests").rglob("__init__.py")) == []
    for folder in FOLDERS:
        link = ROOT / "src" / "specflight" / folder
        assert link.is_symlink()
        assert link.resolve() == ROOT / folder


def test_every_module_can_be_imported() -> None:
    modules = [
        f"specflight.{path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')}".removesuffix(".__init__")
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    assert len(modules) > 30
    assert [module for module in modules if find_spec(module) is None] == []
    python("import importlib\nfor module in " + repr(modules) + ": importlib.import_module(module)")


def test_the_wheel_holds_every_module(tmp_path: Path) -> None:
    if find_spec("pip") is None:
        pytest.skip("pip is needed to build a wheel")
    # A copy, since a build leaves its traces in the tree.
    names = [*FOLDERS, "src", "pyproject.toml", "README.md", "LICENSE"]
    source = tmp_path / "source"
    source.mkdir()
    for name in names:
        subprocess.run(["cp", "-a", str(ROOT / name), str(source)], check=True)
    for stale in source.glob("src/*.egg-info"):
        subprocess.run(["rm", "-r", str(stale)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(tmp_path / "wheel"), str(source)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "wheel").glob("specflight-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        entry_points = next(name for name in held if name.endswith("entry_points.txt"))
        assert b"specflight = specflight.tools.cli:app" in archive.read(entry_points)
        archive.extractall(tmp_path / "installed")
    expected = {
        f"specflight/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    expected |= {"specflight/__init__.py", "specflight/errors.py", "specflight/py.typed"}
    assert expected - held == set()
    assert [name for name in held if name.startswith("tests") or "__pycache__" in name] == []
    # What was built works without the checkout.
    code = "import specflight.client, specflight.http.app, specflight.tools.cli; print(specflight.__file__)"
    found = python(f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r}); {code}", cwd=tmp_path)
    assert Path(found) == tmp_path / "installed" / "specflight" / "__init__.py"


def test_the_version_is_told_once() -> None:
    assert specflight.__version__ == version("specflight")


BUILTINS: dict[str, tuple[type[Exception], int]] = {
    "InvalidRequest": (ValueError, 400),
    "Forbidden": (PermissionError, 403),
    "Unauthenticated": (PermissionError, 401),
    "NotFound": (LookupError, 404),
    "UnknownSpectrum": (LookupError, 404),
    "LimitExceeded": (Exception, 413),
    "QueryTimeout": (TimeoutError, 504),
    "ServiceUnavailable": (ConnectionError, 503),
    "DamagedData": (OSError, 500),
    "UnsupportedFile": (ValueError, 500),
    "SpecflightError": (Exception, 500),
}


def test_every_error_refines_a_builtin_and_knows_its_http_status() -> None:
    found = {
        name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, SpecflightError)
    }
    assert found.keys() == BUILTINS.keys() == set(errors.__all__)
    for name, (builtin, status) in BUILTINS.items():
        assert issubclass(found[name], builtin)
        assert found[name].http_status == status
        assert str(found[name]("one sentence")) == "one sentence"
