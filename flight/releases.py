"""What is known of the public releases of SDSS, and in which of them a spectrum is looked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from specflight.flight.settings import ContextSettings, Settings

__all__ = ["about", "default_context", "fallbacks", "known_context", "natural_key", "newest", "newest_of_survey"]

_LEGACY = ("26", "103", "104")
"""Reductions of the spectra of the SDSS spectrographs (SDSS-I/II and SEGUE), the same in every release since DR8."""

# Paths of the Science Archive Server (run2d) and the papers of the releases: Aihara et al. 2011, Ahn et al. 2012 and
# 2014, Alam et al. 2015, Albareti et al. 2017, Abolfathi et al. 2018, Aguado et al. 2019, Ahumada et al. 2020,
# Abdurro'uf et al. 2022.
_RELEASES: dict[int, tuple[tuple[str, ...], str]] = {
    8: ((), "SDSS-I/II and SEGUE spectra"),
    9: (("v5_4_45",), "SDSS-I/II and SEGUE spectra, and the first of BOSS"),
    10: (("v5_5_12",), "SDSS-I/II, SEGUE and BOSS spectra"),
    11: (("v5_6_5",), "SDSS-I/II, SEGUE and BOSS spectra, those up to July 2013"),
    12: (("v5_7_0", "v5_7_2"), "SDSS-I/II, SEGUE and BOSS spectra, all of SDSS-III"),
    13: (("v5_9_0",), "SDSS-I/II, SEGUE and BOSS spectra, BOSS reduced anew and SEQUELS complete"),
    14: (("v5_10_0",), "SDSS-I/II, SEGUE and BOSS spectra, and the first of eBOSS"),
    15: (("v5_10_0",), "SDSS-I/II, SEGUE, BOSS and eBOSS spectra, none new since DR14"),
    16: (("v5_13_0",), "SDSS-I/II, SEGUE, BOSS and eBOSS spectra, the main sample of eBOSS complete"),
    17: (("v5_13_2",), "SDSS-I/II, SEGUE, BOSS and eBOSS spectra, all of SDSS-IV"),
}
"""Reductions beside those of `_LEGACY`, and the optical spectra in it, by number of the release."""

_KNOWN = {
    f"sdss_dr{number}": ContextSettings(
        description=f"SDSS DR{number}: {contents}", release=f"DR{number}", run2d=_LEGACY + reductions
    )
    for number, (reductions, contents) in _RELEASES.items()
}


def known_context(name: str) -> ContextSettings:
    """What is known of a context by its name alone: much of ``sdss_dr8`` to ``sdss_dr17``, nothing of others."""
    return _KNOWN.get(name, ContextSettings())


def about(name: str, settings: Settings) -> ContextSettings:
    """Settings of a context: field by field what the operator says, else what is known of it by its name.

    Parameters
    ----------
    name : str
        Name of the context.
    settings : Settings
        Of the data directory.

    Returns
    -------
    ContextSettings
        Its `catalog` (``schema.table``) and its `survey` are always filled in: ``<name>.specobj``, and the part of the
        name before ``_dr<digits>`` or else before the last underscore.
    """
    given = settings.contexts.get(name, ContextSettings())
    merged = known_context(name).model_copy(update={key: getattr(given, key) for key in given.model_fields_set})
    catalog = merged.catalog or "specobj"
    return merged.model_copy(
        update={
            "catalog": catalog if "." in catalog else f"{name}.{catalog}",
            "survey": _survey(name, settings),
        }
    )


def _survey(name: str, settings: Settings) -> str:
    said = settings.contexts.get(name)
    if said is not None and said.survey:
        return said.survey
    release = re.match(r"(.+)_dr\d+", name)
    return release[1] if release else name.rpartition("_")[0] or name


def natural_key(name: str) -> list[tuple[int, str]]:
    """Key that sorts dr9 before dr16."""
    return [(int(run), "") if run.isdigit() else (-1, run) for run in re.findall(r"\d+|\D+", name)]


def newest(names: Iterable[str]) -> str | None:
    """Last of some contexts in natural order, None where there is none."""
    return max(names, key=natural_key, default=None)


def default_context(names: Iterable[str], settings: Settings) -> str | None:
    """Context that ``default`` stands for: the one that the settings name, else the newest."""
    return settings.default_context or newest(names)


def newest_of_survey(survey: str, names: Iterable[str], settings: Settings) -> str | None:
    """Newest context of a survey such as ``sdss``, which stands for it where no context has that name."""
    return newest(name for name in names if _survey(name, settings) == survey)


def fallbacks(asked: str, name: str, contexts: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """Other contexts in which a spectrum is looked for that a context does not have.

    In ``default`` and in the newest release of a survey these are its other releases; who names an older release wants
    that and no other.

    Parameters
    ----------
    asked : str
        Context as the request says it, maybe ``default``.
    name : str
        Context that it stands for.
    contexts : sequence of str
        Names of all contexts.
    settings : Settings
        Of the data directory; they may say of which survey a context is.

    Returns
    -------
    tuple of str
        Newest first.
    """
    survey = _survey(name, settings)
    releases = sorted(
        (context for context in contexts if _survey(context, settings) == survey), key=natural_key, reverse=True
    )
    if asked != "default" and name != newest(releases):
        return ()
    return tuple(context for context in releases if context != name)
