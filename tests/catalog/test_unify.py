from __future__ import annotations

import itertools

import pyarrow as pa
import pytest

from specflight.catalog.unify import conform, unify_schemas
from specflight.errors import UnsupportedFile

NUMBERS = [
    pa.bool_(),
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint16(),
    pa.uint32(),
    pa.uint64(),
    pa.float16(),
    pa.float32(),
    pa.float64(),
]
OTHERS = [
    pa.null(),
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.list_(pa.int32()),
    pa.list_(pa.int32(), 3),
    pa.list_(pa.float32(), 5),
    pa.list_(pa.string()),
    pa.large_list(pa.int64()),
    pa.list_(pa.list_(pa.int8())),
    pa.dictionary(pa.int32(), pa.string()),
    pa.timestamp("s"),
    pa.timestamp("ns"),
    pa.date32(),
    pa.struct([("a", pa.int8())]),
]


def unified(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    return unify_schemas([pa.schema([("x", a)]), pa.schema([("x", b)])]).field("x").type


def together(*tables: pa.Table) -> pa.Table:
    schema = unify_schemas([table.schema for table in tables])
    return pa.concat_tables([conform(table, schema) for table in tables])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (pa.int16(), pa.int64(), pa.int64()),
        (pa.uint8(), pa.int8(), pa.int16()),
        (pa.uint32(), pa.int16(), pa.int64()),
        (pa.uint64(), pa.uint8(), pa.uint64()),
        (pa.uint64(), pa.int64(), pa.decimal128(20, 0)),
        (pa.bool_(), pa.int16(), pa.int16()),
        (pa.int16(), pa.float32(), pa.float32()),
        (pa.int32(), pa.float32(), pa.float64()),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.null(), pa.uint64(), pa.uint64()),
        (pa.int32(), pa.string(), pa.string()),
        (pa.list_(pa.int32(), 5), pa.int64(), pa.string()),
        (pa.list_(pa.int32(), 5), pa.list_(pa.float32(), 5), pa.list_(pa.float64(), 5)),
        (pa.list_(pa.int32(), 5), pa.list_(pa.int32(), 3), pa.list_(pa.int32())),
        (pa.dictionary(pa.int32(), pa.string()), pa.string(), pa.string()),
        (pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("ns")),
    ],
)
def test_two_types_unify_to_the_smallest_that_holds_both(a: pa.DataType, b: pa.DataType, expected: pa.DataType) -> None:
    assert unified(a, b) == expected
    assert unified(b, a) == expected


@pytest.mark.parametrize(("a", "b"), list(itertools.combinations(NUMBERS + OTHERS, 2)), ids=str)
def test_every_pair_of_types_has_a_union_that_does_not_depend_on_order(a: pa.DataType, b: pa.DataType) -> None:
    assert unified(a, b) == unified(b, a)
    result = together(pa.table({"x": pa.nulls(2, a)}), pa.table({"x": pa.nulls(1, b)}))
    assert result.column("x").null_count == 3


@pytest.mark.parametrize(
    ("a", "b"),
    list(itertools.combinations(NUMBERS[1:9], 2)),
    ids=str,
)
def test_integers_keep_their_extreme_values(a: pa.DataType, b: pa.DataType) -> None:
    def extremes(t: pa.DataType) -> list[int]:
        bits = t.bit_width
        return [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if pa.types.is_signed_integer(t) else [0, 2**bits - 1]

    result = together(pa.table({"x": pa.array(extremes(a), a)}), pa.table({"x": pa.array(extremes(b), b)}))
    assert [int(v) for v in result.column("x").to_pylist()] == extremes(a) + extremes(b)


def test_lists_that_meet_strings_become_words_separated_by_blanks() -> None:
    legacy = pa.table({"objid": pa.array([[94, 301, 1, 134, 7], None], pa.list_(pa.int32(), 5))})
    boss = pa.table({"objid": ["1237655369830039569"]})
    assert together(legacy, boss).column("objid").to_pylist() == ["94 301 1 134 7", None, "1237655369830039569"]
    floats = pa.table({"objid": pa.array([[0.1, 25.0, None]], pa.list_(pa.float32()))})
    assert together(boss, floats).column("objid").to_pylist()[1] == "0.1 25 "
    nested = pa.table({"objid": [[[1, 2], [3]]]})
    assert together(boss, nested).column("objid").to_pylist()[1] == "1 2 3"
    assert together(boss, pa.table({"objid": [{"a": 1}]})).column("objid").to_pylist()[1] == "{'a': 1}"


def test_columns_keep_the_order_of_first_appearance_and_absent_ones_are_null() -> None:
    a = pa.table({"specobjid": pa.array([2**63 + 1], pa.uint64()), "survey": ["legacy"]})
    b = pa.table({"ra": [1.5], "specobjid": pa.array([7], pa.uint64())})
    result = together(a, b)
    assert result.to_pydict() == {"specobjid": [2**63 + 1, 7], "survey": ["legacy", None], "ra": [None, 1.5]}
    assert result.schema.field("specobjid").type == pa.uint64()


def test_a_column_that_one_table_lacks_is_nullable() -> None:
    a = pa.schema([pa.field("x", pa.int8(), nullable=False), pa.field("y", pa.int8(), nullable=False)])
    result = unify_schemas([a, pa.schema([a.field("x")])])
    assert not result.field("x").nullable
    assert result.field("y").nullable


def test_a_unit_survives_where_it_is_agreed_and_goes_where_it_is_disputed() -> None:
    def schema(unit: bytes | None) -> pa.Schema:
        return pa.schema([pa.field("flux", pa.float32(), metadata={b"unit": unit} if unit else None)])

    assert unify_schemas([schema(b"nJy"), schema(None)]).field("flux").metadata == {b"unit": b"nJy"}
    assert unify_schemas([schema(b"nJy"), schema(b"mag")]).field("flux").metadata is None


def test_an_integer_that_a_float_cannot_hold_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedFile, match="'thing_id' does not fit into double"):
        together(pa.table({"thing_id": [2**60 + 1]}), pa.table({"thing_id": [0.5]}))


def test_a_table_with_a_column_twice_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedFile, match="'ra' appears twice"):
        unify_schemas([pa.schema([("ra", pa.float64()), ("ra", pa.float64())])])


def test_columns_that_the_schema_does_not_name_are_left_out() -> None:
    assert conform(pa.table({"a": [1], "b": [2]}), pa.schema([("b", pa.int64())])).to_pydict() == {"b": [2]}
