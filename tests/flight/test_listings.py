from __future__ import annotations

import csv
import io
import json
from typing import Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specflight.errors import InvalidRequest, NotFound
from specflight.flight.listings import (
    ContextDescription,
    TableDescription,
    as_default,
    catalogs_listing,
    contexts_listing,
    describe_table,
    profiles_listing,
)
from specflight.flight.releases import about
from specflight.flight.settings import ContextSettings, Settings

SCHEMA = pa.schema(
    [
        pa.field("specobjid", pa.uint64(), metadata={"description": "unique", "PARQUET:field_id": "1"}),
        pa.field("z", pa.float32(), metadata={"unit": "km/s", "name": "another", "ucd": "src.redshift"}),
        pa.field("mags", pa.list_(pa.float32())),
    ]
)
SETTINGS = Settings.model_validate(
    {
        "contexts": {
            "sdss_dr12": {"description": 'ours, "best"', "rest_frame": True},
            "hidden": {"type": "private", "description": "secret"},
        },
        "profiles": {"dev": {"description": "DEV, may fail"}, "lab": {"type": "private"}},
    }
)


def context(
    name: str,
    spectra: int | None = 5,
    data: Literal["store", "archive", "none"] = "store",
    tables: tuple[TableDescription, ...] = (),
) -> ContextDescription:
    return ContextDescription(name, about(name, SETTINGS), spectra, data, tables)


def tables(name: str) -> tuple[TableDescription, ...]:
    settings = about(name, SETTINGS)
    return tuple(describe_table(name, key, 7, SCHEMA, "", settings) for key in ("specobj", "specobjall"))


CONTEXTS = [
    context("sdss_dr12", tables=tables("sdss_dr12")),
    context("sdss_dr16", spectra=None, data="archive"),
    context("hidden"),
    context("sdss_dr15", spectra=0, data="none"),
    context("a_context_of_a_long_name", spectra=0, data="none", tables=tables("sdss_dr12")),
]


def test_contexts_as_text_are_right_aligned_lines() -> None:
    assert contexts_listing([as_default(CONTEXTS[1]), *CONTEXTS], None, "text") == (
        "         default   Default data context (default: sdss_dr16)\n"
        '       sdss_dr12   ours, "best"\n'
        "       sdss_dr16   SDSS DR16: SDSS-I/II, SEGUE, BOSS and eBOSS spectra, the main sample of eBOSS complete\n"
        "       sdss_dr15   SDSS DR15: SDSS-I/II, SEGUE, BOSS and eBOSS spectra, none new since DR14 (no data here)\n"
        "a_context_of_a_long_name   (no spectra here)\n"
    )


def test_contexts_as_csv_are_quoted_where_need_be() -> None:
    text = contexts_listing(CONTEXTS[:1] + CONTEXTS[3:4], None, "csv")
    assert isinstance(text, str)
    lines = text.split("\n")
    assert lines[:2] == ["context_name,description", 'sdss_dr12,"ours, ""best"""']
    assert lines[2].startswith('sdss_dr15,"SDSS DR15: ')
    assert lines[2].endswith('(no data here)"')
    assert lines[3:] == [""]


def test_one_context_is_an_object_with_the_keys_of_old_clients_first() -> None:
    for fmt in ("text", "csv", "json"):
        assert json.dumps(contexts_listing(CONTEXTS, "sdss_dr12", fmt)) == json.dumps(
            {
                "description": 'ours, "best"',
                "type": "public",
                "catalog": "sdss_dr12.specobj",
                "id_main": "specobjid",
                "redshift": "z",
                "rest_frame": "true",
                "catalogs": {
                    "sdss_dr12.specobj": "primary spectra: of each object the best observation",
                    "sdss_dr12.specobjall": "all spectra, also repeated observations",
                },
                "release": "DR12",
                "survey": "sdss",
                "run2d": ["26", "103", "104", "v5_7_0", "v5_7_2"],
                "spectra": 5,
                "data": "store",
            }
        )


def test_all_contexts_are_an_object_by_name() -> None:
    listing = contexts_listing(CONTEXTS, None, "json")
    assert isinstance(listing, dict)
    assert list(listing) == ["sdss_dr12", "sdss_dr16", "sdss_dr15", "a_context_of_a_long_name"]
    for name, found in listing.items():
        assert found == contexts_listing(CONTEXTS, name, "text")
    assert (listing["sdss_dr16"]["spectra"], listing["sdss_dr16"]["data"]) == (None, "archive")
    assert listing["sdss_dr16"]["rest_frame"] == "false"


def test_a_context_without_data_says_so() -> None:
    listing = contexts_listing(CONTEXTS, "sdss_dr15", "json")
    assert isinstance(listing, dict)
    assert (listing["spectra"], listing["data"]) == (0, "none")


def test_default_is_described_as_the_context_that_it_stands_for() -> None:
    alias = contexts_listing([as_default(CONTEXTS[0]), *CONTEXTS], "default", "json")
    itself = contexts_listing(CONTEXTS, "sdss_dr12", "json")
    assert isinstance(alias, dict)
    assert isinstance(itself, dict)
    assert alias == itself | {"description": "Default data context (default: sdss_dr12)"}


def test_a_private_context_is_found_by_name_and_not_listed() -> None:
    for fmt in ("text", "csv", "json"):
        assert "hidden" not in contexts_listing(CONTEXTS, None, fmt)
    listing = contexts_listing(CONTEXTS, "hidden", "text")
    assert isinstance(listing, dict)
    assert (listing["description"], listing["type"]) == ("secret", "private")


