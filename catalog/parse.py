"""From the text of a clause to sqlglot's tree, in bounded time.

The text is first scanned for what never belongs into a clause (comments, semicolons, a second statement's
characters), for its length and its depth, since the parser recurses. Long lists of values and of vertices are taken out
there, and so are vertices in pairs, which old clients send. Then sqlglot parses the clause as the tail of a SELECT.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import TokenType, exp
from sqlglot.dialects.postgres import Postgres

from specflight.errors import InvalidRequest

__all__ = ["MAX_TOKENS", "ClauseText", "parse", "refusal", "scan", "shortened"]

MAX_TOKENS = 5000  # words and symbols outside long lists; parsing takes 50 microseconds each
MAX_PARSED = 200_000  # characters outside long lists; the tokenizer takes 1.5 microseconds each
LONG_LIST = 50  # values in IN (...) or ARRAY[...] from which on they are taken out
MAX_LISTS = 32  # long lists of a clause: the database plans a join for each, in 20 milliseconds

_SELECT = "SELECT 1 FROM t "
_NUMBER = r"[-+]?[\d.]++(?:e[-+]?\d++)?+"
_PRINTED = rf"(?:{_NUMBER}|np\.float(?:32|64)\(\s*+{_NUMBER}\s*+\))"
_COMMA = r"\s*+,\s*+"
_VERTICES = "|".join(  # as Python prints lists of numbers, of tuples and of lists, and numpy an array of pairs
    (
        rf"{_PRINTED}(?:{_COMMA}{_PRINTED})++",
        rf"\(\s*+{_PRINTED}{_COMMA}{_PRINTED}\s*+\)(?:{_COMMA}\(\s*+{_PRINTED}{_COMMA}{_PRINTED}\s*+\))*+",
        rf"\[\s*+{_PRINTED}{_COMMA}{_PRINTED}\s*+\](?:{_COMMA}\[\s*+{_PRINTED}{_COMMA}{_PRINTED}\s*+\])*+",
        rf"\[\s*+{_NUMBER}\s++{_NUMBER}\s*+\](?:\s++\[\s*+{_NUMBER}\s++{_NUMBER}\s*+\])++",
    )
)
_BRACKETS = str.maketrans("()[],", "     ")
_TOKEN = re.compile(
    rf"""(?P<list>\bIN\s*+\(\s*+(?:-?\d++(?:\s*+,\s*+-?\d++)++|'(?:[^']|'')*+'(?:\s*+,\s*+'(?:[^']|'')*+')++)\s*+\))
    |(?P<array>\bARRAY\s*+\[\s*+{_NUMBER}(?:{_COMMA}{_NUMBER})++\s*+\])
    |(?P<vertices>\bARRAY\s*+\[\s*+(?:{_VERTICES})\s*+\])
    |(?P<string>'(?:[^']|'')*+')|(?P<name>"(?:[^"]|"")++")|(?P<word>[A-Za-z_]\w*+)|(?P<power>[\d.]++e\d++(?=[-+]))
    |(?P<number>[\d.]++)|(?P<space>\s++)|(?P<symbol>.)""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_NO_TEXT = re.compile("[\\0\ud800-\udfff]")
_VALUE = re.compile(r"-?\d++|'(?:[^']|'')*+'", re.ASCII)
_TAIL_ONLY = re.compile(
    r"\s*(?:ORDER\s+BY\b|(?:LIMIT|OFFSET)\s*(?:[-+]?\s*\d|\(|ALL\b|NULL\b))", re.IGNORECASE | re.ASCII
)
_SYMBOLS = frozenset("()[],.+-*/%<>=!&|#~^:@")
_REFUSED_SYMBOLS = {
    ";": "a second statement is refused",
    "$": "parameters and dollar quotes are refused; write the value itself",
    "?": "parameters are refused; write the value itself",
    "'": "a quote that is opened is never closed",
    '"': "a quote that is opened is never closed",
}


