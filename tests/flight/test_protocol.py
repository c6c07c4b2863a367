from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from specflight.errors import InvalidRequest
from specflight.flight.protocol import (
    SPPIXMASK,
    VECTORS,
    choose_columns,
    describe,
    fits_schema,
    grid_loglam,
    spectra_schema,
)
from specflight.flight.requests import (
    FitsRequest,
    Query,
    QueryRequest,
    Request,
    SpanRequest,
    SpectraRequest,
    parse_request,
)

ALL = ("flux", "loglam", "ivar", "and_mask", "or_mask", "wdisp", "sky", "model")


def parsed(**fields: object) -> Request:
    return parse_request(json.dumps({"what": "spectra"} | fields))


@pytest.mark.parametrize("names", [None, "all"])
def test_no_choice_means_all_eight_columns_in_the_order_of_the_files(names: str | None) -> None:
    assert choose_columns(names) == ALL


@pytest.mark.parametrize("names", ["sky, flux", ["sky", "flux"], ("sky", "flux")])
def test_columns_keep_the_order_asked_for(names: Any) -> None:  # noqa: ANN401
    assert choose_columns(names) == ("sky", "flux")


@pytest.mark.parametrize(
    ("names", "fault"),
    [("flux,fluxx", "'fluxx'"), ("FLUX", "'FLUX'"), ("", "''"), ("flux,,ivar", "''"), (["specobjid"], "'specobjid'")],
)
def test_an_unknown_column_is_refused_by_name(names: Any, fault: str) -> None:  # noqa: ANN401
    with pytest.raises(InvalidRequest, match=f"^columns: {fault} is not one of flux, loglam"):
        choose_columns(names)


@pytest.mark.parametrize("names", ["flux,ivar,flux", ["flux", "flux"], []])
def test_a_column_named_twice_and_no_column_are_refused(names: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidRequest, match="columns: name each column once"):
        choose_columns(names)


def test_the_grid_is_bit_for_bit_what_the_files_hold(
    sim_truth: dict[str, dict[int, Path]], astropy_vectors: Callable[[Path], dict[str, NDArray[Any]]]
) -> None:
    for path in [path for files in sim_truth.values() for path in files.values()]:
        loglam = astropy_vectors(path)["loglam"]
        again = grid_loglam(round(float(loglam[0]) * 1e4), len(loglam))
        assert again.dtype == np.float32
        assert again.tobytes() == loglam.tobytes(), path


@pytest.mark.parametrize(
    "request_",
    [
        SpectraRequest(context="a", ids=[1, "2"], columns=("flux",), align=True, missing="null", start=3),
        SpectraRequest(query=Query(cone=(1.0, 2.0, 0.5), limit=3), cutout=(4000.0, 5000.5), compression="zstd"),
        SpectraRequest(ids=[2**64 - 1], grid=(35500, 100)),
        QueryRequest(catalog="a.b", polygon=((1.0, 2.0), (3.0, 4.0), (5.0, 1.0)), where="z > 1", columns=("z",)),
        SpanRequest(ids=[7]),
        FitsRequest(ids=[7], missing="skip", start=1),
    ],
)
def test_a_request_survives_the_wire(request_: Request) -> None:
    assert parse_request(request_.model_dump_json()) == request_
    assert parse_request(request_.model_dump_json(exclude_none=True).encode()) == request_


def test_a_request_typed_by_hand_needs_little() -> None:
    request = parse_request(b'{"what": "spectra", "ids": ["18446744073709551615"], "cutout": "6500-7200"}')
    assert isinstance(request, SpectraRequest)
    assert request.ids == ["18446744073709551615"]
    assert request.cutout == (6500.0, 7200.0)
    assert (request.context, request.missing, request.align, request.start) == ("default", "raise", False, 0)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"flux please",
        b"{",
        b"[]",
        b"3",
        b'"spectra"',
        b"null",
        b"\xff\xfe",
        b'{"ids": [1]}',
        b'{"what": "pictures"}',
    ],
)
def test_what_is_no_request_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="got "):
        parse_request(text)


