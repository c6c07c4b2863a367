"""How text tables are written: where their header is, what stands between values, and which line is at fault."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from specflight.catalog.tablecells import refuse
from specflight.errors import InvalidRequest

__all__ = ["NUMBER", "Dialect", "Rows", "find_fault", "sniff_dialect"]

SNIFF_BYTES = 1 << 20

NUMBER = r"(?i)^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$"
"""Regular expression of a finite number."""

_BLANKS = " "
_WORD = re.compile(rb"\"[^\"]*\"|'[^']*'|\S+")
_NAME = re.compile(r"[A-Za-z_]\S*")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text file is written.

    Attributes
    ----------
    delimiter : str
        A blank stands for any number of them.
    quote : str
    encoding : str
    names : tuple of str
        The header's.
    body : int
        Lines before the first one that may be a row.
    """

    delimiter: str
    quote: str
    encoding: str
    names: tuple[str, ...]
    body: int

    @property
    def separator(self) -> str:
        """What stands between the values of `Rows`."""
        return "\t" if self.delimiter == _BLANKS else self.delimiter


class Rows(io.RawIOBase):
    """The bytes of a text file's rows: no header, no comments, and one tab where there were blanks between values."""

    def __init__(self, path: Path, dialect: Dialect) -> None:
        self._file = _open(path)
        for _ in range(dialect.body):
            self._file.readline()
        self._blanks = dialect.delimiter == _BLANKS
        self._waiting = b""

    def readable(self) -> bool:
        """Whether it can be read, as `io` wants to know."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer; 0 at the end."""
        while not self._waiting:
            lines = self._file.readlines(len(buffer))
            if not lines:
                return 0
            if any(line.startswith(b"#") for line in lines):
                lines = [line for line in lines if not line.startswith(b"#")]
            if self._blanks:
                lines = [b"\t".join(_WORD.findall(line)) + b"\n" for line in lines]
            self._waiting = b"".join(lines)
        size = min(len(buffer), len(self._waiting))
        buffer[:size] = self._waiting[:size]
        self._waiting = self._waiting[size:]
        return size

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def sniff_dialect(path: Path, name: Path) -> Dialect:
    """Find the header, the delimiter and the quotes at the start of a file.

    Parameters
    ----------
    path : Path
        The file, gzipped or not.
    name : Path
        What it is called in messages.

    Returns
    -------
    Dialect

    Raises
    ------
    InvalidRequest
        If the file is empty, not text or has no header.
    """
    with _open(path) as file:
        start = file.read(SNIFF_BYTES)
        whole = not file.read(1)
    start = start if whole else start[: start.rfind(b"\n") + 1]
    if b"\0" in start or not (start or whole):
        raise refuse(name, "is no FITS, Parquet, VOTable, ECSV or text table")
    try:
        text = start.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:
        text = start.decode("latin-1")
    lines = [line.rstrip("\r") for line in text.split("\n")]
    try:
        return _dialect(lines, name)
    except csv.Error as error:
        raise refuse(name, f"has no header that can be read: {error}") from error


def _dialect(lines: Sequence[str], name: Path) -> Dialect:
    comments, body = [], 0
    for line in lines:
        if line.strip() and not line.startswith("#"):
            break
        comments += [line.lstrip("#").strip()] if line.strip() else []
        body += 1
    plain = [line for line in lines[body:] if line.strip() and not line.startswith("#")]
    if not plain:
        raise refuse(name, "is empty" if not comments else "has no rows and no header")
    delimiter = _delimiter(plain)
    quote = _quote(plain, delimiter)
    first = _split(plain[0], delimiter, quote)
    stated = _split(comments[-1], delimiter, quote) if comments else []
    numbers = [any(re.search(NUMBER, value) for value in _split(line, delimiter, quote)) for line in plain[:10]]
    # Where only later lines have numbers, it is the first one that names them.
    if _names(stated) and len(stated) == len(first) and (numbers[0] or not any(numbers)):
        return Dialect(delimiter, quote, "utf-8", tuple(stated), body)
    if numbers[0]:
        raise refuse(name, f"has no header: its first line is {plain[0][:60]!r}")
    return Dialect(delimiter, quote, "utf-8", tuple(first), lines.index(plain[0], body) + 1)


def _delimiter(plain: Sequence[str]) -> str:
    """Find what stands between values: of those in the first line, that which the second one has as often."""
    counts = {mark: [len(_split(line, mark, '"')) for line in plain[:2]] for mark in (",", "\t", ";", _BLANKS)}
    several = {mark: count for mark, count in counts.items() if count[0] > 1}
    agreed = [mark for mark, count in several.items() if len(set(count)) == 1]
    return next(iter([*agreed, *(mark for mark in several if mark != _BLANKS), ","]))


def _quote(plain: Sequence[str], delimiter: str) -> str:
    """Find the quotes: ' where every value that begins with one ends with one too, and none is in double ones."""
    mark = r"\s" if delimiter == _BLANKS else re.escape(delimiter)
    text = "\n".join(plain)
    if re.search(rf'(?m)(?:^|{mark})"', text):
        return '"'
    begun = len(re.findall(rf"(?m)(?:^|{mark})'", text))
    whole = len(re.findall(rf"(?m)(?:^|(?<={mark}))'(?:[^'\n]|'')*'(?=\s*(?:$|{mark}))", text))
    return "'" if 0 < begun <= whole else '"'


def _split(line: str, delimiter: str, quote: str) -> list[str]:
    if delimiter == _BLANKS:
        words = [word.decode() for word in _WORD.findall(line.encode())]
        return [word[1:-1] if word[0] == word[-1] == quote and len(word) > 1 else word for word in words]
    return [value.strip() for value in next(csv.reader([line], delimiter=delimiter, quotechar=quote), [])]


def _names(values: Sequence[str]) -> bool:
    """Whether values could be the names of columns."""
    return bool(values) and all(_NAME.fullmatch(value) for value in values) and len({*values}) == len(values)


def find_fault(path: Path, name: Path, dialect: Dialect) -> InvalidRequest | None:
    """Find the first line of a file that is no row.

    Returns
    -------
    InvalidRequest or None
        The error to raise, which names the line; None where there is no such line.
    """
    with _open(path) as file:
        lines = ("" if line.startswith(b"#") else line.decode("latin-1") for line in islice(file, dialect.body, None))
        if dialect.delimiter == _BLANKS:
            lines = ("\t".join(_split(line, _BLANKS, dialect.quote)) + "\n" for line in lines)
        rows = csv.reader(lines, delimiter=dialect.separator, quotechar=dialect.quote, strict=True)
        line = dialect.body
        try:
            for row in rows:
                if row and len(row) != len(dialect.names):
                    return refuse(name, f"has {len(row)} values in line {line + 1}, of {len(dialect.names)} columns")
                line = dialect.body + rows.line_num
        except csv.Error as error:
            return refuse(name, f"has a fault in line {line + 1}: {error}")
    return None


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if packed else path.open("rb")
