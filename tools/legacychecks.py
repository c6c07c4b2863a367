"""What the old client's calls for data have to return, judged by the same data through Flight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from specflight.tools.legacysample import SIGNED, Sample
from specflight.tools.legacytruth import Check, Result, Truth, Vectors

__all__ = [
    "all_of",
    "answers",
    "contains",
    "empty",
    "equals",
    "error_text",
    "found",
    "originals",
    "raises",
    "rows",
    "spectra",
]


def all_of(*checks: Check) -> Check:
    """The first complaint of several."""
    return lambda result, truth: next((said for check in checks if (said := check(result, truth))), None)


def equals(value: object) -> Check:
    """The value itself, of the same type; a function of the sample gives one that depends on the data."""

    def check(result: Result, truth: Truth) -> str | None:
        wanted = value(truth.sample) if callable(value) else value
        got = [item.value for item in result.items] if result.kind in ("list", "tuple") else result.value
        same = list(wanted) == got if isinstance(wanted, tuple) else wanted == got
        return None if same and result.kind == type(wanted).__name__ else f"is not {wanted!r}"

    return check


def contains(*parts: str | Callable[[Sample], str], kind: str = "str") -> Check:
    """A text with these parts, or a dict with these keys."""

    def check(result: Result, truth: Truth) -> str | None:
        if result.kind != kind:
            return f"is not of type {kind}"
        wanted = [part(truth.sample) if callable(part) else part for part in parts]
        missing = [part for part in wanted if part not in result.value]
        return f"lacks {missing}" if missing or not result.value else None

    return check


def answers(test: Callable[[Any], bool], what: str) -> Check:
    """A value that passes a test."""
    return lambda result, truth: None if result.kind != "error" and test(result.value) else f"is not {what}"


def error_text(part: str | Callable[[Sample], str]) -> Check:
    """The service's sentence, which the client hands on as text or bytes: it has to name the value at fault."""

    def check(result: Result, truth: Truth) -> str | None:
        text = result.content().decode(errors="replace") if result.kind == "bytes" else str(result.value)
        value = part(truth.sample) if callable(part) else part
        good = text.startswith("Error: ") and value in text
        return None if good else f"is not a sentence of the service that names {value}"

    return check


def empty(result: Result, truth: Truth) -> str | None:
    """An array of no spectra."""
    return None if result.kind == "ndarray" and len(result.array()) == 0 else "is not an empty array"


def raises(*errors: str, saying: str = "") -> Check:
    """An exception of one of these classes, whose text has a part."""

    def check(result: Result, truth: Truth) -> str | None:
        if result.kind != "error":
            return f"does not raise {' or '.join(errors)}"
        good = result.told["error"] in errors and saying in result.told["message"]
        return None if good else f"does not raise {' or '.join(errors)} {saying}".rstrip()

    return check


def found(query: Callable[[Sample], dict[str, Any]], order: bool = False, limit: int | None = None) -> Check:
    """Ids that the query finds through Flight, as the old client types them: int64, or text from 2**63 on.

    With `order` in the same order; with `limit` any so many of them.
    """

    def check(result: Result, truth: Truth) -> str | None:
        true = [int(i) for i in truth.client.query(**query(truth.sample))]
        if result.kind != "ndarray":
            return "is not an ndarray"
        array = result.array()
        got = [int(i) for i in array]
        dtype = "<U20" if any(i >= SIGNED for i in got) else "<i8"
        if array.ndim != 1 or array.dtype.str != dtype:
            return f"is not of one dimension and dtype {dtype}"
        if limit is not None:
            good = len(got) == min(limit, len(true)) and set(got) <= set(true) and len(set(got)) == len(got)
        else:
            good = got == true if order else sorted(got) == sorted(true)
        return None if good else f"are not the {len(true)} ids that the query finds through Flight"

    return check


