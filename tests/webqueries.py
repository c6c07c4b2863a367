"""Short words for tests of ``/query``."""

from __future__ import annotations

import csv
import io

import httpx

CONTEXT = "sdss_dr16"
EVERY = f"{CONTEXT}.specobjall"
HUGE = 2**63 + 2**40
MEDIA = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
    "votable": "application/x-votable+xml",
}


def old(fields: str = "specobjid", catalog: str = EVERY, cond: str = "", spectrum: str = "") -> dict[str, str]:
    """Query string of the old client, in its order."""
    return {
        "id": spectrum,
        "fields": fields,
        "catalog": catalog,
        "cond": cond,
        "context": CONTEXT,
        "profile": "default",
        "debug": "False",
        "verbose": "False",
    }


def rows(text: str) -> list[list[str]]:
    """Rows of a CSV, the header first."""
    return list(csv.reader(io.StringIO(text), strict=True))


def ids(answer: httpx.Response) -> list[int]:
    """Identifiers in an answer as CSV."""
    assert answer.status_code == 200, answer.text
    header, *found = rows(answer.text)
    assert header[0] == "specobjid"
    return [int(row[0]) for row in found]


def refused(answer: httpx.Response, status: int) -> str:
    """Text of a refusal with a status."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    return answer.text
