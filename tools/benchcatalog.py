"""Questions to a catalogue, put to the service and to PostgreSQL with Q3C in turns.

The service is asked through its client over Flight, PostgreSQL through asyncpg over TCP, both on the loopback. Both
have to have found the same rows before anything is timed. What PostgreSQL takes without the way to the client, it says
itself (EXPLAIN ANALYZE).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from specflight.catalog.guard import QueryLimits, guard_where
from specflight.tools.benchsides import FIVE, TABLE, Sides, Way, found_rows, sides
from specflight.tools.postgres import Postgres
from specflight.tools.race import Figure
from specflight.tools.simcatalog import offset, simulate_catalogue

__all__ = ["bench_catalogue"]

PLACES = 20
RADII = (0.01, 0.1, 1.0, 10.0)  # degrees
SIZES = (1.0, 10.0)  # of polygons, degrees; Q3C takes none beyond 23
TRIANGLE = ((-0.5, -0.3), (0.5, -0.3), (0.0, 0.6))  # to the east and north, in units of the size
DART = ((0.0, 0.5), (-0.5, -0.5), (0.0, -0.1), (0.5, -0.5))
CONDITION = "class = 'GALAXY' AND z BETWEEN 0.1 AND 0.5"
QUESTIONS = (("ids", FIVE[:1], ""), ("columns", FIVE, ""), ("condition", FIVE, CONDITION), ("count", (), ""))
TOP = "z > 2.5 ORDER BY z DESC LIMIT 100"
LISTED, RESOLVED, MATCHED = 100_000, 10_000, 100_000
ARCSEC = 1 / 3600
CLAUSES = (
    "z > 0.5",
    "z BETWEEN 0.1 AND 0.2 AND zwarning = 0",
    "class = 'QSO' AND z > 2.1 ORDER BY z DESC LIMIT 100",
    "class = 'GALAXY' AND subclass LIKE 'STAR%'",
    "class IN ('GALAXY', 'QSO') AND sn_median_all >= 5",
    "survey ILIKE 'boss' AND run2d = 'v5_13_2'",
    "plate = 7102 AND mjd = 56666 AND fiberid BETWEEN 1 AND 500",
    "plate / 100 = 71",
    "(zwarning & 4) = 0 AND z::int = 1",
    "sqrt(ra * ra + dec * dec) < 100",
    "abs(dec) < 1 OR dec > 60",
    "NOT (class = 'STAR') AND z IS NOT NULL",
    "CASE WHEN class = 'QSO' THEN z > 2 ELSE z > 0.5 END",
    "q3c_radial_query(ra, dec, 180.0, 30.0, 1.0)",
    "q3c_radial_query(ra, dec, 180.0, 30.0, 1.0) AND z > 0.3 AND class = 'GALAXY'",
    "q3c_poly_query(ra, dec, ARRAY[10.0, 10.0, 12.0, 10.0, 11.0, 12.0])",
    "z / NULLIF(zerr, 0) > 3 AND log(sn_median_all) > 0.3",
    "lower(class) = 'galaxy' AND upper(survey) = 'SDSS'",
    "specobjid IN (299489676941617152, 299489951819524096, 9223372036854775808)",
    "ORDER BY sn_median_all DESC, z LIMIT 50 OFFSET 100",
)
"""As users write them."""

Ask = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class _Place:
    """A region, as the client is told it and as PostgreSQL is."""

    position: tuple[Any, ...]
    sql: str
    arguments: tuple[object, ...]


def bench_catalogue(
    rows: int, scratch: Path, repeat: int, say: Callable[[str], None]
) -> tuple[list[Figure], list[str]]:
    """Measure the catalogue, beside PostgreSQL with Q3C where that is installed.

    Parameters
    ----------
    rows : int
        Of the simulated table.
    scratch : Path
        Folder for what is thrown away.
    repeat : int
        Rounds of what does not depend on a region; what does is asked for 20 regions.
    say : callable
        Is told what goes on.

    Returns
    -------
    list of Figure
    list of str
        Comparisons that found the same rows.

    Raises
    ------
    DamagedData
        If the two sides do not find the same rows.
    """
    file = scratch / "specobj.parquet"
    say(f"simulating a catalogue of {rows:,} rows")
    simulate_catalogue(file, rows)
    with sides(file, scratch / "catalogue", repeat, say) as both:
        figures = list(both.taken)
        for group, places in _regions(both.table):
            figures += _by_place(both, group, places)
        figures += [*_by_ids(both), *_by_condition(both), *_by_position(both), _guard(both)]
        return figures, both.equal


def _regions(table: pa.Table) -> Iterator[tuple[str, list[_Place]]]:
    """Cones and polygons around objects that the condition holds for."""
    galaxies = table.filter(pc.equal(table["class"], "GALAXY"))
    z = galaxies["z"].to_numpy()
    rows = np.random.default_rng(1).choice(np.flatnonzero((z > 0.12) & (z < 0.48)), PLACES)
    ra, dec = (galaxies[name].to_numpy()[rows] for name in ("ra", "dec"))
    for radius in RADII:
        cones = [(float(a), float(d), radius) for a, d in zip(ra, dec, strict=True)]
        yield f"cone of {radius:g}°", [_Place(cone, "q3c_radial_query(ra, dec, $1, $2, $3)", cone) for cone in cones]
    for size in SIZES:
        for kind, shape in (("triangle", TRIANGLE), ("dart", DART)):
            corners = np.array([offset(ra, dec, *np.outer((size * x, size * y), np.ones(PLACES))) for x, y in shape])
            flat = [corners[:, :, number].ravel().tolist() for number in range(PLACES)]
            places = [_Place((one,), "q3c_poly_query(ra, dec, $1::float8[])", (one,)) for one in flat]
            yield f"{kind} of {size:g}°", places


def _by_place(both: Sides, group: str, places: list[_Place]) -> list[Figure]:
    """Identifiers, five columns, the same under a condition, and a count."""
    ways = [
        way
        for name, fields, condition in QUESTIONS
        for way in _ways(both, f"{group}, {name}", places, name, fields, condition)
    ]
    return both.race(group, ways, places)


def _ways(
    both: Sides, what: str, places: list[_Place], name: str, fields: Sequence[str], condition: str
) -> Iterator[Way]:
    select, more = ", ".join(fields) or "count(*)", f" AND {condition}" if condition else ""

    def ours(place: _Place) -> Any:  # noqa: ANN401 - a number, an array or a table
        if fields:
            return both.client.query(*place.position, fields=fields, constraint=condition)
        return both.client.count(*place.position)

    def by(postgres: Postgres) -> Callable[[_Place], Any]:
        def theirs(place: _Place) -> Any:  # noqa: ANN401 - a number or a list
            found = postgres.run(f"SELECT {select} FROM {TABLE} WHERE {place.sql}{more}", *place.arguments)
            return found if fields else found[0][0]

        return theirs

    rows: Callable[[Any], int] = len if fields else int
    if both.peer is None:
        yield Way(name, ours, rows)
        return
    limit, kept = f"PostgreSQL, {name}", f"PostgreSQL, plan kept, {name}"
    peers = {limit: by(both.peer.planning), kept: by(both.peer.keeping)}
    for number, place in enumerate(places, 1):
        mine = found_rows(ours(place))
        for peer, ask in peers.items():
            both.same(f"{what}, place {number} and {peer}", mine, found_rows(ask(place)))
    yield Way(name, ours, rows, limit)
    yield Way(limit, peers[limit], rows, note=_in_the_server(both.peer.planning, select, places, more))
    yield Way(kept, peers[kept], rows, limit)


def _in_the_server(postgres: Postgres, select: str, places: list[_Place], more: str) -> str:
    """What PostgreSQL says that it takes, without sending the rows."""
    taken = []
    for place in places:
        sql = place.sql
        for number, argument in enumerate(place.arguments, 1):
            sql = sql.replace(f"${number}", f"ARRAY{argument}" if isinstance(argument, list) else repr(argument))
        plan = postgres.run(f"EXPLAIN (ANALYZE, TIMING OFF) SELECT {select} FROM {TABLE} WHERE {sql}{more}")
        times = dict(line[0].removesuffix(" ms").split(" Time: ") for line in plan[-2:])
        taken.append((float(times["Planning"]), float(times["Execution"])))
    planning, execution = (median(times) for times in zip(*taken, strict=True))
    return f"server: planning {planning:.1f}, execution {execution:.1f} ms"


def _all_sky(
    both: Sides, group: str, ours: dict[str, Ask], theirs: dict[str, Ask], numbered: bool = False
) -> list[Figure]:
    """Ways to one answer; they are compared with the first of PostgreSQL's, where there is one."""
    if both.peer is None:
        theirs = {}
    limit = next(iter(theirs), None)
    if limit is not None:
        expected = found_rows(theirs[limit](), numbered)
        for name, ask in (ours | theirs).items():
            if name != limit:
                both.same(f"{group}, {name} and {limit}", found_rows(ask(), numbered), expected)
    ways = [Way(name, _whatever(ask), limit=limit if name != limit else None) for name, ask in (ours | theirs).items()]
    return both.race(group, ways, range(both.repeat))


def _whatever(ask: Ask) -> Callable[[object], Any]:
    return lambda _: ask()


def _by_ids(both: Sides) -> list[Figure]:
    """Rows of long lists of identifiers, in the text of a clause and as an argument."""
    ids = np.random.default_rng(2).permutation(both.table["specobjid"].to_numpy())
    listed, few = ids[:LISTED], ids[:RESOLVED]
    # PostgreSQL's bigint has a sign.
    signed, few_signed = (some.view(np.int64).tolist() for some in (listed, few))
    clause, their_clause = (f"specobjid IN ({', '.join(map(str, some))})" for some in (listed.tolist(), signed))
    return [
        *_all_sky(
            both,
            f"IN list of {len(listed):,} ids",
            {"columns": lambda: both.client.query(constraint=clause, fields=FIVE)},
            {
                "PostgreSQL, IN": lambda: _asked(both, their_clause),
                "PostgreSQL, = ANY": lambda: _asked(both, "specobjid = ANY($1)", signed),
            },
        ),
        *_all_sky(
            both,
            f"rows of {len(few):,} ids",
            {
                "match, ids": lambda: both.client.match(ids=few),
                "match, columns": lambda: both.client.match(ids=few, fields=FIVE),
            },
            {"PostgreSQL, = ANY": lambda: _asked(both, "specobjid = ANY($1)", few_signed)},
        ),
    ]


