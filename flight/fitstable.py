"""FITS headers and binary tables, read from bytes by what they say.

Only what a reader of spectra needs of the FITS standard 4.0 (https://fits.gsfc.nasa.gov/fits_standard.html, sections 4
and 7.3): the values of header cards, where each HDU's data lie, and the columns of a binary table. Thousands of files
share the headers of their tables, so parsed headers are cached by their bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specflight.errors import UnsupportedFile

__all__ = ["BY_ROW", "ELEMENTS", "Column", "Hdu", "Header", "TableLayout", "physical", "walk_hdus"]

BLOCK, CARD = 2880, 80
# Type code → numpy's name of one element (standard table 18); C and M are pairs, X is read as whole bytes.
ELEMENTS = {"L": "u1", "X": "u1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "A": "u1"}
ELEMENTS |= {"E": ">f4", "D": ">f8", "C": ">f4", "M": ">f8", "P": ">i4", "Q": ">i8"}
BY_ROW = frozenset("APQ")  # strings and variable-length arrays: their bytes may differ in number from row to row
# The offsets by which signed columns hold unsigned numbers and the reverse (standard, section 5.2.5).
_SIGN_FLIPS = {("B", -128): "i1", ("I", 2**15): "u2", ("J", 2**31): "u4", ("K", 2**63): "u8"}
_TFORM = re.compile(r"(\d*)([LXBIJKAEDCMPQ])(\S*)", re.ASCII)
_STRING = re.compile(r"\s*'((?:[^']|'')*)'")
_TDIM_WIDTH = re.compile(r"\(\s*(\d+)\s*,", re.ASCII)


class Header:
    """The cards of one HDU.

    Parameters
    ----------
    cards : bytes
        From the first card up to the END card, a multiple of 80 bytes.
    """

    def __init__(self, cards: bytes) -> None:
        self._cards = cards
        # From the last to the first: of a keyword that is repeated, the first counts.
        keywords = cards.upper()
        self._places = {keywords[i : i + 8]: i for i in range(len(cards) - CARD, -1, -CARD)}

    def text(self, keyword: str) -> str | None:
        """Return a card's value as text, without quotes and trailing blanks; None where there is no value."""
        place = self._places.get(keyword.encode().ljust(8))
        if place is None or self._cards[place + 8 : place + 9] != b"=":
            return None
        card = self._cards[place + 9 : place + CARD].decode("latin-1")
        string = _STRING.match(card)
        if string is None:
            return card.partition("/")[0].strip() or None
        value = string[1].replace("''", "'").rstrip()
        while value.endswith("&") and self._cards[place + CARD : place + CARD + 8] == b"CONTINUE":
            place += CARD
            string = _STRING.match(self._cards[place + 8 : place + CARD].decode("latin-1"))
            if string is None:
                break
            value = value[:-1] + string[1].replace("''", "'").rstrip()
        return value

    def number(self, keyword: str) -> int | float | None:
        """Return a card's value as a number, quoted or not, with exponents E or D; None where it is none."""
        text = self.text(keyword)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError:
            pass
        try:
            return float(text.upper().replace("D", "E"))
        except ValueError:
            return None

    def count(self, keyword: str, default: int | None = None) -> int:
        """Return a card's value as a number of things, which is an integer >= 0.

        Raises
        ------
        UnsupportedFile
            Where the card is missing and there is no default, or holds anything else.
        """
        value = self.number(keyword)
        if value is None and default is not None and self.text(keyword) is None:
            return default
        if not isinstance(value, int) or value < 0:
            raise UnsupportedFile(f"a header's {keyword} is {self.text(keyword)!r} instead of a count")
        return value

    @cached_property
    def data_size(self) -> int:
        """Bytes of data that follow the header, without padding (standard, section 4.4.1)."""
        axes = [self.count(f"NAXIS{i + 1}") for i in range(min(self.count("NAXIS"), 999))]
        if not axes:
            return 0
        if axes[0] == 0 and self.text("GROUPS") == "T":
            axes = axes[1:]
        elements = 1
        for axis in axes:
            elements *= axis
        bitpix = self.number("BITPIX")
        if bitpix not in (8, 16, 32, 64, -32, -64):
            raise UnsupportedFile(f"a header's BITPIX is {self.text('BITPIX')!r}")
        return abs(int(bitpix)) // 8 * self.count("GCOUNT", 1) * (self.count("PCOUNT", 0) + elements)

    @property
    def is_table(self) -> bool:
        """Whether the HDU is a binary table."""
        return (self.text("XTENSION") or "").upper() == "BINTABLE"

    @cached_property
    def layout(self) -> TableLayout:
        """The columns of the binary table that the header describes.

        Raises
        ------
        UnsupportedFile
            Where the columns are not those of an uncompressed binary table of the FITS standard.
        """
        return _layout(self)


