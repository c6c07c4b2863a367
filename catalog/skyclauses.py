"""Conditions on the sky in a clause: the functions of Q3C, as regions that the sky index answers.

What they mean is told in Q3C's documentation, https://github.com/segasai/q3c. A cone or a polygon on the table's own
position columns is a region; on other columns a cone is the distance, compared with the radius.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from specflight.catalog.constants import constant
from specflight.catalog.kinds import Piece, read
from specflight.catalog.parse import shortened
from specflight.catalog.regions import Cone, Polygon, Region
from specflight.errors import InvalidRequest

if TYPE_CHECKING:
    from specflight.catalog.rebuild import Rebuilder

__all__ = ["SKY", "check_regions", "cone_around", "region_of", "sky_function"]

SKY = {"q3c_radial_query": 5, "q3c_poly_query": 3, "q3c_dist": 4}
"""Functions that are served, with their numbers of arguments."""

MAX_REGIONS = 32  # each is covered with cells, in up to 50 ms; row numbers take up to 40 MB for 5 million rows
_WIDER = 1 + 1e-9  # a cone that must hold all that the database's own calculation of a distance finds
_MARGIN = 1e-9  # degrees


def region_of(r: Rebuilder, node: exp.Expr) -> Region | None:
    """Find the region that a condition is, no more and no less.

    Parameters
    ----------
    r : Rebuilder
    node : sqlglot.exp.Expr
        A cone or a polygon on the position columns, perhaps as ``q3c_radial_query(...) = 't'`` or ``... IS TRUE``.

    Returns
    -------
    Cone, Polygon or None
        None if it is something else.
    """
    call = _bare(node)
    if not isinstance(call, exp.Anonymous) or call.args.keys() - {"this", "expressions"}:
        return None
    name, arguments = str(call.this).lower(), call.expressions
    if SKY.get(name) != len(arguments) or name == "q3c_dist":
        return None
    return _cone(r, call, arguments) if name == "q3c_radial_query" else _polygon(r, call, arguments)


def cone_around(r: Rebuilder, node: exp.Expr) -> Region | None:
    """Find a cone that holds all positions at which ``q3c_dist(ra, dec, x, y) < z`` is true; None if it is no such."""
    if type(node) in (exp.GT, exp.GTE):
        near, far = node.expression, node.this
    elif type(node) in (exp.LT, exp.LTE):
        near, far = node.this, node.expression
    else:
        return None
    call, radius = _bare(near), constant(far)
    if not isinstance(call, exp.Anonymous) or str(call.this).lower() != "q3c_dist" or len(call.expressions) != 4:
        return None
    centre = _centre(r, call.expressions)
    if centre is None or radius is None or not 0 <= radius < 179:
        return None
    try:
        return Cone(*centre, radius * _WIDER + _MARGIN)
    except InvalidRequest:
        return None  # such as a declination beyond 90 degrees, whose distance is something nonetheless


def check_regions(r: Rebuilder, node: exp.Expr) -> None:
    """Refuse a condition with which a clause names too many regions, joined by AND or not."""
    if len(r.regions) + len(r.within) > MAX_REGIONS:
        r.refuse(node, f"it names more than {MAX_REGIONS} regions; match a table of positions instead")


def sky_function(r: Rebuilder, node: exp.Expr, name: str, arguments: Sequence[exp.Expr]) -> Piece:
    """Rebuild a function of Q3C.

    Raises
    ------
    InvalidRequest
        Saying which ones are served, and what to do instead of the others.
    """
    count = SKY.get(name)
    if count is None:
        served = ", ".join(SKY)
        r.refuse(
            node, f"the function {shortened(name)} is refused; {served} are served, and tables of positions by match"
        )
    if len(arguments) != count:
        r.refuse(node, f"the function {name} takes {count} arguments, not {len(arguments)}")
    if name == "q3c_dist":
        return Piece(_distance(r, node, arguments), "float")
    region = _cone(r, node, arguments) if name == "q3c_radial_query" else _polygon(r, node, arguments)
    if region is not None:
        return _rows_in(r, node, region)
    if name == "q3c_poly_query":
        r.refuse(node, "q3c_poly_query takes the table's position columns, and ARRAY[ra1, dec1, ra2, dec2, ...]")
    radius = _number(r, node, arguments[4])
    return Piece(f"({_distance(r, node, arguments[:4])} <= {radius})", "bool")


def _bare(node: exp.Expr) -> exp.Expr:
    """Take away parentheses, and a comparison with true."""
    while True:
        if isinstance(node, exp.Paren):
            node = node.this
        elif isinstance(node, exp.EQ) and _is_true(node.this):
            node = node.expression
        elif (isinstance(node, exp.EQ) and _is_true(node.expression)) or (
            isinstance(node, exp.Is) and not node.args.get("negate") and _is_true(node.expression)
        ):
            node = node.this
        else:
            return node


def _is_true(node: exp.Expr) -> bool:
    if isinstance(node, exp.Literal) and node.is_string:
        meant = read(node.name, "bool")
        return meant is not None and meant.sql == "TRUE"
    return isinstance(node, exp.Boolean) and bool(node.this)


def _rows_in(r: Rebuilder, node: exp.Expr, region: Region) -> Piece:
    """A region as a condition on row numbers; NULL where a position is."""
    assert r.position is not None  # or it were no region
    name = r.regions.setdefault(region, f"sky_{len(r.regions) + 1}")
    check_regions(r, node)
    r.used.update(r.position)
    ra, dec = ('"' + column.replace('"', '""') + '"' for column in r.position)
    nowhere = f"{ra} IS NULL OR {dec} IS NULL"
    return Piece(f"(CASE WHEN {nowhere} THEN NULL ELSE _row IN (SELECT r FROM {name}) END)", "bool")


def _is_position(r: Rebuilder, ra: exp.Expr, dec: exp.Expr) -> bool:
    return r.position is not None and (r.name_of(ra), r.name_of(dec)) == r.position


def _centre(r: Rebuilder, arguments: Sequence[exp.Expr]) -> tuple[float, float] | None:
    """Constant position of a pair of positions whose other one is the table's; None if they are something else."""
    for own, other in ((arguments[:2], arguments[2:4]), (arguments[2:4], arguments[:2])):
        ra, dec = constant(other[0]), constant(other[1])
        if ra is not None and dec is not None and _is_position(r, own[0], own[1]):
            return ra, dec
    return None


