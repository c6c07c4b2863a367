"""The old client, astro-datalab, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from specflight.errors import InvalidRequest, ServiceUnavailable

__all__ = ["CLIENT", "ClientUnavailable", "legacy_python"]

PACKAGE, VERSION = "astro-datalab", "2.24.0"
CLIENT = f"{PACKAGE}=={VERSION}"
PYTHONS = ("python3.11", "python3.10")  # the newest that its dependencies are built for
INSTALL_SECONDS = 900.0


class ClientUnavailable(ServiceUnavailable):
    """The old client is not installed and cannot be: no Python that it runs with, or no package index."""


def legacy_python(environment: Path | None, say: Callable[[str], object]) -> Path:
    """Python of an environment that has the old client; it is made where there is none yet.

    Parameters
    ----------
    environment : Path or None
        A virtual environment; one in the user's cache folder when None. One that has the client is left as it is.
    say : callable
        Told what takes long.

    Raises
    ------
    ClientUnavailable
        If it has to be installed and cannot be.
    InvalidRequest
        If the folder holds something else.
    """
    folder = (environment or _cache() / f"legacy-client-{VERSION}").absolute()
    python = folder / "bin" / "python"
    if _has_client(python):
        return python
    if folder.exists() and not (folder / "pyvenv.cfg").exists() and any(folder.iterdir()):
        raise InvalidRequest(f"environment: {folder} is a folder of something else, not a virtual environment")
    if not python.exists():
        _run([str(_interpreter()), "-m", "venv", str(folder)], "a virtual environment cannot be made")
    say(f"installing {CLIENT} in {folder}")
    _run([str(python), "-m", "pip", "install", "--quiet", CLIENT], f"{CLIENT} cannot be installed")
    return python


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "specflight"


def _interpreter() -> Path:
    """A Python that the client runs with, which really starts: a name may be a mere shim."""
    ours = [sys.executable] if sys.version_info[:2] in ((3, 10), (3, 11)) else []
    for name in (*PYTHONS, *ours):
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0:
            return Path(found)
    raise ClientUnavailable(f"{CLIENT} runs with CPython 3.10 and 3.11 only, and neither is here")


def _has_client(python: Path) -> bool:
    # pip installs a package after those that it needs: when it is there, they are.
    ask = f"import importlib.metadata as m; raise SystemExit(m.version('{PACKAGE}') != '{VERSION}')"
    return python.exists() and subprocess.run([python, "-c", ask], capture_output=True).returncode == 0


def _run(command: list[str], failure: str) -> None:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise ClientUnavailable(f"{failure}: not done after {INSTALL_SECONDS:g} s") from None
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip().splitlines()
        raise ClientUnavailable(f"{failure}: {said[-1] if said else f'status {ran.returncode}'}")
