"""Constants of a clause: numbers that are written out, or calculated from such as PostgreSQL would."""

from __future__ import annotations

import math
from collections.abc import Callable

from sqlglot import exp

__all__ = ["constant"]

_OPERATIONS: dict[type[exp.Expr], Callable[[float, float], float]] = {
    exp.Add: lambda a, b: a + b,
    exp.Sub: lambda a, b: a - b,
    exp.Mul: lambda a, b: a * b,
    exp.Pow: lambda a, b: math.pow(a, b),
}
_CASTS: dict[exp.DType, Callable[[float], float]] = {
    exp.DType.SMALLINT: round,
    exp.DType.INT: round,
    exp.DType.BIGINT: round,
    exp.DType.FLOAT: float,
    exp.DType.DOUBLE: float,
    exp.DType.DECIMAL: float,
}


def constant(node: exp.Expr) -> int | float | None:
    """Calculate an expression of numbers.

    Parameters
    ----------
    node : sqlglot.exp.Expr
        Numbers, in quotes or not, with signs, parentheses, + - * / ^ and casts to numbers. Whole numbers divide as in
        PostgreSQL: 1/3600 is 0.

    Returns
    -------
    int, float or None
        None if it is something else, or cannot be calculated.
    """
    try:
        value = _value(node)
    except (ValueError, ArithmeticError):
        return None
    return value


def _value(node: exp.Expr) -> int | float | None:
    """Calculate; a whole number that the database has no type for goes on as a float."""
    value = _calculated(node)
    return float(value) if value is not None and abs(value) >= 2**127 else value


def _calculated(node: exp.Expr) -> int | float | None:
    kind = type(node)
    if kind is exp.Literal:
        if node.name.isdigit() and not node.is_string:
            return int(node.name) if len(node.name) < 40 else float(node.name)
        return float(node.name)
    if kind in (exp.Paren, exp.Neg):
        inner = _value(node.this)
        return None if inner is None else -inner if kind is exp.Neg else inner
    if kind is exp.Cast and node.args["to"].this in _CASTS and not node.args["to"].expressions:
        inner = _value(node.this)
        return None if inner is None else _CASTS[node.args["to"].this](inner)
    if kind not in _OPERATIONS and kind is not exp.Div:
        return None
    a, b = _value(node.this), _value(node.expression)
    if a is None or b is None:
        return None
    if kind is not exp.Div:
        return _OPERATIONS[kind](a, b)
    if isinstance(a, int) and isinstance(b, int):
        return math.trunc(a / b) if max(abs(a), abs(b)) < 2**53 else None
    return a / b
