"""Listings of contexts, profiles and catalogues, as text, CSV and JSON.

Text and JSON are those of the service that ``dl.specClient`` was written for, to the blank; more keys follow its own.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard, TypeVar

import pyarrow as pa

from specflight.errors import InvalidRequest, NotFound
from specflight.flight.settings import ContextSettings, ProfileSettings

__all__ = [
    "FORMATS",
    "ContextDescription",
    "Listing",
    "TableDescription",
    "as_default",
    "catalogs_listing",
    "contexts_listing",
    "describe_table",
    "profiles_listing",
]

FORMATS = ("text", "csv", "json")
Listing = str | dict[str, Any] | list[dict[str, Any]]
"""Text or CSV as it goes out, or what becomes JSON, its keys in order."""

Described = TypeVar("Described")

_KNOWN_TABLES = {
    "specobj": "primary spectra: of each object the best observation",
    "specobjall": "all spectra, also repeated observations",
}


@dataclass(frozen=True, slots=True)
class TableDescription:
    """A catalogue for listings.

    Attributes
    ----------
    name : str
        ``schema.table``.
    description : str
        One line.
    rows : int
    schema : pyarrow.Schema
        Its columns; units and descriptions are in the metadata of the fields.
    """

    name: str
    description: str
    rows: int
    schema: pa.Schema


@dataclass(frozen=True, slots=True)
class ContextDescription:
    """A context for listings.

    Attributes
    ----------
    name : str
    about : ContextSettings
        As `specflight.flight.releases.about` gives them.
    spectra : int or None
        Number of spectra; None where that is not known yet.
    data : {'store', 'archive', 'none'}
        Where its spectra come from.
    tables : tuple of TableDescription
        Its catalogues.
    """

    name: str
    about: ContextSettings
    spectra: int | None
    data: Literal["store", "archive", "none"]
    tables: tuple[TableDescription, ...] = ()


def as_default(context: ContextDescription) -> ContextDescription:
    """The same context as it is listed under the name ``default``."""
    description = f"Default data context (default: {context.name})"
    return replace(context, name="default", about=context.about.model_copy(update={"description": description}))


def describe_table(
    context: str, key: str, rows: int, schema: pa.Schema, ingested: str, about: ContextSettings
) -> TableDescription:
    """Describe a catalogue for listings.

    Parameters
    ----------
    context : str
        Name of the context that it belongs to.
    key : str
        Its name in the manifest: without a schema where that is the context's name.
    rows : int
    schema : pyarrow.Schema
    ingested : str
        Description that its file had, may be empty.
    about : ContextSettings
        Settings of the context, whose `catalogs` say more than the file, by full name or key.
    """
    name = key if "." in key else f"{context}.{key}"
    told = about.catalogs.get(name) or about.catalogs.get(key) or ingested or _KNOWN_TABLES.get(key, "")
    return TableDescription(name, " ".join(told.split()), rows, schema)


def contexts_listing(contexts: Sequence[ContextDescription], name: str | None, fmt: str) -> Listing:
    """Contexts that can be named in requests, or one of them.

    Parameters
    ----------
    contexts : sequence of ContextDescription
        In the order of the listing; those that are not public are found by name only.
    name : str or None
        One context, whose description is an object whatever the format; all when None, empty or ``'None'``.
    fmt : {'text', 'csv', 'json'}

    Raises
    ------
    InvalidRequest
        If there is no such format.
    NotFound
        If there is no such context.
    """
    _check(fmt)
    if _given(name):
        return _context_object(_named({context.name: context for context in contexts}, name, "context"))
    public = [context for context in contexts if context.about.type == "public"]
    if fmt == "json":
        return {context.name: _context_object(context) for context in public}
    return _table(fmt, "context", ((context.name, _context_line(context)) for context in public))


def _context_line(context: ContextDescription) -> str:
    missing = ""
    if context.data == "none":
        missing = "(no spectra here)" if context.tables else "(no data here)"
    return f"{context.about.description} {missing}".strip()


def _context_object(context: ContextDescription) -> dict[str, Any]:
    about = context.about
    return {
        "description": about.description,
        "type": about.type,
        "catalog": about.catalog,
        "id_main": about.id_main,
        "redshift": about.redshift,
        "rest_frame": "true" if about.rest_frame else "false",
        "catalogs": {table.name: table.description for table in context.tables},
        "release": about.release,
        "survey": about.survey,
        "run2d": list(about.run2d),
        "spectra": context.spectra,
        "data": context.data,
    }


def profiles_listing(profiles: Mapping[str, ProfileSettings], name: str | None, fmt: str) -> Listing:
    """Profiles that can be named in requests, or one of them; see `contexts_listing`."""
    _check(fmt)
    if _given(name):
        return _profile_object(_named(profiles, name, "profile"))
    public = {profile: about for profile, about in profiles.items() if about.type == "public"}
    if fmt == "json":
        return {profile: _profile_object(about) for profile, about in public.items()}
    return _table(fmt, "profile", ((profile, about.description) for profile, about in public.items()))


def _profile_object(profile: ProfileSettings) -> dict[str, Any]:
    # Old clients know the key; there is no virtual storage behind this service.
    return {"description": profile.description, "type": profile.type, "vosRoot": ""}


def catalogs_listing(context: str, tables: Sequence[TableDescription], fmt: str) -> Listing:
    """Catalogues of a context.

    Parameters
    ----------
    context : str
        As the request names it, maybe ``default``.
    tables : sequence of TableDescription
        In the order of the listing.
    fmt : {'text', 'csv', 'json'}
        JSON tells the rows and the columns with their types, units and descriptions, too.

    Raises
    ------
    InvalidRequest
        If there is no such format.
    """
    _check(fmt)
    if fmt == "json":
        return [_table_object(table) for table in tables]
    heading = f"Catalogs used by '{context}' context:\n\n" if fmt == "text" else ""
    return heading + _table(fmt, "catalog", ((table.name, table.description) for table in tables), width=30)


def _table_object(table: TableDescription) -> dict[str, Any]:
    return {
        "name": table.name,
        "description": table.description,
        "rows": table.rows,
        "columns": [_column_object(field) for field in table.schema],
    }


def _column_object(field: pa.Field) -> dict[str, str]:
    told = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    # What Parquet notes for itself is nobody's business.
    told = {key: value for key, value in told.items() if not key.startswith("PARQUET:")}
    empty = dict.fromkeys(("name", "type", "unit", "description"), "")
    return empty | told | {"name": field.name, "type": str(field.type)}


def _check(fmt: str) -> None:
    if fmt not in FORMATS:
        raise InvalidRequest(f"format: '{fmt}' is not one of {', '.join(FORMATS)}")


def _given(name: str | None) -> TypeGuard[str]:
    """Whether there is a name: old clients write the text of Python's None."""
    return name not in (None, "", "None")


def _named(known: Mapping[str, Described], name: str, what: str) -> Described:
    if name not in known:
        raise NotFound(f"{what}: there is no {what} '{name}' (there are: {', '.join(known) or 'none'})")
    return known[name]


def _table(fmt: str, what: str, lines: Iterable[tuple[str, str]], width: int = 16) -> str:
    if fmt == "text":
        return "".join(f"{name:>{width}}   {description}\n" for name, description in lines)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([f"{what}_name", "description"])
    writer.writerows(lines)
    return out.getvalue()
