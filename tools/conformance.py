"""The conformance runner: every call of the unmodified old client against a running service, judged by Flight."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from specflight.client import Client
from specflight.errors import ServiceUnavailable, SpecflightError
from specflight.tools.legacycall import LegacyCall
from specflight.tools.legacyenv import CLIENT, legacy_python
from specflight.tools.legacyflow import FLOW, STORAGE
from specflight.tools.legacyrows import LISTINGS, PICTURES, QUERIES
from specflight.tools.legacyrun import Run, run_calls
from specflight.tools.legacysample import LACKING, Sample, find_sample
from specflight.tools.legacyspectra import GETSPEC
from specflight.tools.legacytruth import Truth

__all__ = ["CALLS", "SERVICE", "Outcome", "Report", "conformance", "flight_of", "make_calls"]

SERVICE = "http://127.0.0.1:6998/spec"
CALLS: tuple[LegacyCall, ...] = (*LISTINGS, *QUERIES, *GETSPEC, *PICTURES)
"""Those of the table of the calls against the old service, in its order."""

MENDED, OWN, REFUSED, LEFT_OUT, DIFFERS = "works now", "client's own", "refused", "left out", "DIFFERS"

TABLE_HEAD = ("| call | old service | now | result | note |", "|---|---|---|---|---|")
LONGEST = 120  # letters of a cell


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call.

    Attributes
    ----------
    call : str
        As in the table of the calls against the old service.
    old : str
        What the old service made of it: ``ok``, ``!``, ``FAIL``; ``new`` if it was not asked.
    verdict : str
        ``ok`` as before; ``works now``; ``client's own``, a fault that no service can mend; ``refused``, rightly;
        ``left out``, since the data lack what it asks for; ``DIFFERS`` from what it should be.
    result : str
        What came back, in short.
    note : str
        The reason.
    seconds : float
        What the call took.
    """

    call: str
    old: str
    verdict: str
    result: str
    note: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What became of all calls.

    Attributes
    ----------
    service : str
        Its URL.
    client : str
        The old client.
    context : str
        The context that the calls were about.
    calls, flow, storage : tuple of Outcome
        Those of the table, the notebooks from top to bottom, and the virtual storage.
    """

    service: str
    client: str
    context: str
    calls: tuple[Outcome, ...]
    flow: tuple[Outcome, ...]
    storage: tuple[Outcome, ...]

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """All of them."""
        return self.calls + self.flow + self.storage

    @property
    def differing(self) -> tuple[Outcome, ...]:
        """The calls that did not do what they should."""
        return tuple(outcome for outcome in self.outcomes if outcome.verdict == DIFFERS)

    @property
    def summary(self) -> str:
        """One line."""
        parts = [f"{name}: {_counted(group)}" for name, group in self._groups() if group]
        return f"{CLIENT} against {self.service}, context {self.context}. " + "; ".join(parts) + "."

    def _groups(self) -> tuple[tuple[str, tuple[Outcome, ...]], ...]:
        return (
            (f"{len(self.calls)} calls of the table", self.calls),
            (f"{len(self.flow)} of the notebooks", self.flow),
            (f"{len(self.storage)} of the storage", self.storage),
        )

    def markdown(self) -> str:
        """The tables, what is not as it should be, and the summary."""
        parts = []
        for title, group in self._groups():
            if group:
                parts += [f"## {title}", "\n".join([*TABLE_HEAD, *map(_line, group)])]
        if self.differing:
            wrong = [f"- `{outcome.call}`: {outcome.note}" for outcome in self.differing]
            parts += ["## Not as they should be", "\n".join(wrong)]
        return "\n\n".join([*parts, self.summary]) + "\n"

    def as_json(self) -> str:
        """All of it."""
        return json.dumps({**asdict(self), "summary": self.summary}, indent=1) + "\n"


def _counted(group: Iterable[Outcome]) -> str:
    counts = Counter(outcome.verdict for outcome in group)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def _line(outcome: Outcome) -> str:
    call, result = (f"`{_cell(text)}`" if text else "" for text in (outcome.call, outcome.result))
    return f"| {call} | {outcome.old} | {outcome.verdict} | {result} | {_cell(outcome.note)} |"


def _cell(text: str) -> str:
    short = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return short.replace("\n", "\\n").replace("|", "\\|").replace("`", "'")


def conformance(
    url: str = SERVICE,
    *,
    environment: Path | None = None,
    token: str | None = None,
    say: Callable[[str], object] = print,
) -> Report:
    """Make every call of the unmodified old client against a running service.

    Parameters
    ----------
    url : str
        Of the service, ``http://host:port/spec``; its virtual storage is at ``http://host:port/storage``.
    environment : Path or None
        Virtual environment with the old client, made if it is not there; one in the user's cache folder when None.
    token : str or None
        Of a user, for the virtual storage; without one its calls are left out, and named so.
    say : callable
        Told what takes long.

    Returns
    -------
    Report
        Nothing is wrong if its `differing` is empty.

    Raises
    ------
    ClientUnavailable
        If the old client is not installed and cannot be.
    ServiceUnavailable
        If there is no service at `url`.
    InvalidRequest
        If its default context has too few spectra, or the token is not one.
    """
    url = url.rstrip("/")
    with Client(flight_of(url)) as client:
        sample = find_sample(client)
        python = legacy_python(environment, say)
        say(f"asking {url} through {CLIENT}")
        calls = make_calls(python, url, CALLS, client, sample)
        if token is None:
            flow = make_calls(python, url, FLOW, client, sample)
            stored = tuple(_left_out(call, "a token is needed") for call in STORAGE)
        else:
            both = make_calls(python, url, FLOW + STORAGE, client, sample, token)
            flow, stored = both[: len(FLOW)], both[len(FLOW) :]
    return Report(url, CLIENT, sample.context, calls, flow, stored)


def flight_of(url: str) -> str:
    """Location of the first Flight server of a service; ServiceUnavailable if there is none."""
    try:
        answer = httpx.get(f"{url}/flight", timeout=10.0).raise_for_status()
        return str(answer.json()["endpoints"][0])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError) as error:
        raise ServiceUnavailable(f"url: {url} is not a specflight service: {error}") from None


def make_calls(
    python: Path, url: str, calls: tuple[LegacyCall, ...], client: Client, sample: Sample, token: str | None = None
) -> tuple[Outcome, ...]:
    """Make calls in one process of the old client, and judge what they return.

    Parameters
    ----------
    python : Path
        Of the old client's environment.
    url : str
        Of the service.
    calls : tuple of LegacyCall
    client : Client
        Of the same service's Flight server: the truth.
    sample : Sample
    token : str or None
        Of the user who has logged in; nobody when None.

    Returns
    -------
    tuple of Outcome
        One for each call.
    """
    lacking = {call.name: missing for call in calls if (missing := _lacking(call, sample))}
    possible = [(call.name, call.code) for call in calls if call.name not in lacking]
    values = sample.values() | {"room": f"specflight-{secrets.token_hex(4)}"}
    with tempfile.TemporaryDirectory(prefix="specflight-") as folder:
        run = run_calls(python, Path(folder), url, possible, values, token)
        truth = Truth(client, sample, run.results)
        return tuple(
            _left_out(call, lacking[call.name]) if call.name in lacking else _judged(call, run, truth) for call in calls
        )


def _lacking(call: LegacyCall, sample: Sample) -> str:
    """What the data are without that a call needs."""
    values = sample.values()
    names = compile(call.code, call.name, "eval").co_names
    return next((LACKING[name] for name in names if name in LACKING and values[name] is None), "")


def _left_out(call: LegacyCall, why: str) -> Outcome:
    return Outcome(call.name, call.old, LEFT_OUT, "", why, 0.0)


def _judged(call: LegacyCall, run: Run, truth: Truth) -> Outcome:
    result = run.results.get(call.name)
    if result is None:
        return Outcome(call.name, call.old, DIFFERS, "", run.end, 0.0)
    try:
        complaint = call.check(result, truth)
    except SpecflightError as error:
        complaint = f"cannot be judged, for Flight says: {error}"
    right = MENDED if call.old in ("!", "FAIL") else "ok"
    verdict = DIFFERS if complaint else {"service": right, "client": OWN, "caller": REFUSED}[call.whose]
    return Outcome(call.name, call.old, verdict, str(result), complaint or call.why, result.told["seconds"])
