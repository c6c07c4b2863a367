"""What is to be drawn, and how: the subject of a picture and the options of drawing it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from specflight.errors import InvalidRequest

__all__ = ["MAX_SMOOTH", "SIZES", "LineKind", "PreviewOptions", "Subject", "vectors_of"]

LineKind = Literal["emission", "absorption", "sky"]
SIZES = {"width": (1, 4000), "height": (1, 3000)}  # pixels; below about 80 x 32 there are no numbers
MAX_SMOOTH = 1000  # pixels, a quarter of a spectrum


@dataclass(frozen=True, slots=True)
class Subject:
    """What a picture says of a spectrum.

    Attributes
    ----------
    specobjid : int or None
        Identifier; plate, MJD and fibre are taken from it.
    z : float or None
        Redshift; None or NaN where it is not known.
    kind : str or None
        Class of the object in the catalogue: ``'GALAXY'``, ``'QSO'`` or ``'STAR'``.
    subclass : str or None
        Such as ``'STARFORMING'`` or ``'F5'``.
    """

    specobjid: int | None
    z: float | None = None
    kind: str | None = None
    subclass: str | None = None

    @property
    def redshift(self) -> float | None:
        """The redshift; None where it is not known or no redshift."""
        return None if self.z is None or not math.isfinite(self.z) or self.z <= -1 else float(self.z)


@dataclass(frozen=True, slots=True)
class PreviewOptions:
    """How a spectrum is drawn.

    Attributes
    ----------
    width, height : int
        Pixels: up to 4000 and 3000; numbers are legible from about 80 x 32.
    rest_frame : bool
        Divide wavelengths by 1 + z; fluxes stay as observed.
    smooth : int
        Width in pixels of a boxcar that averages the flux, weighted by inverse variance; up to 1000, 0 or 1 for none.
    lines : tuple of {'emission', 'absorption', 'sky'}
        Kinds of spectral lines to mark, as far as there is room for their names.
    model, sky : bool
        Draw the best model, the sky.
    theme : {'light', 'dark'}
    format : {'png', 'svg'}

    Raises
    ------
    InvalidRequest
        Naming the option that cannot be.
    """

    width: int = 400
    height: int = 100
    rest_frame: bool = False
    smooth: int = 1
    lines: tuple[LineKind, ...] = ()
    model: bool = False
    sky: bool = False
    theme: Literal["light", "dark"] = "light"
    format: Literal["png", "svg"] = "png"

    def __post_init__(self) -> None:
        limits = {**SIZES, "smooth": (0, MAX_SMOOTH)}
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise InvalidRequest(f"{name}: {getattr(self, name)} is not between {least} and {most} pixels")
        for kind in self.lines:
            _among("lines", kind, get_args(LineKind))
        _among("theme", self.theme, ("light", "dark"))
        _among("format", self.format, ("png", "svg"))


def _among(name: str, value: Any, known: tuple[str, ...]) -> None:  # noqa: ANN401 - what a caller may give
    if value not in known:
        raise InvalidRequest(f"{name}: {value!r} is not one of {', '.join(known)}")


def vectors_of(options: PreviewOptions) -> tuple[str, ...]:
    """Vector columns that a drawing needs.

    Examples
    --------
    >>> vectors_of(PreviewOptions(model=True))
    ('flux', 'loglam', 'ivar', 'model')
    """
    overlays = (name for name, wanted in (("sky", options.sky), ("model", options.model)) if wanted)
    return ("flux", "loglam", "ivar", *overlays)