@pytest.mark.parametrize("name", [None, "", "None"])
@pytest.mark.parametrize("fmt", ["text", "csv", "json"])
def test_no_name_stands_for_all(name: str | None, fmt: str) -> None:
    assert contexts_listing(CONTEXTS, name, fmt) == contexts_listing(CONTEXTS, None, fmt)
    assert profiles_listing(SETTINGS.profiles, name, fmt) == profiles_listing(SETTINGS.profiles, None, fmt)
    assert not isinstance(contexts_listing(CONTEXTS, name, fmt), dict) or fmt == "json"


def test_unknown_names_and_formats_are_named() -> None:
    with pytest.raises(NotFound, match=r"context: there is no context 'nosuch' \(there are: sdss_dr12, .*"):
        contexts_listing(CONTEXTS, "nosuch", "text")
    with pytest.raises(NotFound, match=r"profile: there is no profile 'nosuch' \(there are: default, dev, lab\)"):
        profiles_listing(SETTINGS.profiles, "nosuch", "text")
    unknown = "format: 'xml' is not one of text, csv, json"
    for name in (None, "sdss_dr12", "default"):
        with pytest.raises(InvalidRequest, match=unknown):
            contexts_listing(CONTEXTS, name, "xml")
        with pytest.raises(InvalidRequest, match=unknown):
            profiles_listing(SETTINGS.profiles, name, "xml")
    with pytest.raises(InvalidRequest, match=unknown):
        catalogs_listing("default", (), "xml")


def test_profiles_in_every_format() -> None:
    profiles = SETTINGS.profiles
    assert profiles_listing(profiles, None, "text") == (
        "         default   Default service\n             dev   DEV, may fail\n"
    )
    assert profiles_listing(profiles, None, "csv") == (
        'profile_name,description\ndefault,Default service\ndev,"DEV, may fail"\n'
    )
    everything = profiles_listing(profiles, None, "json")
    assert json.dumps(everything) == json.dumps(
        {
            "default": {"description": "Default service", "type": "public", "vosRoot": ""},
            "dev": {"description": "DEV, may fail", "type": "public", "vosRoot": ""},
        }
    )
    assert profiles_listing(profiles, "lab", "text") == {"description": "", "type": "private", "vosRoot": ""}


def test_catalogues_in_every_format() -> None:
    found = tables("sdss_dr12")
    assert catalogs_listing("default", found, "text") == (
        "Catalogs used by 'default' context:\n\n"
        "             sdss_dr12.specobj   primary spectra: of each object the best observation\n"
        "          sdss_dr12.specobjall   all spectra, also repeated observations\n"
    )
    assert catalogs_listing("default", found, "csv") == (
        "catalog_name,description\n"
        "sdss_dr12.specobj,primary spectra: of each object the best observation\n"
        'sdss_dr12.specobjall,"all spectra, also repeated observations"\n'
    )
    assert json.dumps(catalogs_listing("default", found[:1], "json")) == json.dumps(
        [
            {
                "name": "sdss_dr12.specobj",
                "description": "primary spectra: of each object the best observation",
                "rows": 7,
                "columns": [
                    {"name": "specobjid", "type": "uint64", "unit": "", "description": "unique"},
                    {"name": "z", "type": "float", "unit": "km/s", "description": "", "ucd": "src.redshift"},
                    {"name": "mags", "type": "list<item: float>", "unit": "", "description": ""},
                ],
            }
        ]
    )


def test_a_context_without_catalogues_lists_none() -> None:
    assert catalogs_listing("mine", (), "text") == "Catalogs used by 'mine' context:\n\n"
    assert catalogs_listing("mine", (), "csv") == "catalog_name,description\n"
    assert catalogs_listing("mine", (), "json") == []


@pytest.mark.parametrize(
    ("key", "ingested", "said", "expected"),
    [
        ("specobj", "", {}, ("c.specobj", "primary spectra: of each object the best observation")),
        ("specobj", "from its\n  file", {}, ("c.specobj", "from its file")),
        ("specobj", "from its file", {"specobj": "said"}, ("c.specobj", "said")),
        ("specobj", "from its file", {"specobj": "said", "c.specobj": "in full"}, ("c.specobj", "in full")),
        ("d.lines", "", {}, ("d.lines", "")),
        ("d.lines", "", {"d.lines": "said"}, ("d.lines", "said")),
        ("d.specobj", "", {}, ("d.specobj", "")),
    ],
)
def test_a_catalogue_is_described_by_the_operator_then_its_file_then_its_name(
    key: str, ingested: str, said: dict[str, str], expected: tuple[str, str]
) -> None:
    table = describe_table("c", key, 3, SCHEMA, ingested, ContextSettings(catalogs=said))
    assert (table.name, table.description) == expected
    assert (table.rows, table.schema) == (3, SCHEMA)


# What csv.reader does not keep: a bare carriage return is a line's end to it, NUL is refused.
LINES = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))


@given(st.lists(st.tuples(st.text("abc_.", min_size=1), LINES)))
def test_whatever_a_description_holds_csv_gives_it_back(lines: list[tuple[str, str]]) -> None:
    found = tuple(TableDescription(name, description, 0, SCHEMA) for name, description in lines)
    text = catalogs_listing("default", found, "csv")
    assert isinstance(text, str)
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["catalog_name", "description"], *map(list, lines)]