class _Clause(Postgres):
    """PostgreSQL as it is written here: functions are left alone, indexes count from 1."""

    INDEX_OFFSET = 0

    class Parser(Postgres.Parser):  # type: ignore[misc, valid-type]
        """Keeps the name that the user wrote for a function, so that the allow-list decides on it."""

        FUNCTIONS: dict[str, object] = {}  # noqa: RUF012 - as in sqlglot
        NO_PAREN_FUNCTIONS: dict[str, object] = {}  # noqa: RUF012
        FUNCTION_PARSERS = {  # noqa: RUF012
            name: Postgres.Parser.FUNCTION_PARSERS[name] for name in ("CAST", "SUBSTRING", "POSITION", "TRIM")
        }
        NO_PAREN_FUNCTION_PARSERS = {"CASE": Postgres.Parser.NO_PAREN_FUNCTION_PARSERS["CASE"]}  # noqa: RUF012
        # in PostgreSQL these bind less tightly than + and -
        UNARY_PARSERS = {  # noqa: RUF012
            **Postgres.Parser.UNARY_PARSERS,
            TokenType.RLIKE: lambda self: self.expression(exp.BitwiseNot(this=self._parse_term())),
            TokenType.PIPE_SLASH: lambda self: self.expression(exp.Sqrt(this=self._parse_term())),
            TokenType.DPIPE_SLASH: lambda self: self.expression(exp.Cbrt(this=self._parse_term())),
        }


@dataclass(frozen=True, slots=True)
class ClauseText:
    """A clause as it is parsed, with parameters ``$1``, ``$2``, ... in the places of its long lists.

    Attributes
    ----------
    sql : str
        A SELECT, or nothing if the clause is empty.
    taken : tuple
        What the parameters stand for: tables of one column ``v`` for IN, tuples of numbers for ARRAY.
    prefix : int
        Characters before the user's.
    cuts, removed : tuple of int
        Positions behind the lists, and the characters that were taken out up to there; less than none where blanks
        were put in.
    """

    sql: str
    taken: tuple[pa.Table | tuple[float, ...], ...]
    prefix: int
    cuts: tuple[int, ...]
    removed: tuple[int, ...]

    def locate(self, position: int) -> int:
        """Turn a position in the parsed statement into the user's, counted from 1."""
        place = position - self.prefix
        before = bisect_right(self.cuts, place)
        return max(place + (self.removed[before - 1] if before else 0), 0) + 1


def refusal(reason: str, place: int | None = None) -> InvalidRequest:
    """Error that says what is refused and at which character it stands; in one line of printable text."""
    sentence = f"where{f' at character {place}' if place else ''}: {reason}"
    return InvalidRequest("".join(c if c.isprintable() else "?" for c in sentence))


def shortened(text: str, most: int = 40) -> str:
    """Shorten what the user wrote, for an error message."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."


def scan(clause: str, max_nesting: int) -> ClauseText:
    """Check a clause's characters, length and depth, and take the long lists out of it.

    Raises
    ------
    InvalidRequest
        Saying what is refused, and where it stands.
    """
    if _NO_TEXT.search(clause):
        raise refusal("it holds a character that is no text")
    parts: list[str] = []
    taken: list[pa.Table | tuple[float, ...]] = []
    cuts: list[int] = []
    removed: list[int] = []
    length = tokens = 0
    depth = _Depth(max_nesting)
    for match in _TOKEN.finditer(clause):
        kind, token = match.lastgroup, match.group()
        if kind in ("list", "array", "vertices"):
            if kind == "vertices" or token.count(",") >= LONG_LIST:
                place = match.start() + 1
                if len(taken) == MAX_LISTS:
                    raise refusal(f"it has more than {MAX_LISTS} lists of over {LONG_LIST} values; join them", place)
                taken.append(_values(token, place) if kind == "list" else _numbers(token, place))
                short = f"IN (${len(taken)})" if kind == "list" else f"ARRAY[${len(taken)}]"
                removed.append((removed[-1] if removed else 0) + len(token) - len(short))
                token = short
                cuts.append(length + len(token))
            else:
                tokens += 2 * token.count(",")
        elif kind == "symbol":
            _check_symbol(token, match.start(), clause)
        elif kind == "power":
            token += " "  # or the tokenizer takes the sign in 2e1-3 into the number
            removed.append((removed[-1] if removed else 0) - 1)
            cuts.append(length + len(token))
        tokens += kind != "space"
        if tokens > MAX_TOKENS:
            raise refusal(f"it has more than {MAX_TOKENS} words and symbols; send long lists as IN (...)")
        depth.see(token, kind)
        parts.append(token)
        length += len(token)
        if length > MAX_PARSED:
            raise refusal(f"it has more than {MAX_PARSED} characters outside of lists IN (...)")
    sql = "".join(parts)
    word = "" if re.match(r"\s*WHERE\b", sql, re.IGNORECASE) or _TAIL_ONLY.match(sql) else "WHERE "
    return ClauseText(
        _SELECT + word + sql if sql.strip() else "", tuple(taken), len(_SELECT + word), tuple(cuts), tuple(removed)
    )


def _check_symbol(symbol: str, start: int, clause: str) -> None:
    if symbol not in _SYMBOLS:
        reason = _REFUSED_SYMBOLS.get(symbol, f"the character {clause[start]!r} is refused outside quotes")
        raise refusal(reason, start + 1)
    if clause.startswith(("--", "/*", "*/"), start):
        raise refusal("comments are refused; put blanks between two minus signs", start + 1)
    if clause.startswith("|>", start):
        raise refusal("|> is refused; only WHERE, ORDER BY, LIMIT and OFFSET are served", start + 1)


class _Depth:
    """Counts how deeply the text read so far is nested, and refuses what is too deep."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._signs = [0]  # signs and NOTs before the next operand, one count for each open parenthesis
        self._total = 0

    def see(self, token: str, kind: str | None) -> None:
        """Take the next token into account."""
        word = token.upper() if kind == "word" else ""
        if token in ("(", "[") or word == "CASE":
            self._signs.append(0)
            self._total += 1
        elif (token in (")", "]") or word == "END") and len(self._signs) > 1:
            self._total -= 1 + self._signs.pop()
        elif token in ("-", "+", "~", "!", "@") or word == "NOT":
            self._signs[-1] += 1
            self._total += 1
        elif kind != "space":
            self._total -= self._signs[-1]
            self._signs[-1] = 0
        if self._total > self._limit:
            raise refusal(f"it is nested more than {self._limit} deep")


