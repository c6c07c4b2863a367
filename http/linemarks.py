"""Which spectral lines a picture marks, and where their names stand.

A line is marked where its name has room beside those of better known lines, so that no picture is cluttered.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from specflight.flight.lines import LINES, Line
from specflight.http.axes import Layout, Scale
from specflight.http.canvas import Canvas, Theme, text_width
from specflight.http.drawing import LineKind, PreviewOptions, Subject

__all__ = ["PROMINENT", "Mark", "draw_marks", "lines_in_view", "place_marks", "short_name"]

PROMINENT = {
    "GALAXY": (
        *("Hα", "[O II] 3727", "[O III] 5007", "Hβ", "Ca II K", "Ca II H", "Mg b", "Na D", "G band", "[S II] 6716"),
        *("Hγ", "[N II] 6583", "Hδ", "[Ne III] 3868", "[O III] 4959", "[S II] 6731", "[O I] 6300", "[N II] 6548"),
        *("Mg II 2799", "Ca II 8542", "Ca II 8662", "Ca II 8498", "He I 5876", "[O III] 4363", "He II 4686"),
        *("[Ne V] 3426", "[S III] 9069", "[S III] 9531", "[Ar III] 7135", "C III] 1908", "C IV 1549", "Lyα"),
    ),
    "QSO": (
        *("Lyα", "C IV 1549", "C III] 1908", "Mg II 2799", "Hβ", "Hα", "[O III] 5007", "[O II] 3727", "Si IV 1398"),
        *("Hγ", "N V 1240", "[Ne V] 3426", "[Ne III] 3868", "Hδ", "Lyβ", "O VI 1033", "He II 1640", "C II] 2326"),
        *("[Ne IV] 2439", "O I 1305", "[O III] 4959", "[S II] 6716", "Al III 1857", "[Ne V] 3346", "He I 5876"),
        *("C II 1335", "O III] 1665", "He II 4686", "[O I] 6300", "O I 8446"),
    ),
    "STAR": (
        *("Hα", "Hβ", "Ca II K", "Ca II H", "Hγ", "Mg b", "Na D", "Hδ", "Ca II 8542", "Ca II 8662", "Ca II 8498"),
        *("G band", "TiO 7053", "TiO 6158", "Ca I 4227", "Hζ", "Hε"),
    ),
}
"""Names of `LINES` by class of object, the best known first."""

SKY_RANK = 8.5  # lines of the sky come after so many others
SPARSE = 4.0  # sizes of the text of width for each name
EDGE = 0.05  # of its width, by which a name reaches over its line at least

HYDROGEN = frozenset({"Hα", "Hβ", "Hγ", "Hδ", "Hε", "Hζ"})  # seen in absorption in stars and their populations
_NAMES = {"Ca II K": "K", "Ca II H": "H", "G band": "G"}  # Fraunhofer's
_WAVELENGTH = re.compile(r" \d{4}")


@dataclass(frozen=True, slots=True)
class Mark:
    """A line to be drawn.

    Attributes
    ----------
    x : float
        Pixels from the left.
    kind : {'emission', 'absorption', 'sky'}
    name : str
        Text; empty where a neighbour of the same name has it, or none has room.
    start : float
        Where the text begins.
    tier : int
        Row of the text from below.
    """

    x: float
    kind: LineKind
    name: str
    start: float = 0.0
    tier: int = 0


def short_name(line: Line) -> str:
    """Name without the wavelength; lines of the sky share one.

    Examples
    --------
    >>> [short_name(line) for line in LINES if line.name in ("[O III] 5007", "Ca II K", "[O I] 5577 sky")]
    ['[O III]', 'K', 'sky']
    """
    return "sky" if line.kind == "sky" else _NAMES.get(line.name, _WAVELENGTH.sub("", line.name))


def lines_in_view(
    options: PreviewOptions, subject: Subject, span: tuple[float, float]
) -> list[tuple[Line, LineKind, float]]:
    """Lines of the kinds asked for within a range of wavelengths, the best known first.

    Parameters
    ----------
    options : PreviewOptions
        Lines of hydrogen are among those in emission and those in absorption.
    subject : Subject
        Without a redshift there are lines of the sky only.
    span : tuple of float
        First and last wavelength of the picture, Å.

    Returns
    -------
    list of (Line, kind, wavelength in the picture)
    """
    stretch = 1 + (subject.redshift or 0.0)
    known = PROMINENT.get((subject.kind or "").strip().upper(), PROMINENT["GALAXY"])
    rank = {name: place for place, name in enumerate(known)}
    kinds, rest_frame = options.lines, options.rest_frame
    found = []
    for line in LINES:
        kind = line.kind
        if kind == "emission" and "emission" not in kinds and line.name in HYDROGEN:
            kind = "absorption"
        if kind not in kinds or (kind != "sky" and (subject.redshift is None or line.name not in rank)):
            continue
        wavelength = line.wavelength
        if kind == "sky" and rest_frame:
            wavelength /= stretch
        elif kind != "sky" and not rest_frame:
            wavelength *= stretch
        if span[0] <= wavelength < span[1]:
            found.append((line, kind, wavelength))
    return sorted(found, key=lambda entry: rank.get(entry[0].name, SKY_RANK))


def place_marks(lines: Sequence[tuple[Line, LineKind, float]], layout: Layout, x: Scale) -> list[Mark]:
    """Choose the lines that have room and place their names.

    Parameters
    ----------
    lines : sequence of (Line, kind, wavelength)
        The best known first.
    layout : Layout
        With as many tiers as there may be.
    x : Scale
        Of the wavelengths.
    """
    size, chosen, rows = layout.label, list[Mark](), [list[Mark]() for _ in layout.tiers]
    most = int(layout.box.width / (SPARSE * size))
    for line, kind, wavelength in lines:
        mark = Mark(x.start + (wavelength - x.low) * x.slope, kind, short_name(line))
        distance = min((abs(other.x - mark.x) for other in chosen), default=math.inf)
        same = [abs(other.x - mark.x) for other in chosen if (other.name, other.kind) == (mark.name, kind)]
        if not rows:
            if distance >= 5 * size:
                chosen.append(replace(mark, name=""))
            continue
        if same and min(same) < 4 * size:
            chosen.append(replace(mark, name=""))
            continue
        if same and kind != "sky":
            mark = replace(mark, name=line.name)
        if distance >= 3 * layout.stroke and sum(map(len, rows)) < most and _insert(mark, rows, layout):
            chosen.append(mark)
    starts = [_arrange(rows, tier, layout) or [] for tier in range(len(rows))]
    named = [
        replace(mark, start=start, tier=tier)
        for tier, row in enumerate(rows)
        for mark, start in zip(sorted(row, key=_abscissa), starts[tier], strict=True)
    ]
    return named + [mark for mark in chosen if not mark.name]


def _abscissa(mark: Mark) -> float:
    return mark.x


def _insert(mark: Mark, rows: list[list[Mark]], layout: Layout) -> bool:
    """Put a name into the lowest tier in which it has room, above names that its line can pass."""
    for tier, row in enumerate(rows):
        row.append(mark)
        if all(_arrange(rows, below, layout) is not None for below in range(tier + 1)):
            return True
        row.pop()
    return False


def _arrange(rows: list[list[Mark]], tier: int, layout: Layout) -> list[float] | None:
    """Where the names of a tier begin, from left to right; None if they do not all fit.

    Each name stands above its line, as central as its neighbours allow. Lines to names of higher tiers pass between.
    """
    gap = 0.35 * layout.label
    entries = [(mark.x, text_width(mark.name, layout.label)) for mark in rows[tier]]
    entries += [(mark.x, 0.0) for row in rows[tier + 1 :] for mark in row]
    entries.sort()
    bounds, left = [], layout.box.left - 2.0
    for x, width in entries:
        left = max(left, x - (1 - EDGE) * width)
        if left > x - EDGE * width:
            return None
        bounds.append(left)
        left += width + gap
    right = layout.box.right + 2.0
    latest = []
    for (x, width), earliest in zip(reversed(entries), reversed(bounds), strict=True):
        right = min(right - width, x - EDGE * width)
        if right < earliest:
            return None
        latest.append(right)
        right -= gap
    starts, left = [], -math.inf
    for (x, width), earliest, last in zip(entries, bounds, reversed(latest), strict=True):
        left = min(max(x - width / 2, earliest, left), last)
        if width:
            starts.append(left)
        left += width + gap
    return starts


def draw_marks(canvas: Canvas, marks: Sequence[Mark], layout: Layout, theme: Theme) -> None:
    """Draw lines from their names down to the wavelength axis."""
    for mark in marks:
        color, top = theme.lines[mark.kind], layout.box.top
        red, green, blue = ((3 * part + 2 * ground) // 5 for part, ground in zip(color, theme.background, strict=True))
        if mark.name:
            baseline = layout.tiers[mark.tier]
            canvas.text(mark.start, baseline, mark.name, layout.label, color)
            top = round(baseline + 0.25 * layout.label) if mark.tier else top
        column = int(mark.x) - (layout.stroke - 1) // 2
        canvas.dashes(column, top, layout.box.bottom, (red, green, blue), layout.stroke)
