"""A PostgreSQL with Q3C that lives as long as it is needed: what catalogue queries are compared with."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from specflight.errors import ServiceUnavailable, SpecflightError

__all__ = ["NotInstalled", "Postgres", "cluster"]

START_SECONDS = 60.0

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian keeps the programs, a folder for each version."""

SETTINGS = {
    "shared_buffers": "1GB",
    "effective_cache_size": "4GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "512MB",
    "random_page_cost": "1.1",  # everything is in the page cache
    "jit": "off",  # compiling takes longer than any of the queries here
    "autovacuum": "off",  # nothing runs besides; who loads a table vacuums it
    "max_wal_size": "4GB",
    "fsync": "off",
    "synchronous_commit": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}
"""How the server is set up; all the rest, parallel workers among it, is as PostgreSQL comes."""

# The server ends with the pipe, and so with this process however that ends, and its folder goes with it.
_KEEPER = """
exec 3<&0
"$@" 3<&- &
server=$!
{ read -r _ <&3; kill -QUIT $server; } &
wait $server
rm -rf "$FOLDER"
"""

_TYPES = {
    pa.bool_(): "boolean",
    pa.int8(): "smallint",
    pa.uint8(): "smallint",
    pa.int16(): "smallint",
    pa.uint16(): "integer",
    pa.int32(): "integer",
    pa.uint32(): "bigint",
    pa.int64(): "bigint",
    pa.uint64(): "numeric(20, 0)",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.large_string(): "text",
    pa.date32(): "date",
    pa.null(): "text",
}


class NotInstalled(SpecflightError):
    """PostgreSQL, Q3C or the driver is not there; the text says what to install."""


class Postgres:
    """A running server, and one connection to it over loopback TCP.

    Parameters
    ----------
    dsn : str
        ``postgresql://user:password@host:port/database``.

    Attributes
    ----------
    dsn : str
        For other connections.
    """

    def __init__(self, dsn: str) -> None:
        import asyncpg  # type: ignore[import-untyped]

        self.dsn = dsn
        self._loop = asyncio.new_event_loop()
        try:
            self._connection: Any = self._loop.run_until_complete(asyncpg.connect(dsn))
        except BaseException:
            self._loop.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.terminate()
        # One turn of the loop lets the transport go.
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def run(self, sql: str, *arguments: object) -> list[Any]:
        """Execute one statement; its plan is kept for the next time.

        Parameters
        ----------
        sql : str
            With ``$1`` and so on in the places of the arguments.

        Returns
        -------
        list of asyncpg.Record
            Rows, whose values are found by place and by name.

        Raises
        ------
        asyncpg.PostgresError
            As the server says it.
        """
        rows: list[Any] = self._loop.run_until_complete(self._connection.fetch(sql, *arguments))
        return rows

    def copy(self, name: str, rows: pa.Table | pa.RecordBatchReader) -> None:
        """Make a table and fill it by COPY.

        Parameters
        ----------
        name : str
            Of the table, with or without its schema, which is made if need be.
        rows : pyarrow.Table or pyarrow.RecordBatchReader
            A uint64 becomes ``numeric(20, 0)``, for bigint has a sign; a list of numbers becomes an array.

        Raises
        ------
        TypeError
            If there is a column of a type that has no counterpart here.
        """
        schema, _, table = name.rpartition(".")
        if schema:
            self.run(f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}")
        columns = ", ".join(f"{_quoted(field.name)} {_type(field.type)}" for field in rows.schema)
        self.run(f"CREATE TABLE {_quoted(schema) + '.' if schema else ''}{_quoted(table)} ({columns})")

        async def lines() -> AsyncIterator[bytes]:
            for batch in rows.to_batches() if isinstance(rows, pa.Table) else rows:
                yield _as_csv(batch)

        work = self._connection.copy_to_table(table, source=lines(), schema_name=schema or None, format="csv")
        self._loop.run_until_complete(work)


