from __future__ import annotations

import re
from pathlib import Path

import pytest

from specflight.errors import InvalidRequest
from specflight.flight.settings import ContextSettings, Settings, load_settings

OPERATORS = Path(__file__).parents[2] / "docs" / "operators.md"


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


@pytest.mark.parametrize("model", [Settings, ContextSettings])
def test_the_operators_guide_names_every_setting(model: type[Settings] | type[ContextSettings]) -> None:
    if not OPERATORS.exists():
        pytest.skip(f"{OPERATORS.name} lies in the repository, which is not around")
    tables = "\n".join(line for line in OPERATORS.read_text().splitlines() if line.startswith("|"))
    named = set(re.findall(r"`(?:contexts\.NAME\.|SPECFLIGHT_)?(\w+)`", tables))
    assert set(model.model_fields) <= named, f"not in a table of {OPERATORS.name}"


@pytest.mark.parametrize("model", [Settings, ContextSettings])
def test_every_setting_says_what_it_is(model: type[Settings] | type[ContextSettings]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []
