"""``/getSpec`` over HTTP in other formats than numpy's, and what clients may keep of it."""

from __future__ import annotations

import csv
import io

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures_server import Vectors
from webspectra import CONTEXT, NAMES, Truth, answered, arrays, fields, refusal

from specflight.client import Client


@pytest.mark.parametrize("kind", ["npy", "numpy", "pandas", "tables", "Spectrum1D", "SpectrumCollection", "nosuch"])
def test_old_clients_get_arrays_and_turn_them_into_what_they_want(web: httpx.Client, ids: list[int], kind: str) -> None:
    assert answered(web, ids[0], format=kind).content == answered(web, ids[0]).content


def test_others_are_told_which_formats_there_are(web: httpx.Client, ids: list[int]) -> None:
    status, text = refusal(web.post("/getSpec", data=fields(ids[0], format="nosuch")))
    assert (status, text) == (400, "Error: format: 'nosuch' is not one of npy, arrow, parquet, csv, fits")


@pytest.mark.parametrize("align", [True, False])
def test_arrow_and_parquet_are_the_table_of_the_client(
    web: httpx.Client, sim_client: Client, ids: list[int], align: bool
) -> None:
    for values in (None, "model,flux"):
        expected = sim_client.getSpec(ids, fmt="arrow", align=align, values=values)
        answer = answered(web, ids, format="arrow", align=align, values=values)
        assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
        with pa.ipc.open_stream(answer.content) as stream:
            table = stream.read_all()
        assert table.equals(expected, check_metadata=True)
        answer = answered(web, ids, format="Parquet", align=align, values=values)
        assert answer.headers["content-type"] == "application/vnd.apache.parquet"
        assert pq.read_table(io.BytesIO(answer.content)).equals(expected)
    if align:
        wider = pa.ipc.open_stream(answered(web, ids, format="arrow", w0=3.5, w1=4.1).content).read_all()
        assert wider["flux"].type.list_size == 6001


def test_csv_has_a_row_for_each_pixel_and_every_bit(
    web: httpx.Client, truth: dict[int, Vectors], ids: list[int]
) -> None:
    wanted = [max(ids), *ids[:2]]
    answer = answered(web, wanted, format="csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0] == ["specobjid", *NAMES]
    columns = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
    expected = [truth[specobjid] for specobjid in wanted]
    assert list(map(int, columns["specobjid"])) == [
        specobjid for specobjid in wanted for _ in range(len(truth[specobjid]["flux"]))
    ]
    for name in NAMES:
        values = np.concatenate([vectors[name] for vectors in expected])
        assert np.array(columns[name], values.dtype).tobytes() == values.tobytes()
    # A column of whole numbers is not one of integers.
    padded = answered(web, ids[0], format="csv", values="flux,and_mask", w0=3.0, w1=4.2).text.splitlines()
    assert padded[1] == f"{ids[0]},0.0,0"
    some = answered(web, ids[0], format="csv", values="model,flux", cutout="6500-6600").text.splitlines()
    assert some[0] == "specobjid,model,flux"
    assert len(some) == 1 + len(arrays(answered(web, ids[0], cutout="6500-6600")))


def test_fits_is_the_original_with_its_name(web: httpx.Client, sim_truth: Truth, ids: list[int]) -> None:
    for specobjid in ids[:4]:
        path = sim_truth[CONTEXT][specobjid]
        answer = answered(web, specobjid, format="FITS", align=True, w0=3.5, w1=4.0)
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == f'attachment; filename="{path.name}"'
    whole_plate = f"({sim_truth[CONTEXT][ids[0]].name.split('-')[1].lstrip('0')}, '*', '*')"
    for several in (ids[:2], whole_plate):
        status, text = refusal(answered(web, several, format="FITS"))
        assert status == 400
        assert "one spectrum" in text


def test_a_get_of_one_spectrum_can_be_kept_and_originals_read_in_parts(
    web: httpx.Client, sim_truth: Truth, ids: list[int]
) -> None:
    for kind in ("npy", "fits"):
        asked = {"id": str(ids[0]), "context": CONTEXT, "format": kind}
        answer = web.get("/getSpec", params=asked)
        assert "max-age" in answer.headers["cache-control"]
        again = web.get("/getSpec", params=asked, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = web.get("/getSpec", params=asked | {"id": str(ids[1])})
        assert other.headers["etag"] != answer.headers["etag"]
        assert "etag" not in web.post("/getSpec", data=asked).headers
    content = sim_truth[CONTEXT][ids[0]].read_bytes()
    part = web.get("/getSpec", params=asked, headers={"Range": "bytes=2880-5759"})
    assert (part.status_code, part.content) == (206, content[2880:5760])
    assert web.get("/getSpec", params=asked, headers={"Range": f"bytes={len(content)}-"}).status_code == 416