def _values(token: str, place: int) -> pa.Table:
    """Read the values of a long IN (...)."""
    inside = token[token.index("(") + 1 : -1]
    if "'" in inside:
        return pa.table({"v": [value[1:-1].replace("''", "'") for value in _VALUE.findall(inside)]})
    words = pc.utf8_trim_whitespace(pa.array(inside.split(",")))
    for kind in (pa.int64(), pa.uint64()):
        try:
            return pa.table({"v": words.cast(kind)})
        except pa.ArrowInvalid:
            continue
    raise refusal(f"the list of {len(words)} values has some that are no 64-bit integers", place)


def _numbers(token: str, place: int) -> tuple[float, ...]:
    """Read the numbers of an ARRAY[...], one after the other."""
    inside = token[token.index("[") + 1 : -1].translate(_BRACKETS).replace("np.float64", "").replace("np.float32", "")
    try:
        return tuple(map(float, inside.split()))
    except ValueError:
        raise refusal("the array has values that are no numbers", place) from None


def parse(text: ClauseText) -> exp.Select:
    """Parse a clause, and refuse what is more than conditions, order, limit and offset.

    Raises
    ------
    InvalidRequest
        Saying what cannot be understood, and where it stands.
    """
    try:
        statements = sqlglot.parse(text.sql, dialect=_Clause)
    except sqlglot.errors.ParseError as error:
        first = error.errors[0] if error.errors else {}
        near, line, column = str(first.get("highlight", "")), first.get("line", 1), first.get("col", 0)
        before = sum(len(row) + 1 for row in text.sql.split("\n")[: line - 1])
        place = text.locate(max(before + column - len(near), 0))
        raise refusal(f"it cannot be understood near '{shortened(near)}'", place) from None
    except sqlglot.errors.SqlglotError:
        raise refusal("it cannot be understood; is a quote or a parenthesis not closed?") from None
    except (AttributeError, LookupError, TypeError, ValueError):
        # the parser itself trips over some nonsense
        raise refusal("it cannot be understood") from None
    select = statements[0] if len(statements) == 1 else None
    if isinstance(select, exp.SetOperation):
        raise refusal("UNION, EXCEPT and INTERSECT are refused; send two queries")
    if not isinstance(select, exp.Select):
        raise refusal("it is more than a condition; only WHERE, ORDER BY, LIMIT and OFFSET are served")
    for name, value in select.args.items():
        if value and name not in ("expressions", "from_", "where", "order", "limit", "offset"):
            said = name.upper().rstrip("S")
            raise refusal(f"{said} is refused; only WHERE, ORDER BY, LIMIT and OFFSET are served")
    return select
