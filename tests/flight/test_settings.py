from __future__ import annotations

from pathlib import Path

import pytest

from specflight.errors import InvalidRequest
from specflight.flight.settings import ContextSettings, ProfileSettings, Settings, load_settings

Model = type[Settings] | type[ContextSettings] | type[ProfileSettings]


def write(folder: Path, text: str) -> Path:
    (folder / "specflight.toml").write_text(text)
    return folder


def test_a_data_directory_needs_no_settings(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    assert (settings.max_ids, settings.max_rows, settings.contexts) == (1_000_000, 5_000_000, {})


def test_settings_come_from_the_file(tmp_path: Path) -> None:
    text = 'max_ids = 7\n[contexts.sdss_dr9]\nrelease = "DR9"\ndescription = "ninth"\narchive = "trees/dr9"\n'
    settings = load_settings(write(tmp_path, text))
    assert settings.max_ids == 7
    assert settings.contexts == {
        "sdss_dr9": ContextSettings(release="DR9", description="ninth", archive=Path("trees/dr9"))
    }


EXAMPLE = """\
# Every key is optional; without this file the contexts are what was ingested.

# `default` stands for this one; when not given, for the newest.
default_context = "sdss_dr17"

# A profile tells clients which deployment they talk to; `default` is always there.
[profiles.default]
description = "Default service"

[profiles.dev]
description = "Next version, may be down"

# Ingested by `specflight ingest --context sdss_dr17 ...`. Description, release and run2d of sdss_dr8 ... sdss_dr17 are
# known; what is said here wins.
[contexts.sdss_dr17]
description = "SDSS DR17, the plates of the Virgo cluster"

[contexts.sdss_dr17.catalogs]
specobjall = "all spectra of DR17"
"sdss_dr12.emissionlinesport" = "Portsmouth emission lines"

# Served from FITS trees that were never ingested.
[contexts.sdss_dr16]
archive = "/sas/dr16"

[contexts.sdss_dr14]
archive = "/sas/dr14"

# Named, but without data of their own: listings say so.
[contexts.sdss_dr15]
[contexts.sdss_dr13]
[contexts.sdss_dr12]
[contexts.sdss_dr11]
[contexts.sdss_dr10]
[contexts.sdss_dr9]
[contexts.sdss_dr8]

# Another survey says everything itself.
[contexts.simulated_1]
description = "Mock quasars"
type = "private"                 # left out of listings
catalog = "specobjall"           # of queries that name none
redshift = "z_true"
rest_frame = true
run2d = [26, "v5_13_2"]
survey = "mocks"                 # contexts of one survey stand in for each other in `default`
"""


def test_the_example_for_all_releases_is_understood(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, EXAMPLE))
    assert set(settings.contexts) == {"simulated_1", *(f"sdss_dr{number}" for number in range(8, 18))}
    assert settings.default_context == "sdss_dr17"
    assert {name: profile.description for name, profile in settings.profiles.items()} == {
        "default": "Default service",
        "dev": "Next version, may be down",
    }
    assert settings.contexts["sdss_dr16"].archive == Path("/sas/dr16")
    assert settings.contexts["sdss_dr17"].catalogs == {
        "specobjall": "all spectra of DR17",
        "sdss_dr12.emissionlinesport": "Portsmouth emission lines",
    }
    assert settings.contexts["simulated_1"] == ContextSettings(
        description="Mock quasars",
        type="private",
        catalog="specobjall",
        redshift="z_true",
        rest_frame=True,
        run2d=("26", "v5_13_2"),
        survey="mocks",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"default": ("Default service", "public")}),
        ("[profiles.default]\ntype = 'private'", {"default": ("Default service", "private")}),
        (
            "[profiles.b]\n[profiles.default]\ndescription = 'ours'\n[profiles.a]\ntype = 'private'",
            {"default": ("ours", "public"), "b": ("", "public"), "a": ("", "private")},
        ),
    ],
)
def test_there_is_always_a_default_profile_and_it_comes_first(
    tmp_path: Path, text: str, expected: dict[str, tuple[str, str]]
) -> None:
    profiles = load_settings(write(tmp_path, text)).profiles
    assert {name: (profile.description, profile.type) for name, profile in profiles.items()} == expected
    assert list(profiles) == list(expected)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECFLIGHT_MAX_IDS", "9")
    monkeypatch.setenv("SPECFLIGHT_CONTEXTS__SDSS_DR9__RELEASE", "DR9b")
    settings = load_settings(write(tmp_path, 'max_ids = 7\nmax_rows = 8\n[contexts.sdss_dr9]\nrelease = "DR9"\n'))
    assert (settings.max_ids, settings.max_rows) == (9, 8)
    assert settings.contexts["sdss_dr9"].release == "DR9b"


def test_a_variable_of_the_tests_is_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECFLIGHT_REAL_DATA", "/nowhere")
    assert load_settings(tmp_path).contexts == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("max_ids = 0", "max_ids"),
        ("max_rows = 'many'", "max_rows.*'many'"),
        ("max_clause = -1", "max_clause.*-1"),
        ("max_nesting = 0", "max_nesting"),
        ("query_seconds = 0", "query_seconds"),
        ("query_threads = 1.5", "query_threads.*1.5"),
        ("drain_seconds = -2", "drain_seconds.*-2"),
        ("max_idz = 3", "max_idz"),
        ("[contexts.a]\nfolder = 'x'", "contexts.a.folder"),
        ("[contexts.default]\nrelease = 'DR9'", "contexts.*'default'"),
        ("[contexts.'../etc']", "contexts.*'../etc'"),
        ("[contexts.a]\ntype = 'secret'", "contexts.a.type.*'secret'"),
        ("[contexts.a]\nrest_frame = 'perhaps'", "contexts.a.rest_frame.*'perhaps'"),
        ('[contexts.a]\ndescription = "two\\nlines"', "contexts.a.description.*one line"),
        ("[contexts.a.catalogs]\nspecobj = 'a {brace'", "contexts.a.catalogs.specobj.*braces.*a {brace"),
        ("[profiles.a]\ndescription = 'a {brace'", "profiles.a.description.*braces"),
        ("[profiles.a]\ncolour = 'red'", "profiles.a.colour"),
        ("max_ids = ", "not TOML"),
    ],
)
def test_a_setting_at_fault_is_named_with_its_value(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        load_settings(write(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "value"),
    [("SPECFLIGHT_MAX_ROWS", "many"), ("SPECFLIGHT_CONTEXTS", "not json"), ("SPECFLIGHT_MAX_IDS", "")],
)
def test_a_variable_at_fault_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidRequest, match=name.removeprefix("SPECFLIGHT_").lower()):
        load_settings(tmp_path)


@pytest.mark.parametrize("model", [Settings, ContextSettings, ProfileSettings])
def test_every_setting_says_what_it_is(model: Model) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []
