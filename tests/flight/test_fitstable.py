from __future__ import annotations

import pytest

from specflight.errors import UnsupportedFile
from specflight.flight.fitstable import Header

TABLE = {"XTENSION": "'BINTABLE'", "BITPIX": "8", "NAXIS": "2", "NAXIS1": "8", "NAXIS2": "3", "PCOUNT": "5"}


def header(*cards: str) -> Header:
    return Header(b"".join(card.encode("latin-1").ljust(80) for card in cards))


def table(**cards: str) -> Header:
    return header(*(f"{keyword:<8}= {value}" for keyword, value in (TABLE | cards).items()))


@pytest.mark.parametrize(
    ("card", "text", "number"),
    [
        ("KEY     = 'v5_7_0  '           / reduction", "v5_7_0", None),
        ("KEY     = 'O''Neill / no comment'", "O'Neill / no comment", None),
        ("KEY     = 'it is ''''' / two", "it is ''", None),
        ("KEY     =                  266 / plate", "266", 266),
        ("KEY     =266/plate", "266", 266),
        ("KEY     = '266     '", "266", 266),
        ("KEY     = 1.5D-3", "1.5D-3", 0.0015),
        ("KEY     = -2.5e1", "-2.5e1", -25.0),
        ("key     = 9223372036854775808", "9223372036854775808", 2**63),
        ("KEY     = T", "T", None),
        ("KEY     =", None, None),
        ("KEY     = / no value", None, None),
        ("KEY       'no equals sign'", None, None),
        ("COMMENT   KEY = 1", None, None),
    ],
)
def test_a_card_is_read_as_the_standard_says(card: str, text: str | None, number: float | None) -> None:
    assert header("SIMPLE  = T", card).text("KEY") == text
    assert header(card).number("KEY") == number


def test_a_long_string_goes_on_in_the_next_cards() -> None:
    cards = header("KEY     = 'one &'", "CONTINUE  'two &'", "CONTINUE  'three' / end", "OTHER   = 1")
    assert cards.text("KEY") == "one two three"
    assert header("KEY     = 'one &'").text("KEY") == "one &"


def test_of_a_repeated_keyword_the_first_counts() -> None:
    assert header("KEY     = 1", "KEY     = 2").number("KEY") == 1


def test_the_size_of_the_data_counts_rows_and_heap() -> None:
    assert table().data_size == 8 * 3 + 5
    assert header("BITPIX  = -32", "NAXIS   = 2", "NAXIS1  = 10", "NAXIS2  = 5").data_size == 200
    assert header("BITPIX  = 8", "NAXIS   = 0").data_size == 0


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"NAXIS2": "-1"}, "NAXIS2 is '-1' instead of a count"),
        ({"NAXIS1": "many"}, "NAXIS1 is 'many' instead of a count"),
        ({"BITPIX": "7"}, "BITPIX is '7'"),
    ],
)
def test_a_size_that_is_none_is_refused(cards: dict[str, str], reason: str) -> None:
    with pytest.raises(UnsupportedFile, match=reason):
        _ = table(**cards).data_size


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"TFIELDS": "1"}, "TFORM1 is ''"),
        ({"TFIELDS": "1", "TFORM1": "'3Z'"}, "TFORM1 is '3Z'"),
        ({"TFIELDS": "1", "TFORM1": "'3E'", "TTYPE1": "'flux'"}, "'flux' ends at byte 12 of rows of 8 bytes"),
        ({"TFIELDS": "0", "ZTABLE": "T"}, "compressed tables are not supported"),
        ({"TFIELDS": "0", "GCOUNT": "2"}, "GCOUNT"),
    ],
)
def test_a_layout_that_is_none_is_refused(cards: dict[str, str], reason: str) -> None:
    with pytest.raises(UnsupportedFile, match=reason):
        _ = table(**cards).layout


def test_rows_may_be_wider_than_their_columns() -> None:
    layout = table(TFIELDS="1", TFORM1="E", TTYPE1="'flux'").layout
    data = bytes(range(24))
    assert layout.raw(layout.columns[0], data, 3).view("u1").tolist() == [
        [0, 1, 2, 3],
        [8, 9, 10, 11],
        [16, 17, 18, 19],
    ]
