"""A bare Arrow Flight server that sends tables from memory: the limit that `specflight bench` compares with."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

import pyarrow as pa
import pyarrow.flight as fl

from specflight.errors import ServiceUnavailable

__all__ = ["RawClient", "raw_server"]

START_SECONDS = 60.0


class _RawServer(fl.FlightServerBase):  # type: ignore[misc]
    """Keeps every table that is put, in the record batches that came, and sends it again."""

    def __init__(self) -> None:
        self._tables: dict[bytes, pa.Table] = {}
        super().__init__("grpc://127.0.0.1:0")

    def do_put(
        self,
        context: fl.ServerCallContext,
        descriptor: fl.FlightDescriptor,
        reader: fl.MetadataRecordBatchReader,
        writer: fl.FlightMetadataWriter,
    ) -> None:
        self._tables[descriptor.path[0]] = reader.read_all()

    def do_get(self, context: fl.ServerCallContext, ticket: fl.Ticket) -> fl.RecordBatchStream:
        return fl.RecordBatchStream(self._tables[ticket.ticket])

    def do_action(self, context: fl.ServerCallContext, action: fl.Action) -> list[bytes]:
        return [b""]


def _serve(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = _RawServer()
    pipe.send(server.port)
    with pipe:
        # The other end says nothing more; it closes when it is done or dead.
        pipe.poll(None)
    server.shutdown()


@contextmanager
def raw_server() -> Iterator[str]:
    """Run the bare server in a process of its own.

    Yields
    ------
    str
        Its location, ``grpc://host:port``.

    Raises
    ------
    ServiceUnavailable
        If it does not start.
    """
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs,), name="raw-flight", daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(START_SECONDS):
            raise ServiceUnavailable(f"the bare Flight server said nothing for {START_SECONDS:g} s")
        yield f"grpc://127.0.0.1:{ours.recv()}"
    except EOFError:
        raise ServiceUnavailable("the bare Flight server ended at once") from None
    finally:
        ours.close()
        process.join()


class RawClient:
    """The bare server as a client without anything around Flight sees it.

    Parameters
    ----------
    location : str
        As `raw_server` yields it.
    """

    def __init__(self, location: str) -> None:
        self._client = fl.connect(location)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def put(self, key: str, table: pa.Table) -> None:
        """Have the server keep a table, chunk by chunk as it is."""
        writer, _ = self._client.do_put(fl.FlightDescriptor.for_path(key), table.schema)
        with writer:
            writer.write_table(table)

    def get(self, key: str) -> pa.Table:
        """Table of a key, as it was put."""
        return self._client.do_get(fl.Ticket(key)).read_all()

    def act(self) -> None:
        """Have the server do nothing: one round trip."""
        list(self._client.do_action(fl.Action("nothing", b"")))