@contextlib.contextmanager
def cluster() -> Iterator[Postgres]:
    """Run a PostgreSQL with Q3C in a temporary folder, on a free port of the loopback.

    It ends with the context, or with this process if that is killed. Started by root, it runs as ``postgres``.

    Yields
    ------
    Postgres

    Raises
    ------
    NotInstalled
        If PostgreSQL, Q3C or asyncpg is not installed.
    ServiceUnavailable
        If the server does not start.
    """
    try:
        import asyncpg
    except ModuleNotFoundError:
        raise NotInstalled("asyncpg is not installed: pip install asyncpg") from None
    binaries = _binaries()
    password = secrets.token_hex(16)
    # What it says is read after its folder is gone.
    with TemporaryFile() as log, TemporaryDirectory(prefix="specflight-pg-") as name:
        folder = Path(name)
        user = _user_for(folder)
        (folder / "password").write_text(password + "\n")
        command = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "specflight", "-A", "scram-sha-256"]
        command += ["--pwfile", str(folder / "password"), "-E", "UTF8", "--locale", "C", "--no-sync"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, **user)
        if done.returncode:
            raise ServiceUnavailable(f"initdb ended with status {done.returncode}: {done.stderr.strip()}")
        with _server(binaries / "postgres", folder, log, user) as (port, process):
            dsn = f"postgresql://specflight:{password}@127.0.0.1:{port}/postgres"
            with contextlib.closing(_connected(dsn, log, process)) as postgres:
                try:
                    postgres.run("CREATE EXTENSION q3c")
                except asyncpg.FeatureNotSupportedError:
                    raise NotInstalled("Q3C is not installed; in Debian it is postgresql-15-q3c") from None
                yield postgres


def _binaries() -> Path:
    found = [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    found += sorted(DEBIAN.glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise NotInstalled("PostgreSQL is not installed; in Debian it is postgresql-15 and postgresql-15-q3c")


def _user_for(folder: Path) -> dict[str, Any]:
    """Whom to run as, in the words of `subprocess`: PostgreSQL refuses to be root."""
    if os.geteuid():
        return {}
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        raise NotInstalled("there is no user postgres that PostgreSQL could run as instead of root") from None
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def _server(
    postgres: Path, folder: Path, log: IO[bytes], user: dict[str, Any]
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Port of a server that is starting, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = [f"{key}={value}" for key, value in {**SETTINGS, "port": str(port)}.items()]
    command = [str(postgres), "-D", str(folder / "data"), *(word for option in options for word in ("-c", option))]
    process = subprocess.Popen(
        ["/bin/sh", "-c", _KEEPER, "postgres", *command],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        cwd=folder,
        env={**os.environ, "FOLDER": str(folder)},
        start_new_session=True,  # Ctrl-C is for us alone
        **user,
    )
    try:
        yield port, process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait()


def _connected(dsn: str, log: IO[bytes], process: subprocess.Popen[bytes]) -> Postgres:
    """Connect as soon as the server is ready."""
    import asyncpg

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return Postgres(dsn)
        except (OSError, asyncpg.CannotConnectNowError):
            if process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
        log.seek(0)
        raise ServiceUnavailable(f"PostgreSQL did not start: {log.read().decode(errors='replace').strip()}") from None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _type(kind: pa.DataType) -> str:
    """Name of PostgreSQL's type."""
    if pa.types.is_dictionary(kind):
        return _type(kind.value_type)
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    if _is_list(kind) and kind.value_type in _TYPES and not pa.types.is_nested(kind.value_type):
        return f"{_TYPES[kind.value_type]}[]"
    if kind not in _TYPES:
        raise TypeError(f"type: {kind} has no counterpart in PostgreSQL here")
    return _TYPES[kind]


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _as_csv(batch: pa.RecordBatch) -> bytes:
    """Rows as COPY reads them: NULL is empty, a text is quoted, an array is ``{1,2}``."""
    columns = []
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if _is_list(column.type):
            column = _array_literals(column.cast(pa.list_(column.type.value_type)))
        columns.append(column)
    sink = io.BytesIO()
    csv.write_csv(pa.record_batch(columns, batch.schema.names), sink, csv.WriteOptions(include_header=False))
    return sink.getvalue()


def _array_literals(lists: pa.ListArray) -> pa.StringArray:
    items = pc.fill_null(lists.values.cast(pa.string()), "NULL")
    joined = pc.binary_join(pa.ListArray.from_arrays(lists.offsets, items), ",")
    literals = pc.binary_join_element_wise("{", joined, "}", "")
    return pc.if_else(lists.is_valid(), literals, None)