def _asked(both: Sides, condition: str, *arguments: object) -> list[Any]:
    """Five columns by a condition from PostgreSQL."""
    sql = f"SELECT {', '.join(FIVE)} FROM {TABLE} WHERE {condition}"
    return both.peer.planning.run(sql, *arguments) if both.peer else []


def _by_condition(both: Sides) -> list[Figure]:
    """The first rows of the whole table in some order, for which PostgreSQL can be given an index."""
    ours: dict[str, Ask] = {"columns": lambda: both.client.query(constraint=TOP, fields=FIVE)}
    theirs: dict[str, Ask] = {"PostgreSQL": lambda: _asked(both, TOP)}
    figures = _all_sky(both, "100 highest redshifts", ours, theirs)
    if both.peer is None:
        return figures
    both.peer.planning.run(f"CREATE INDEX by_z ON {TABLE} (z)")
    return [*figures, *_all_sky(both, "100 highest redshifts, z indexed", ours, theirs)]


def _by_position(both: Sides) -> list[Figure]:
    """All rows within an arcsecond of each position of a list, which goes up first."""
    rng = np.random.default_rng(3)
    some = rng.permutation(both.table.num_rows)[:MATCHED]
    ra, dec = (both.table[name].to_numpy()[some] for name in ("ra", "dec"))
    ra, dec = offset(ra, dec, *rng.normal(0.0, 0.3 * ARCSEC, (2, len(some))))
    positions = pa.table({"row": np.arange(len(ra)), "ra": ra, "dec": dec})

    def theirs() -> list[Any]:
        if both.peer is None:
            return []
        postgres = both.peer.planning
        postgres.run("DROP TABLE IF EXISTS positions")
        postgres.copy("positions", positions)
        postgres.run("ANALYZE positions")
        return postgres.run(
            f"SELECT p.row, t.specobjid, q3c_dist(p.ra, p.dec, t.ra, t.dec) AS separation FROM positions p, {TABLE} t "
            f"WHERE q3c_join(p.ra, p.dec, t.ra, t.dec, {ARCSEC!r})"
        )

    return _all_sky(
        both,
        f"{len(ra):,} positions at 1 arcsec",
        {"match": lambda: both.client.match(ra, dec, ARCSEC, nearest=False, missing="skip")},
        {"PostgreSQL, q3c_join": theirs},
        numbered=True,
    )


def _guard(both: Sides) -> Figure:
    """Parsing, checking and writing anew of a clause."""
    kinds = {column.name: column.type for column in both.schema}

    def guarding(clause: str) -> Callable[[object], Any]:
        return lambda _: guard_where(clause, kinds, QueryLimits(), "specobj")

    ways = [Way(clause, guarding(clause), lambda _: 1) for clause in CLAUSES]
    each = both.race("guard", ways, range(max(5, both.repeat)))
    slowest = max(each, key=lambda figure: figure.seconds)
    note = f"{len(each)} clauses, the slowest takes {1e3 * slowest.seconds:.2f} ms"
    return Figure("guard", "a clause", 1, 0, median(figure.seconds for figure in each), note=note)