@dataclass(frozen=True, slots=True)
class Hdu:
    """One HDU of a file: its header, and where its data start and how many bytes they take."""

    header: Header
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a binary table.

    Attributes
    ----------
    name : str
        TTYPE as it stands in the file.
    code : str
        The letter of TFORM; with `repeat` elements per cell.
    detail : str
        What follows the letter in TFORM: the element type of variable-length arrays.
    offset, width : int
        Where a cell starts in its row and how many bytes it takes.
    item : int
        Bytes of one string in a cell of strings; equal to `width` where the cell is one string.
    scale, zero : float or int
        TSCAL and TZERO.
    null : int or None
        TNULL of an integer column.
    unit : str or None
        TUNIT.
    """

    name: str
    code: str
    repeat: int
    detail: str
    offset: int
    width: int
    item: int
    scale: int | float
    zero: int | float
    null: int | None
    unit: str | None

    @property
    def plain(self) -> bool:
        """Whether the stored numbers are the values."""
        return self.scale == 1 and self.zero == 0 and self.null is None


@dataclass(frozen=True)
class TableLayout:
    """The columns of a binary table.

    Attributes
    ----------
    columns : tuple of Column
        In the order of the file, cells of no width included.
    row_width : int
        Bytes of a row (NAXIS1).
    rows : int
        Number of rows (NAXIS2).
    heap : int
        Where the heap of variable-length arrays starts, in bytes from the start of the data.
    """

    columns: tuple[Column, ...]
    row_width: int
    rows: int
    heap: int

    @cached_property
    def kind(self) -> str:
        """What layouts share whose rows differ by the widths of strings and variable-length arrays only."""
        return repr(
            [
                (column.name, column.unit, column.code, column.item < column.width)
                if column.code in BY_ROW
                else replace(column, offset=0)
                for column in self.columns
            ]
        )

    @cached_property
    def number_parts(self) -> tuple[slice, ...]:
        """The pieces of a row that are left when strings and variable-length arrays are cut out."""
        parts: list[slice] = []
        for column in self.columns:
            if column.code in BY_ROW or not column.width:
                continue
            if parts and parts[-1].stop == column.offset:
                parts[-1] = slice(parts[-1].start, column.offset + column.width)
            else:
                parts.append(slice(column.offset, column.offset + column.width))
        return tuple(parts)

    @cached_property
    def numbers(self) -> TableLayout:
        """The layout of a row that consists of `number_parts`."""
        columns: list[Column] = []
        offset = 0
        for column in self.columns:
            if column.code not in BY_ROW:
                columns.append(replace(column, offset=offset))
                offset += column.width
        return TableLayout(tuple(columns), offset, self.rows, 0)

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """Columns by lower-case name; of equal names the first."""
        return {column.name.lower(): column for column in reversed(self.columns)}

    def raw(self, column: Column, data: bytes, rows: int, start: int = 0) -> NDArray[Any]:
        """View the stored elements of a column of fixed-size cells.

        Parameters
        ----------
        column : Column
        data : bytes
            Holds `rows` rows of this layout from byte `start` on.

        Returns
        -------
        ndarray
            Shape (rows, elements per cell), big-endian, a view of `data`.
        """
        dtype = np.dtype(ELEMENTS[column.code])
        shape = (rows, column.width // dtype.itemsize)
        if not column.width:
            return np.empty(shape, dtype)
        return np.ndarray(shape, dtype, data, start + column.offset, (self.row_width, dtype.itemsize))


def physical(column: Column, raw: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Apply a column's TNULL, TZERO and TSCAL to its stored numbers.

    Parameters
    ----------
    column : Column
        Of numbers: B, I, J, K, E, D, C or M.
    raw : ndarray
        Stored elements, of any shape.

    Returns
    -------
    values : ndarray
        In native byte order; integers of the stored size where TZERO only says that they are signed or unsigned,
        float64 where numbers are scaled.
    null : ndarray of bool or None
        Where elements are TNULL; None where the column has none.
    """
    null = None if column.null is None or raw.dtype.kind not in "iu" else raw == column.null
    native = raw.astype(raw.dtype.newbyteorder("="))
    flipped = _SIGN_FLIPS.get((column.code, int(column.zero) if column.zero == column.zero // 1 else 0))
    if column.scale == 1 and flipped:
        unsigned = native.view(f"u{native.itemsize}")
        return (unsigned ^ unsigned.dtype.type(1 << (8 * native.itemsize - 1))).view(flipped), null
    if column.scale == 1 and column.zero == 0:
        return native, null
    with np.errstate(over="ignore", invalid="ignore"):
        return np.float64(column.zero) + np.float64(column.scale) * native.astype(np.float64), null


def walk_hdus(data: bytes) -> list[Hdu]:
    """Find every HDU of a file.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    list of Hdu
        At least the primary one; bytes after the last HDU that are no extension are ignored.

    Raises
    ------
    UnsupportedFile
        Where the file is empty, is not FITS or ends before its last HDU does.
    """
    if not data:
        raise UnsupportedFile("the file is empty")
    if not _begins(data, 0, b"SIMPLE  "):
        raise UnsupportedFile(f"the file is not FITS: it begins with {data[:9]!r}")
    hdus: list[Hdu] = []
    place = 0
    while not hdus or _begins(data, place, b"XTENSION"):
        cards_end = _find_end(data, place)
        cards = data[place:cards_end]
        # The coadd, specobj and emission-line tables share headers with other files; exposures and HDU 0 do not.
        header = _shared_header(cards) if len(hdus) in (1, 2, 3) else Header(cards)
        start = place + _padded(cards_end + CARD - place)
        # Without padding the coadd or the primary HDU is no end of a file: what followed is lost.
        end = start + _padded(header.data_size) if len(hdus) < 2 else start + header.data_size
        if end > len(data):
            raise UnsupportedFile(f"the file is truncated: it has {len(data)} bytes of at least {end}")
        hdus.append(Hdu(header, start, header.data_size))
        place = start + _padded(header.data_size)
    return hdus


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _begins(data: bytes, place: int, keyword: bytes) -> bool:
    word = data[place : place + 8].upper()
    return bool(word) and keyword.startswith(word)


def _find_end(data: bytes, place: int) -> int:
    """Find the END card of the header that starts at `place`."""
    found = place
    while (found := data.find(b"END", found)) >= 0:
        if (found - place) % CARD == 0 and not data[found + 3 : found + 8].strip():
            return found
        found += 1
    raise UnsupportedFile(f"the file is truncated: a header has no END within the {len(data)} bytes")


@lru_cache(maxsize=256)
def _shared_header(cards: bytes) -> Header:
    return Header(cards)


def _layout(header: Header) -> TableLayout:
    if header.text("ZTABLE") == "T":
        raise UnsupportedFile("compressed tables are not supported: decompress the file with funpack")
    if header.count("NAXIS") != 2 or header.number("BITPIX") != 8 or header.count("GCOUNT", 1) != 1:
        raise UnsupportedFile("a table's header has NAXIS, BITPIX or GCOUNT of something else")
    row_width, rows = header.count("NAXIS1"), header.count("NAXIS2")
    columns: list[Column] = []
    offset = 0
    for i in range(1, header.count("TFIELDS") + 1):
        columns.append(_column(header, i, offset))
        offset += columns[-1].width
        if offset > row_width:
            raise UnsupportedFile(f"the column '{columns[-1].name}' ends at byte {offset} of rows of {row_width} bytes")
    return TableLayout(tuple(columns), row_width, rows, header.count("THEAP", row_width * rows))


def _column(header: Header, i: int, offset: int) -> Column:
    form = header.text(f"TFORM{i}") or ""
    match = _TFORM.match(form.strip().upper())
    if match is None:
        raise UnsupportedFile(f"the table's TFORM{i} is {form!r}")
    repeat, code, detail = int(match[1] or 1), match[2], match[3]
    width = -(-repeat // 8) if code == "X" else repeat * int(ELEMENTS[code][-1]) * (2 if code in "CMPQ" else 1)
    item = width
    if code == "A":
        dimensions = _TDIM_WIDTH.match(header.text(f"TDIM{i}") or "")
        stated = dimensions[1] if dimensions else detail
        item = int(stated) if stated.isdigit() and 0 < int(stated) <= width else width
    scale, zero, null = (header.number(f"{keyword}{i}") for keyword in ("TSCAL", "TZERO", "TNULL"))
    scales = code in "BIJKEDCMPQ"
    return Column(
        name=(header.text(f"TTYPE{i}") or f"col{i}").strip(),
        code=code,
        repeat=repeat,
        detail=detail,
        offset=offset,
        width=width,
        item=item,
        scale=1 if scale is None or not scales else scale,
        zero=0 if zero is None or not scales else zero,
        null=null if isinstance(null, int) and code in "BIJKPQ" else None,
        unit=header.text(f"TUNIT{i}") or None,
    )
