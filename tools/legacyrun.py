"""A process of the old client that makes calls."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specflight.errors import InvalidRequest
from specflight.tools import legacycalls
from specflight.tools.legacytruth import Result

__all__ = ["Run", "run_calls"]

ANONYMOUS = "anonymous.0.0.anon_access"
RUN_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Run:
    """What calls returned.

    Attributes
    ----------
    results : dict of str to Result
        By name of the call; none of those that the process did not come to.
    end : str
        How the process ended, for those.
    """

    results: dict[str, Result]
    end: str


def run_calls(
    python: Path,
    folder: Path,
    url: str,
    calls: Iterable[tuple[str, str]],
    values: dict[str, Any],
    token: str | None = None,
) -> Run:
    """Make calls one after the other in one process of the old client.

    Parameters
    ----------
    python : Path
        Of the old client's environment.
    folder : Path
        Empty; the process works in it, and leaves arrays and images there.
    url : str
        Of the service; its virtual storage is beside it.
    calls : iterable of (name, code)
        As `specflight.tools.legacycalls` makes them.
    values : dict
        What the code names, as JSON has it.
    token : str or None
        Of the user who has logged in; nobody when None.

    Raises
    ------
    InvalidRequest
        If the token is not one.
    """
    storage = url.removesuffix("/spec") + "/storage"
    known = {"user": (token or ANONYMOUS).partition(".")[0], "nobody": ANONYMOUS, "storage": storage}
    task = {"service": url, "storage": storage, "values": known | values, "calls": list(calls)}
    (folder / "task.json").write_text(json.dumps(task))
    _log_in(folder / "home" / ".datalab", token)
    environment = {
        "HOME": str(folder / "home"),
        "MPLBACKEND": "Agg",
        "PATH": os.environ.get("PATH", ""),
        "TMPDIR": str(folder),
    }
    command = [str(python), str(Path(legacycalls.__file__).resolve())]
    with open(folder / "lines", "w+") as out, open(folder / "said", "w+") as err:
        try:
            ran = subprocess.run(command, cwd=folder, env=environment, stdout=out, stderr=err, timeout=RUN_SECONDS)
            end = f"the client's process ended with status {ran.returncode} before this call"
        except subprocess.TimeoutExpired:
            end = f"the call was not reached in {RUN_SECONDS:g} s"
        out.seek(0)
        err.seek(0)
        lines = [json.loads(line) for line in out if line.endswith("\n")]
        said = err.read().strip().splitlines()
    return Run({line["name"]: Result(line, folder) for line in lines}, end + (f": {said[-1]}" if said else ""))


def _log_in(folder: Path, token: str | None) -> None:
    """Files by which the client knows who has logged in; without them it looks for a terminal."""
    folder.mkdir(parents=True)
    if token is None:
        (folder / "dl.conf").write_text("[login]\nstatus = loggedout\nuser =\n")
        return
    user, dot, _ = token.partition(".")
    if not dot or "/" in user:
        raise InvalidRequest(f"token: '{token[:12]}...' is not one")
    (folder / "dl.conf").write_text(f"[login]\nstatus = loggedin\nuser = {user}\n")
    (folder / f"id_token.{user}").write_text(token)