def _cone(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Cone | None:
    radius = constant(arguments[4])
    if radius == 0 and arguments[4].find(exp.Div) is not None:
        r.refuse(
            node, f"the radius {r.shown(arguments[4])} is 0, since whole numbers divide to whole ones; write 1/3600.0"
        )
    centre = None if radius is None else _centre(r, arguments)
    if centre is None or radius is None:
        return None
    try:
        return Cone(*centre, radius)
    except InvalidRequest as error:
        r.refuse(node, str(error))


def _polygon(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Polygon | None:
    numbers = _vertices(r, node, arguments[2])
    if numbers is None or not _is_position(r, arguments[0], arguments[1]):
        return None
    try:
        return Polygon.from_flat(numbers)
    except InvalidRequest as error:
        r.refuse(node, str(error))


def _vertices(r: Rebuilder, node: exp.Expr, array: exp.Expr) -> list[float] | None:
    """Numbers of ``ARRAY[...]`` or ``'{...}'``; None if it is something else."""
    while isinstance(array, exp.Paren) or (isinstance(array, exp.Cast) and array.args["to"].args.get("nested")):
        array = array.this
    if isinstance(array, exp.Array):
        items = array.expressions
        if len(items) == 1 and isinstance(items[0], exp.Parameter):
            return [float(number) for number in r.taken[int(items[0].name) - 1]]
        values = [constant(item) for item in items]
    elif isinstance(array, exp.Literal) and array.is_string:
        inside = array.name.strip()
        if not (inside.startswith("{") and inside.endswith("}")):
            return None
        values = [_number_in(item) for item in inside[1:-1].split(",")]
    else:
        return None
    for n, value in enumerate(values):
        if value is None:
            r.refuse(node, f"number {n + 1} of the vertices of q3c_poly_query is not written out")
    return [float(value) for value in values if value is not None]


def _number_in(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _number(r: Rebuilder, node: exp.Expr, argument: exp.Expr) -> str:
    """SQL of a number in double precision."""
    piece = r.value(argument)
    if piece.literal is not None:
        piece = read(piece.literal, "float") or piece
    r.numbers(node, piece)
    return piece.double


def _distance(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> str:
    """SQL of the distance of two positions in degrees, by the haversine formula.

    ``sin²(d/2) = sin²((dec1 - dec2)/2) + cos(dec1) cos(dec2) sin²((ra1 - ra2)/2)``; R. W. Sinnott, Virtues of the
    Haversine, Sky and Telescope 68 (1984) 159.
    """
    pieces = [Piece(_number(r, node, argument), "float") for argument in arguments]
    ra1, dec1, ra2, dec2 = (r.again(node, piece) for piece in pieces)
    height = f"power(sin(radians({dec1} - {dec2}) / 2), 2)"
    breadth = f"cos(radians({dec1})) * cos(radians({dec2})) * power(sin(radians({ra1} - {ra2}) / 2), 2)"
    # rounding makes it a little more than 1 for opposite positions, where CASE, unlike least, keeps NULL
    square = f"({height} + {breadth})"
    return f"degrees(2 * asin(sqrt(CASE WHEN {square} > 1 THEN 1 ELSE {square} END)))"
