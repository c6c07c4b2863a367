"""Functions of a WHERE clause as DuckDB SQL, with the results of PostgreSQL's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp

from specflight.catalog.allowlist import AGGREGATES, FUNCTIONS, INSTEAD, Function, nearest
from specflight.catalog.constants import constant
from specflight.catalog.kinds import Kind, Piece, as_compared, quoted
from specflight.catalog.operators import NUMBER_SIZE, alternatives, arithmetic, defined, text_of
from specflight.catalog.parse import shortened
from specflight.catalog.skyclauses import SKY, sky_function

if TYPE_CHECKING:
    from specflight.catalog.rebuild import Rebuilder

__all__ = ["KNOWN", "function", "position", "prefixed", "substring", "trim"]

MAX_COUNT = 1000  # characters or times, of lpad and repeat

Builder = Callable[["Rebuilder", exp.Expr, Sequence[exp.Expr]], Piece]
_KINDS: dict[str, tuple[tuple[Kind, ...], str]] = {
    "n": (("int", "numeric", "real", "float", "null"), "numbers"),
    "i": (("int", "null"), "a whole number there"),
    "w": (("int", "null"), "whole numbers"),
    "t": (("text", "null"), "text"),
}


def function(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild a call in the usual form."""
    r.only(node, "this", "expressions")
    return _call(r, node, str(node.this).lower(), node.expressions)