def rows(columns: str, query: Callable[[Sample], dict[str, Any]]) -> Check:
    """An astropy Table of these columns, with the rows that the query finds through Flight."""

    def check(result: Result, truth: Truth) -> str | None:
        names = columns.split(",")
        table: pa.Table = truth.client.query(**query(truth.sample), fields=columns).select(names)
        if result.kind != "Table" or result.array().dtype.names != tuple(names):
            return f"is not a Table of {columns}"
        got = sorted(zip(*(result.array()[name].astype(str) for name in names), strict=True))
        true = sorted(zip(*(_as_text(table[name]) for name in names), strict=True))
        good = len(got) == len(true) and all(
            _alike(a, b) for x, y in zip(got, true, strict=True) for a, b in zip(x, y, strict=True)
        )
        return None if good else f"does not have the {len(true)} rows that the query finds through Flight"

    return check


def _as_text(column: pa.ChunkedArray) -> list[str]:
    return [str(value) for value in column.to_pylist()]


def _alike(a: str, b: str) -> bool:
    # Floats come as the shortest text of their precision; ids have to agree in every digit.
    return a == b or ("." in a + b and bool(np.isclose(float(a), float(b), rtol=1e-6)))


def spectra(
    ids: str,
    form: str = "ndarray",
    columns: str | None = None,
    cutout: str | None = None,
    any_order: bool = False,
) -> Check:
    """The spectra of these fields of the sample, each bit as through Flight, padding included.

    `form` is the type of the whole, or with ``list of`` that of each; a Spectrum1D is compared to float32 precision,
    for it has other units.
    """

    def check(result: Result, truth: Truth) -> str | None:
        true = truth.spectra(ids, columns, cutout)
        each = form.removeprefix("list of ")
        parts = result.items if each != form else [result]
        if each != form and (result.kind != "list" or len(parts) != len(true)):
            return f"is not a list of {len(true)}"
        if any(part.kind != each for part in parts):
            return f"is not {form}"
        if each == "Spectrum1D":
            wanted = list(true) if each != form else [true]
            return next(
                (said for part, one in zip(parts, wanted, strict=True) if (said := _spectrum1d(part, one))), None
            )
        got = np.stack([part.array() for part in parts]) if each != form else result.array()
        return _bits(got, true) if not any_order or got.ndim == 1 else _bits(_sorted(got), _sorted(true))

    return check


def _sorted(spectra: Vectors) -> Vectors:
    ordered: list[Vectors] = list(spectra) if spectra.ndim > 1 else [spectra]
    ordered.sort(key=lambda spectrum: spectrum.tobytes())
    return np.stack(ordered)


def _bits(got: Vectors, true: Vectors) -> str | None:
    if got.shape != true.shape:
        return f"has shape {got.shape}, not {true.shape}"
    if got.dtype != true.dtype:
        return f"has dtype {got.dtype}, not {true.dtype}"
    wrong = [name for name in true.dtype.names or () if got[name].tobytes() != true[name].tobytes()]
    return f"differs from Flight in {', '.join(wrong)}" if wrong else None


def _spectrum1d(part: Result, true: Vectors) -> str | None:
    if part.told["shape"] != list(true.shape):
        return f"has shape {tuple(part.told['shape'])}, not {true.shape}"
    arrays = part.arrays()
    loglam = true["loglam"][0] if true.ndim == 2 else true["loglam"]
    wanted = {"wavelength": 10.0 ** loglam.astype(float), "flux": 1e-17 * true["flux"].astype(float)}
    wanted["model"] = 1e-17 * true["model"].astype(float)
    wrong = [name for name, values in wanted.items() if not np.allclose(arrays[name], values, rtol=1e-5, atol=1e-37)]
    return f"differs from Flight in {', '.join(wrong)}" if wrong else None


def originals(ids: str, one: bool = False) -> Check:
    """Bytes of the original FITS files; not in a list for `one`."""

    def check(result: Result, truth: Truth) -> str | None:
        true: list[bytes] = truth.client.getSpec(truth.ids(ids), fmt="FITS")
        parts = [result] if one else result.items
        if any(part.kind != "bytes" for part in parts) or len(parts) != len(true):
            return f"is not {len(true)} times bytes"
        same = all(part.content() == file for part, file in zip(parts, true, strict=True))
        return None if same else "are not the original files"

    return check
