from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specflight.catalog.identifiers import pack_specobjid
from specflight.flight.releases import about, default_context, fallbacks, known_context, natural_key, newest
from specflight.flight.settings import ContextSettings, Settings

RELEASES = tuple(f"sdss_dr{number}" for number in range(8, 18))


def settings(**values: object) -> Settings:
    return Settings.model_validate(values)


@pytest.mark.parametrize("name", RELEASES)
def test_each_public_release_is_known(name: str) -> None:
    known = known_context(name)
    assert known.release == name.removeprefix("sdss_").upper()
    assert known.description.startswith(f"SDSS {known.release}: ")
    assert known.run2d[:3] == ("26", "103", "104")
    assert (known.id_main, known.redshift, known.rest_frame, known.type) == ("specobjid", "z", False, "public")
    for run2d in known.run2d:
        pack_specobjid(300, 52000, 1, run2d)


@pytest.mark.parametrize(
    ("name", "reductions"),
    [
        ("sdss_dr8", ()),
        ("sdss_dr9", ("v5_4_45",)),
        ("sdss_dr10", ("v5_5_12",)),
        ("sdss_dr11", ("v5_6_5",)),
        ("sdss_dr12", ("v5_7_0", "v5_7_2")),
        ("sdss_dr13", ("v5_9_0",)),
        ("sdss_dr14", ("v5_10_0",)),
        ("sdss_dr15", ("v5_10_0",)),
        ("sdss_dr16", ("v5_13_0",)),
        ("sdss_dr17", ("v5_13_2",)),
    ],
)
def test_the_reductions_of_a_release_are_those_of_its_archive(name: str, reductions: tuple[str, ...]) -> None:
    assert known_context(name).run2d[3:] == reductions


def test_no_release_claims_spectra_of_a_survey_that_began_later() -> None:
    for name in RELEASES:
        number, description = int(name.removeprefix("sdss_dr")), known_context(name).description
        assert ("BOSS" in description) == (number >= 9), name
        assert ("eBOSS" in description) == (number >= 14), name


def test_the_reductions_of_real_files_are_known(real_data: Path) -> None:
    found = {
        (f"sdss_{tree.name}", path.parts[path.parts.index("redux") + 1])
        for tree in (real_data / "sas").iterdir()
        for path in tree.rglob("spec-*.fits")
    }
    assert len(found) >= 4
    for context, run2d in found:
        assert run2d in known_context(context).run2d, context


@pytest.mark.parametrize("name", ["sdss_dr7", "sdss_dr18", "sdss_dr16_lite", "desi_dr1", "default", ""])
def test_of_other_contexts_nothing_is_known(name: str) -> None:
    assert known_context(name) == ContextSettings()


def test_what_the_operator_says_wins_field_by_field() -> None:
    said = settings(contexts={"sdss_dr16": {"description": "ours", "run2d": [], "catalogs": {"specobj": "the best"}}})
    merged, known = about("sdss_dr16", said), known_context("sdss_dr16")
    assert (merged.description, merged.run2d, merged.catalogs) == ("ours", (), {"specobj": "the best"})
    assert merged.release == known.release == "DR16"
    assert about("sdss_dr16", settings()).description == known.description


def test_a_context_that_nobody_described_has_its_defaults() -> None:
    merged = about("mine", settings())
    assert merged == ContextSettings(catalog="mine.specobj", survey="mine")


@pytest.mark.parametrize(
    ("catalog", "expected"),
    [("", "sdss_dr9.specobj"), ("specobjall", "sdss_dr9.specobjall"), ("sdss_dr12.vac", "sdss_dr12.vac")],
)
def test_the_default_catalogue_is_named_in_full(catalog: str, expected: str) -> None:
    assert about("sdss_dr9", settings(contexts={"sdss_dr9": {"catalog": catalog}})).catalog == expected


@pytest.mark.parametrize(
    ("name", "survey"),
    [
        ("sdss_dr16", "sdss"),
        ("sdss_dr16_lite", "sdss"),
        ("our_sdss_dr9", "our_sdss"),
        ("a_dr1_dr2", "a_dr1"),
        ("desi_fuji", "desi"),
        ("mocks", "mocks"),
        ("dr16", "dr16"),
    ],
)
def test_the_survey_is_told_from_the_name(name: str, survey: str) -> None:
    assert about(name, settings()).survey == survey
    assert about(name, settings(contexts={name: {"survey": "said"}})).survey == "said"


@given(st.lists(st.integers(0, 10**6), unique=True, min_size=1))
def test_releases_sort_by_number(numbers: list[int]) -> None:
    names = [f"sdss_dr{number}" for number in numbers]
    assert newest(names) == f"sdss_dr{max(numbers)}"
    assert sorted(names, key=natural_key) == [f"sdss_dr{number}" for number in sorted(numbers)]


@given(st.lists(st.text("ab_019", min_size=1)))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    assert sorted(sorted(names, key=natural_key)) == sorted(names)


def test_default_is_what_the_settings_say_or_else_the_newest() -> None:
    assert default_context(["sdss_dr9", "sdss_dr16", "sdss_dr12"], settings()) == "sdss_dr16"
    assert default_context(["sdss_dr9", "sdss_dr16"], settings(default_context="sdss_dr9")) == "sdss_dr9"
    assert default_context([], settings()) is None


NAMES = ("desi_dr1", "sdss_dr9", "mine", "sdss_dr17", "sdss_dr12")


@pytest.mark.parametrize(
    ("asked", "name", "expected"),
    [
        ("default", "sdss_dr17", ("sdss_dr12", "sdss_dr9")),
        ("sdss_dr17", "sdss_dr17", ("sdss_dr12", "sdss_dr9")),
        ("sdss_dr12", "sdss_dr12", ()),
        ("sdss_dr9", "sdss_dr9", ()),
        ("default", "sdss_dr12", ("sdss_dr17", "sdss_dr9")),
        ("desi_dr1", "desi_dr1", ()),
        ("default", "mine", ()),
    ],
)
def test_other_releases_stand_in_for_the_newest_and_for_default_only(
    asked: str, name: str, expected: tuple[str, ...]
) -> None:
    for contexts in (NAMES, NAMES[::-1]):
        assert fallbacks(asked, name, contexts, settings()) == expected


def test_the_settings_say_of_which_survey_a_context_is() -> None:
    said = settings(contexts={"mine": {"survey": "sdss"}, "sdss_dr9": {"survey": "old"}})
    assert fallbacks("default", "sdss_dr17", NAMES, said) == ("sdss_dr12", "mine")
    assert fallbacks("sdss_dr9", "sdss_dr9", NAMES, said) == ()


@given(st.sampled_from(RELEASES), st.sets(st.sampled_from(RELEASES)))
def test_a_context_never_stands_in_for_itself(name: str, others: Sequence[str]) -> None:
    contexts = [name, *others]
    found = fallbacks("default", name, contexts, settings())
    assert set(found) == set(others) - {name}
    assert [natural_key(context) for context in found] == sorted(map(natural_key, found), reverse=True)
