"""The spectral lines of galaxies, quasars, stars and the night sky that SDSS users look for.

Wavelengths are in vacuum and in Ångström, at rest. They come from the SDSS table of spectral lines
(https://classic.sdss.org/dr7/algorithms/linestable.html) and the LINEWAVE column of the ``spZline`` files; the few
missing there (Lyα, He I 3889, O I 8446, [S III], Ca I, Na D) from the NIST Atomic Spectra Database, converted from air
with Morton (1991, ApJS 77, 119). Broad features of stellar spectra (G, Mg b, Na D) stand at their centre, TiO at its
blue head. Lines of hydrogen count as emission; in stars they absorb.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LINES", "Line", "line"]

Kind = Literal["emission", "absorption", "sky"]


@dataclass(frozen=True, slots=True)
class Line:
    """One spectral line.

    Attributes
    ----------
    name : str
        Ion or band as astronomers write it, with its customary (air) wavelength where the ion has several lines.
    wavelength : float
        Vacuum wavelength at rest, Å.
    kind : {'emission', 'absorption', 'sky'}
        How it mostly shows; lines of the sky stand in the observer's frame.
    """

    name: str
    wavelength: float
    kind: Kind


_EMISSION = (
    ("Lyβ", 1025.72),
    ("O VI 1033", 1033.82),
    ("Lyα", 1215.67),
    ("N V 1240", 1240.81),
    ("O I 1305", 1305.53),
    ("C II 1335", 1335.31),
    ("Si IV 1398", 1397.61),
    ("C IV 1549", 1549.48),
    ("He II 1640", 1640.42),
    ("O III] 1665", 1665.85),
    ("Al III 1857", 1857.4),
    ("C III] 1908", 1908.734),
    ("C II] 2326", 2326.0),
    ("[Ne IV] 2439", 2439.5),
    ("Mg II 2799", 2799.117),
    ("[Ne V] 3346", 3346.79),
    ("[Ne V] 3426", 3426.85),
    ("[O II] 3727", 3727.092),
    ("[O II] 3729", 3729.875),
    ("[Ne III] 3868", 3869.857),
    ("He I 3889", 3889.75),
    ("Hζ", 3890.166),
    ("[Ne III] 3967", 3968.59),
    ("Hε", 3971.198),
    ("Hδ", 4102.892),
    ("Hγ", 4341.684),
    ("[O III] 4363", 4364.436),
    ("He II 4686", 4686.991),
    ("Hβ", 4862.683),
    ("[O III] 4959", 4960.295),
    ("[O III] 5007", 5008.240),
    ("[N II] 5755", 5756.186),
    ("He I 5876", 5877.309),
    ("[O I] 6300", 6302.046),
    ("[S III] 6312", 6313.806),
    ("[O I] 6363", 6365.536),
    ("[N II] 6548", 6549.859),
    ("Hα", 6564.614),
    ("[N II] 6583", 6585.268),
    ("[S II] 6716", 6718.294),
    ("[S II] 6731", 6732.678),
    ("[Ar III] 7135", 7137.757),
    ("O I 8446", 8448.68),
    ("[S III] 9069", 9071.1),
    ("[S III] 9531", 9533.2),
)
_ABSORPTION = (
    ("Ca II K", 3934.777),
    ("Ca II H", 3969.588),
    ("Ca I 4227", 4227.92),
    ("G band", 4305.61),
    ("Mg b", 5176.63),
    ("Na D", 5894.57),
    ("TiO 6158", 6159.7),
    ("TiO 7053", 7054.9),
    ("Ca II 8498", 8500.36),
    ("Ca II 8542", 8544.44),
    ("Ca II 8662", 8664.52),
)
_SKY = (
    ("Hg I sky", 4359.57),
    ("[O I] 5577 sky", 5578.89),
    ("Na I sky", 5893.6),
    ("[O I] 6300 sky", 6302.05),
    ("[O I] 6363 sky", 6365.54),
)

LINES: tuple[Line, ...] = (
    *(Line(name, wavelength, "emission") for name, wavelength in _EMISSION),
    *(Line(name, wavelength, "absorption") for name, wavelength in _ABSORPTION),
    *(Line(name, wavelength, "sky") for name, wavelength in _SKY),
)
"""Every line, grouped by kind and by wavelength within a kind."""

_BY_NAME = {entry.name: entry for entry in LINES}


def line(name: str) -> Line:
    """Look up a line by its name.

    Parameters
    ----------
    name : str
        As in `LINES`, such as ``'Hα'`` or ``'[O III] 5007'``.

    Raises
    ------
    KeyError
        If no line has that name.
    """
    return _BY_NAME[name]