@pytest.mark.parametrize(
    ("fields", "named", "value"),
    [
        ({"idz": [1]}, "idz", "[1]"),
        ({"ids": "12"}, "ids", "'12'"),
        ({"ids": {"a": 1}}, "ids", "{'a': 1}"),
        ({"context": 3}, "context", "3"),
        ({"columns": "flux"}, "columns", "'flux'"),
        ({"align": "perhaps"}, "align", "'perhaps'"),
        ({"missing": "drop"}, "missing", "'drop'"),
        ({"start": -1}, "start", "-1"),
        ({"compression": "gzip"}, "compression", "'gzip'"),
        ({"grid": [35500, 0]}, "grid", "0"),
        ({"grid": [35500, 100001]}, "grid", "100001"),
        ({"grid": [10**30, 10]}, "grid", "1000000000000000000000000000000"),
        ({"grid": [-(10**9), 10]}, "grid", "-1000000000"),
        ({"query": {"limit": -2}}, "query.limit", "-2"),
        ({"query": {"cone": [1, 2]}}, "query.cone", ""),
        ({"query": {"cone": [1, 2, 3], "polygon": [[1, 2]]}}, "query", "one region"),
        ({"query": "z > 1"}, "query", "'z > 1'"),
    ],
)
def test_a_fault_is_told_by_field_and_value(fields: dict[str, object], named: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    assert str(caught.value).startswith(named)
    assert value in str(caught.value)


@pytest.mark.parametrize(
    ("cutout", "value"),
    [
        ("7200-6500", "7200-6500"),
        ([7200, 6500], "7200-6500"),
        ("6500-6500", "6500-6500"),
        ("red-blue", "red-blue"),
        ("6500", "6500"),
        ("", "''"),
        ("6500--7200", "6500--7200"),
        ("nan-7200", "nan"),
        ([6500, 7000, 7200], "7200"),
        ([50, 7200], "50-7200"),
        ([6500, 2e6], "6500-2e+06"),
        (6500, "6500"),
    ],
)
def test_a_cutout_that_is_no_range_is_refused_with_its_value(cutout: object, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(ids=[1], cutout=cutout)
    assert str(caught.value).startswith("cutout")
    assert value in str(caught.value)


def test_a_fault_in_a_huge_request_is_told_in_one_short_sentence() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_request(json.dumps({"what": "spectra", "ids": {"x": "y" * 100_000}}))
    assert len(str(caught.value)) < 250


def test_the_schema_says_ids_status_and_vectors_with_their_units() -> None:
    schema = spectra_schema(ALL, "sdss_dr16", "DR16")
    assert schema.names == ["specobjid", "status", *ALL]
    assert schema.field("specobjid").type == pa.uint64()
    assert schema.field("flux").type == pa.list_(pa.float32())
    assert schema.field("or_mask").type == pa.list_(pa.int32())
    units = {name: (schema.field(name).metadata or {})[b"unit"].decode() for name in ALL}
    assert units["flux"] == units["sky"] == units["model"] == "1e-17 erg s-1 cm-2 Angstrom-1"
    assert units["ivar"] == "1e34 s2 cm4 Angstrom2 erg-2"
    assert units["loglam"] == "log10(Angstrom)"
    assert (units["wdisp"], units["and_mask"]) == ("pixel", "")


def test_the_schema_of_aligned_spectra_tells_the_grid_and_has_arrays_of_its_width() -> None:
    schema = spectra_schema(("flux", "and_mask"), "c", "DR12", (35500, 4600))
    assert schema.field("flux").type == pa.list_(pa.float32(), 4600)
    about = describe(schema)
    assert about["grid"] == {"loglam": "float32((k0 + i) * 1e-4)", "step": 1e-4, "k0": 35500, "npix": 4600}
    assert (about["context"], about["release"]) == ("c", "DR12")
    assert (about["medium"], about["frame"]) == ("vacuum", "heliocentric")


def test_the_schema_of_spectra_off_the_grid_promises_no_grid() -> None:
    assert describe(spectra_schema(("loglam",), "c", on_grid=False))["grid"] == {}


def test_mask_bits_are_told_where_a_mask_is_asked_for() -> None:
    assert describe(spectra_schema(("or_mask",), "c"))["mask_bits"] == SPPIXMASK
    assert "mask_bits" not in describe(spectra_schema(("flux",), "c"))
    # From https://www.sdss4.org/dr17/algorithms/bitmasks/#SPPIXMASK
    known = {"NOPLUG": 0, "FULLREJECT": 18, "NOSKY": 22, "BRIGHTSKY": 23, "NODATA": 24, "COMBINEREJ": 25}
    assert known.items() <= SPPIXMASK.items()
    assert len(set(SPPIXMASK.values())) == len(SPPIXMASK)


def test_a_schema_without_metadata_describes_nothing() -> None:
    assert describe(pa.schema([])) == {}
    assert describe(fits_schema("c")) == {"context": "c"}


def test_vectors_are_little_endian_four_byte_numbers() -> None:
    assert tuple(VECTORS) == ALL
    assert {name: vector.dtype.str for name, vector in VECTORS.items()} == {
        name: "<i4" if name.endswith("mask") else "<f4" for name in ALL
    }