def substring(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild SUBSTRING(text FROM start FOR length)."""
    r.only(node, "this", "start", "length")
    return _call(r, node, "substring", [node.args[k] for k in ("this", "start", "length") if node.args.get(k)])


def position(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild POSITION(part IN text)."""
    r.only(node, "this", "substr")
    return _call(r, node, "strpos", [node.this, node.args["substr"]])


def trim(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild TRIM(BOTH characters FROM text)."""
    r.only(node, "this", "expression", "position")
    side = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position") or "").upper(), "btrim")
    return _call(r, node, side, [node.this, *([node.expression] if node.expression else [])])


def prefixed(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild the root signs."""
    r.only(node, "this")
    return _call(r, node, "sqrt" if type(node) is exp.Sqrt else "cbrt", [node.this])


def _call(r: Rebuilder, node: exp.Expr, name: str, arguments: Sequence[exp.Expr]) -> Piece:
    if name.startswith("q3c_"):
        return sky_function(r, node, name, arguments)
    known, special = FUNCTIONS.get(name), _SPECIAL.get(name)
    if special is not None:
        least, most, build = special
        _check_count(r, node, name, len(arguments), least, most)
        return build(r, node, arguments)
    if known is None:
        _refuse(r, node, name)
    _check_count(r, node, name, len(arguments), known.least, known.most)
    return _plain(r, node, name, known, [r.value(argument) for argument in arguments])


def _refuse(r: Rebuilder, node: exp.Expr, name: str) -> NoReturn:
    if name in INSTEAD:
        r.refuse(node, f"the function {name} is refused; {INSTEAD[name]}")
    if name in AGGREGATES:
        r.refuse(node, f"the aggregate function {name} is refused; fetch the rows and compute it on your side")
    r.refuse(node, f"there is no function '{shortened(name)}'{nearest(name, KNOWN)}")


def _check_count(r: Rebuilder, node: exp.Expr, name: str, count: int, least: int, most: int) -> None:
    if not least <= count <= most:
        expected = f"{least}" if least == most else f"{least} to {most}"
        r.refuse(node, f"the function {name} takes {expected} arguments, not {count}")


def _check_kinds(r: Rebuilder, node: exp.Expr, name: str, takes: str, pieces: Sequence[Piece]) -> None:
    for n, piece in enumerate(pieces):
        letter = takes[min(n, len(takes) - 1)]
        if letter in _KINDS and piece.kind not in _KINDS[letter][0]:
            r.refuse(node, f"the function {name} takes {_KINDS[letter][1]}; '{r.shown(node)}' gives it something else")


def _plain(r: Rebuilder, node: exp.Expr, name: str, known: Function, pieces: Sequence[Piece]) -> Piece:
    """Call a function that DuckDB has, too."""
    _check_kinds(r, node, name, known.takes, pieces)
    if known.gives == "same":
        if known.takes == "a":
            kind, values = alternatives(r, node, pieces)
            return Piece(known.sql.format(", ".join(values)), kind, size=max(piece.size for piece in pieces))
        kind = "int" if pieces[0].kind == "null" else pieces[0].kind
        return Piece(known.sql.format(pieces[0].wide or pieces[0].sql), kind)
    written = [_argument(r, node, known.takes[min(n, len(known.takes) - 1)], p) for n, p in enumerate(pieces)]
    sql = known.sql.format(", ".join(written))
    if known.undefined:
        sql = defined(written[0], known.undefined, known.sql)
    if known.gives == "math":
        return Piece(sql, "numeric" if _is_numeric(pieces) else "float")
    return Piece(sql, known.gives, size=_size(name, pieces) if known.gives == "text" else 0)


def _size(name: str, pieces: Sequence[Piece]) -> int:
    """Bytes of a text at most; a character has up to four."""
    if name in ("left", "right") and pieces[1].sql.isdigit():
        return min(pieces[0].size, 4 * int(pieces[1].sql))
    if name == "translate" and not (pieces[2].literal or "€").isascii():
        return 4 * pieces[0].size
    return pieces[0].size


def _is_numeric(pieces: Sequence[Piece]) -> bool:
    """Whether PostgreSQL computes with decimal fractions: if there is one, and no floating point number."""
    kinds = {piece.kind for piece in pieces}
    return "numeric" in kinds and not kinds & {"real", "float"}


def _argument(r: Rebuilder, node: exp.Expr, letter: str, piece: Piece) -> str:
    if letter == "t":
        return text_of(r, node, piece)
    if letter == "n":
        return piece.double
    return f"TRY_CAST({piece.sql} AS INTEGER)" if letter == "i" else piece.wide or piece.sql


def _count(r: Rebuilder, node: exp.Expr, name: str, argument: exp.Expr) -> int:
    """Number of times or characters, which must be known beforehand."""
    value = constant(argument)
    if not isinstance(value, int) or value > MAX_COUNT:
        r.refuse(node, f"the number in {name} must be written out and up to {MAX_COUNT}, not '{r.shown(argument)}'")
    return max(value, 0)


def _texts(r: Rebuilder, node: exp.Expr, name: str, arguments: Sequence[exp.Expr]) -> list[Piece]:
    pieces = [r.value(argument) for argument in arguments]
    _check_kinds(r, node, name, "t", pieces)
    return [Piece(text_of(r, node, piece), "text", literal=piece.literal, size=piece.size) for piece in pieces]


def _round(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
    pieces = [r.value(argument) for argument in arguments]
    _check_kinds(r, node, "round", "ni", pieces)
    if len(pieces) == 2:
        return Piece(f"round({pieces[0].double}, {_argument(r, node, 'i', pieces[1])})", "numeric")
    if pieces[0].kind == "numeric":
        return Piece(f"round({pieces[0].double})", "numeric")
    return Piece(f"round_even({pieces[0].double}, 0)", "float")


def _log(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
    if len(arguments) == 1:
        return _call(r, node, "log10", arguments)
    pieces = [r.value(argument) for argument in arguments]
    _check_kinds(r, node, "log", "n", pieces)
    base = defined(pieces[0].double, "{0} <= 0 OR {0} = 1", "{0}")
    value = defined(pieces[1].double, "{} <= 0", "{}")
    return Piece(f"log({base}, {value})", "numeric" if _is_numeric(pieces) else "float")


def _mod(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
    a, b = (r.value(argument) for argument in arguments)
    r.numbers(node, a, b)
    return arithmetic(exp.Mod, a, b)


def _power(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
    a, b = (r.value(argument) for argument in arguments)
    r.numbers(node, a, b)
    return arithmetic(exp.Pow, a, b)


def _div(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
    a, b = (r.value(argument) for argument in arguments)
    r.numbers(node, a, b)
    quotient = arithmetic(exp.Div, a, b)
    return quotient if quotient.kind == "int" else Piece(f"trunc({quotient.double})", "numeric")


def _nullif(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
    a, b = (r.value(argument) for argument in arguments)
    sides = as_compared(a, b)
    r.again(node, a)
    if sides is None:
        alternatives(r, node, [a, b])
        r.refuse(node, f"'{r.shown(node)}' compares values of different types")
    kind = a.kind if a.literal is None else b.kind if b.kind != "null" else "text"
    sql = f"(CASE WHEN {sides[0]} = {sides[1]} THEN NULL ELSE {sides[0]} END)"
    return Piece(sql, "float" if sides[0] == a.double else kind, size=a.size)


def _concat(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
    pieces = [r.value(argument) for argument in arguments]
    # these write t and f, unlike a cast
    texts = [f"left({text_of(r, node, p)}, 1)" if p.kind == "bool" else text_of(r, node, p) for p in pieces]
    return Piece(f"concat({', '.join(texts)})", "text", size=sum(piece.size or NUMBER_SIZE for piece in pieces))


def _concat_ws(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
    (separator,) = _texts(r, node, "concat_ws", arguments[:1])
    pieces = [r.value(argument) for argument in arguments[1:]]
    texts = [f"left({text_of(r, node, p)}, 1)" if p.kind == "bool" else text_of(r, node, p) for p in pieces]
    size = sum((piece.size or NUMBER_SIZE) + separator.size for piece in pieces)
    return Piece(f"concat_ws({', '.join([separator.sql, *texts])})", "text", size=size)


def _substring(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
    """Places before the first count in PostgreSQL: substr('abc', 0, 2) is 'a'. DuckDB counts these from the end."""
    pieces = [r.value(argument) for argument in arguments]
    _check_kinds(r, node, "substring", "ti", pieces)
    text = text_of(r, node, pieces[0])
    start = f"CAST(TRY_CAST({r.again(node, pieces[1])} AS INTEGER) AS BIGINT)"
    size = pieces[0].size
    if len(pieces) == 3:
        size = min(size, 4 * int(pieces[2].sql)) if pieces[2].sql.isdigit() else size
        end = f"({start} + TRY_CAST({r.again(node, pieces[2])} AS INTEGER) - 1)"
        text = f"left({text}, CASE WHEN {end} < 0 THEN 0 ELSE {end} END)"
    return Piece(f"substring({text}, CASE WHEN {start} < 1 THEN 1 ELSE {start} END)", "text", size=size)


def _split_part(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
    pieces = [r.value(argument) for argument in arguments]
    _check_kinds(r, node, "split_part", "tti", pieces)
    if not pieces[1].literal or constant(arguments[2]) == 0:
        r.refuse(node, "split_part takes a separator in quotes and a number that is not 0")
    r.again(node, pieces[0])
    r.again(node, pieces[2])
    text, number = text_of(r, node, pieces[0]), _argument(r, node, "i", pieces[2])
    part = f"coalesce(string_split({text}, {pieces[1].sql})[{number}], '')"
    return Piece(
        f"(CASE WHEN {text} IS NULL OR {number} IS NULL THEN NULL ELSE {part} END)", "text", size=pieces[0].size
    )


def _repeat(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
    (text,), count = _texts(r, node, "repeat", arguments[:1]), _count(r, node, "repeat", arguments[1])
    return Piece(f"repeat({text.sql}, {count})", "text", size=text.size * count)


def _pad(name: str) -> Builder:
    def build(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
        text, *fill = _texts(r, node, name, [arguments[0], *arguments[2:]])
        count = _count(r, node, name, arguments[1])
        if fill and not fill[0].literal:
            r.refuse(node, f"{name} takes the characters to fill with in quotes")
        return Piece(f"{name}({text.sql}, {count}, {fill[0].sql if fill else quoted(' ')})", "text", size=4 * count)

    return build


def _replace(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
    text, old, new = _texts(r, node, "replace", arguments)
    if old.literal is None or new.literal is None:
        r.refuse(node, "replace takes what it looks for and what it puts there in quotes")
    growth = -(-new.size // max(old.size, 1))
    return Piece(f"replace({text.sql}, {old.sql}, {new.sql})", "text", size=text.size * max(growth, 1))


def _chr(r: Rebuilder, node: exp.Expr, arguments: Sequence[exp.Expr]) -> Piece:
    code = constant(arguments[0])
    if not isinstance(code, int) or not 0 < code < 0x110000 or 0xD800 <= code < 0xE000:
        r.refuse(node, "chr takes the number of a character, written out")
    return Piece(quoted(chr(code)), "text", size=4)


_SPECIAL: dict[str, tuple[int, int, Builder]] = {
    "round": (1, 2, _round),
    "log": (1, 2, _log),
    "mod": (2, 2, _mod),
    "div": (2, 2, _div),
    "power": (2, 2, _power),
    "pow": (2, 2, _power),
    "nullif": (2, 2, _nullif),
    "concat": (1, 50, _concat),
    "concat_ws": (2, 50, _concat_ws),
    "substr": (2, 3, _substring),
    "substring": (2, 3, _substring),
    "split_part": (3, 3, _split_part),
    "repeat": (2, 2, _repeat),
    "lpad": (2, 3, _pad("lpad")),
    "rpad": (2, 3, _pad("rpad")),
    "replace": (3, 3, _replace),
    "chr": (1, 1, _chr),
}

KNOWN = (*FUNCTIONS, *_SPECIAL, *SKY)
"""Names of all functions that a clause may call."""
