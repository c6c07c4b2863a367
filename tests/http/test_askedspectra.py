from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from specflight.client._transport import Stream
from specflight.http.askedspectra import Batches


def test_batches_that_were_looked_at_are_still_to_come_and_closing_ends_the_stream() -> None:
    ended = []

    def sent() -> Iterator[pa.RecordBatch]:
        try:
            for number in range(9):
                yield pa.record_batch({"number": [number]})
        finally:
            ended.append(True)

    batches = Batches(Stream(pa.schema([]), sent()))
    assert [batch["number"][0].as_py() for batch in batches.ahead(2)] == [0, 1]
    assert [next(batches)["number"][0].as_py() for _ in range(4)] == [0, 1, 2, 3]
    assert not ended
    batches.close()
    assert ended == [True]
    with pytest.raises(StopIteration):
        next(batches)
