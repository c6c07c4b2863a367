"""The same clauses through a catalogue, and through PostgreSQL with Q3C: the same rows in the same order."""

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specflight.catalog.database import open_database
from specflight.catalog.guard import QueryLimits
from specflight.catalog.healpix import healpix_29
from specflight.catalog.table import CatalogueTable, index_table, open_table
from specflight.tools.postgres import NotInstalled, Postgres, cluster

pytestmark = pytest.mark.postgres

N = 300
BIG = 11258999741428506624


def make_table() -> pa.Table:
    rng = np.random.default_rng(11)

    def holes(share: float = 0.1) -> np.ndarray:
        return rng.random(N) < share

    words = ["GALAXY", "QSO", "STAR", "a_b", "50%", "", " x ", "Qso", "back\\slash", "x-y-z", "Éa", "12", "~", "Z"]
    q = rng.normal(size=N) * 3
    q[5:15] = np.nan
    q[20:24] = [np.inf, -np.inf, 0.0, -0.0]
    z = rng.choice(np.array([0.1, 0.25, 0.5, 1.5, 3.0, -0.001, 0.3], np.float32), N)
    z[30:35] = np.nan
    no_place = holes(0.05)
    return pa.table(
        {
            "id": np.arange(N, dtype=np.int32),
            "specobjid": np.arange(N, dtype=np.uint64) * np.uint64(1000) + np.uint64(BIG),
            "class": pa.array(rng.choice(words, N), mask=holes()),
            "z": pa.array(z, mask=holes()),
            "zerr": pa.array(rng.random(N).astype(np.float32)),
            "zwarning": rng.integers(0, 256, N).astype(np.int32),
            "plate": rng.integers(200, 16000, N).astype(np.int16),
            "mjd": rng.integers(51000, 59000, N).astype(np.int32),
            "run": pa.array(rng.integers(-9, 9, N).astype(np.int16), mask=holes()),
            "target": rng.integers(-(2**62), 2**62, N),
            "clean": pa.array(rng.random(N) < 0.5, mask=holes()),
            "q": pa.array(q, mask=holes()),
            "u": rng.normal(size=N) + 20,
            "half": np.round(rng.normal(size=N) * 4) / 2,
            "ra": pa.array(np.concatenate([rng.random(N - 20) * 360, np.linspace(359, 361, 20) % 360]), mask=no_place),
            "dec": pa.array(np.concatenate([rng.normal(size=N - 20) * 30, np.linspace(-1, 1, 20)]), mask=no_place),
            "plug_ra": 10 + rng.random(N),
            "plug_dec": 20 + rng.random(N),
            "mag": pa.array(list(rng.random((N, 5)) + 15), pa.list_(pa.float64())),
        }
    )


TABLE = make_table()

CLAUSES = r"""
z > 0.1
z >= 0.1
z = 0.1
z = '0.1'
z = 0.1::real
z = 0.1::float4
z in (0.1, 0.25)
z in (0.1)
z in (0.5, 3)
z not in (0.1, 0.5)
z not in (0.1, null)
z > 0.1 and z < 2 or run = 3
not z > 0.25
not (z > 0.25 or z is null)
z is null
z is not null
z isnull
z notnull
z = 'NaN'
z <> 'NaN'
z > 1e30
q = 'NaN'::float8
q > 'Infinity'
q < '-inf'::double precision or q = '-Infinity'
q >= 'NaN'
q = 0
q = -0.0
q is distinct from 'NaN'
q is not distinct from null
q between 0 and 1
q not between 0 and 1
q between 1 and 0
q between symmetric 1 and 0
q not between symmetric 1 and -1
run between -3 and 3.5
z between 0.1 and 0.3
clean
not clean
clean = true
clean = 't'
clean = 'yes'
clean <> 'off'
clean is true
clean is not true
clean is false
clean is not false
clean is unknown
clean is not unknown
(z > 1) is not true
z > 1 is not true
z > 1 is null
z = 0.5 is not false
clean = (z > 0.2)
clean = clean is null
clean < true
clean in (true)
clean is distinct from (run > 0)
(z > 0.1) = (q > 0)
class = 'QSO'
'QSO' = class
class <> 'QSO'
class != 'QSO'
class > 'Q'
class < 'a'
class >= 'Qso' and class <= 'a_b'
class between 'A' and 'R'
class in ('QSO', 'STAR', '')
class not in ('QSO', 'STAR')
class = ''
class like 'G%'
class like '%A%'
class not like '%A%'
class like '_SO'
class like 'a\_b'
class like 'back\\slash'
class like '50!%' escape '!'
class like '%'
class like ''
class like '%x%y%'
class ilike 'qso'
class not ilike 'q%'
class ~~ 'Q%'
class !~~ 'Q%'
class ~~* 'q%'
class is distinct from 'QSO'
zwarning & 4 = 0
zwarning & 4 <> 0
(zwarning & (1 << 3)) <> 0
zwarning | 1 = zwarning
zwarning # 255 < 10
zwarning | 3 & 4 = 4
zwarning & 7 | 8 = 12
zwarning + 1 & 3 = 0
~zwarning = -5
~ zwarning + 1 < -100
~zwarning & 1 = 1
zwarning >> 4 = 3
zwarning << 2 > 800
zwarning >> 1 + 1 = 20
target & (1::bigint << 40) <> 0
target >> 60 = -1
target # -1 > 0
target > 4000000000000000000
-target > 0
plate / 1000 = 5
run / 2 = -3
-run / 2 = 3
run / 2 * 2 = run
plate / 1000.0 > 5.5
run % 4 = -1
mod(run, 4) = 3
-7 / 2 = run
7 / 2 = run
-7 % 3 = run
plate::int * plate::int > 100000000
plate - run * 2 > 7000
2 - 3 - 4 = run
run ^ 2 > 30
-run ^ 2 > 30
2 ^ 3 ^ 2 = 64
2 ^ -1 = 0.5
run ^ 3 < 0
- 2 ^ 2 = 4
1 + 2 * 3 - plate % 2 = 6
10 / 4 * 4 = 8 and 10 / 4.0 * 4 = 10
zerr * 2 > 0.5
zerr * zerr > 0.25
zerr + 0.1 > 0.5
zerr * 3 = zerr + zerr + zerr
zerr * 3::real = zerr + zerr + zerr
z * 10 = 1
z + z = 0.2
z + z = 0.2::real
z / 2 < 0.1
z / 3::real * 3 = z
z - 0.1 = 0
-z > 0
z + '0.1' > 0.3
mjd + '5' > 58000
abs(run) >= 7
abs(z) < 0.01
abs(-2147483647) > mjd
sqrt(abs(u)) > 4.5
|/ u > 4.5
||/ u > 2.7
cbrt(u) > 2.7
exp(run) > 100
ln(u) > 3
log(u) > 1.3
log10(u) > 1.3
log(2, 8) = 3
power(run, 2) > 30
pow(u, 0.5) > 4.5
sign(run) = -1
sign(z) = -1
ceil(half) = 1
ceiling(u) = 20
floor(half) = -1
floor(run / 2.0) = -2
round(half) = 2
round(half) = 0
round(-2.5) = -3
round(2.5) = 3
round(2.5::float8) = 2
round(half::numeric) = 1
round(u::numeric, 1) = 20.3
round(123.456, -1) = 120
trunc(half) = -1
trunc(u::numeric, 1) = 20.3
half::int = 2
half::int = 0
half::numeric::int = 1
cast(half as bigint) = -2
2.5::int = 3 and 2.5::float8::int = 2
half::int2 = 1
(half * 3)::int4 = 4
z <> 'NaN' and case when z < 9 then z::int end = 2
z::float8 > 0.1
z::double precision = 0.1
u::real > 20
u::real = u
'12'::int = 12 and ' 7 '::bigint = 7
'1.5e1'::float8 = 15
clean::int = 1
run::int::bool
run::text = '-3'
run::varchar(1) = '-'
class::varchar(2) = 'QS'
cast(plate as text) like '1%'
clean::text = 'true'
12::text || class = '12QSO'
class || '-' || run = 'QSO-1'
class || clean::text like '%true'
class || null is null
concat(class, '-', run, null, clean) = 'QSO--3t'
concat_ws('/', class, null, run) like 'QSO/%'
div(run, 4) = -1
div(7.5, 2) = 3
mod(7.5, 2) = 1.5 and run > 0
gcd(plate, 12) = 4
lcm(zwarning, 4) = 12
degrees(pi()) = 180 and radians(180) > 3.14
sin(u) > 0.5 and cos(u) > 0
tan(run) > 1
cot(run) > 1
atan(run) < -1.4
atan2(run, plate) > 0
asin(zerr) > 1
acos(zerr) > 1
sinh(half) > 1 or cosh(half) > 3 or tanh(half) < 0
asinh(half) > 1
acosh(u) > 3.6
atanh(zerr * 0.5) > 0.3
abs(sind(30) - 0.5) < 1e-12 and abs(cosd(60) - 0.5) < 1e-12
abs(tand(45) - 1) < 1e-12 and abs(cotd(45) - 1) < 1e-12
abs(asind(0.5) - 30) < 1e-9 and abs(acosd(0.5) - 60) < 1e-9 and abs(atand(1) - 45) < 1e-9
abs(atan2d(1, 1) - 45) < 1e-9
greatest(run, 3) = 3
least(run, zwarning, null) = run
greatest(q, 0.5) = 0.5
greatest(z, 0.2) = 0.2
least(class, 'M') = 'M'
coalesce(z, 0.1) = 0.1
coalesce(z, -99) < -1
coalesce(run, zwarning) > 100
coalesce(class, 'none') = 'none'
coalesce(null, run) is null
nullif(run, 1) is null
nullif(class, '') is null
nullif(z, 'NaN') is null
lower(class) = 'qso'
upper(class) = 'QSO'
length(class) = 3
char_length(class) > 5
character_length(class) = 0
octet_length(class) = 3
bit_length(class) = 24
reverse(class) = 'OSQ'
left(class, 2) = 'QS'
left(class, -1) = 'QS'
right(class, 2) = 'SO'
right(class, -1) = 'SO'
left(class, 0) = ''
substr(class, 2) = 'SO'
substr(class, 2, 1) = 'S'
substr(class, 0, 3) = 'QS'
substr(class, -1, 4) = 'QS'
substring(class from 2 for 2) = 'TA'
substring(class for 2) = 'ST'
substring(class, run) = 'QSO'
substring(class, run, 5) = 'QSO'
position('A' in class) = 2
strpos(class, 'A') = 3
strpos(class, '') = 1
trim(class) = 'x'
trim(both 'Q' from class) = 'SO'
trim(leading 'S' from class) = 'TAR'
ltrim(class, 'QS') = 'O'
rtrim(class, 'OR') = 'QS'
btrim(class, 'QO') = 'S'
ltrim(class) = 'x '
replace(class, 'Q', 'X') = 'XSO'
replace(class, 'A', '--') = 'G--L--XY'
replace(class, 'SO', '') = 'Q'
translate(class, 'QSO', 'xy') = 'xy'
repeat(class, 2) = 'QSOQSO'
repeat('ab', 3) = 'ababab' and repeat('x', 0) = '' and repeat('x', -1) = ''
lpad(class, 5, 'xy') = 'xyQSO'
lpad(class, 2) = 'QS'
rpad(class, 5) = 'QSO  '
rpad(class, 4, 'ab') = 'QSOa'
split_part(class, '-', 2) = 'y'
split_part(class, '-', -1) = 'z'
split_part(class, 'S', 1) = 'Q'
starts_with(class, 'ST')
ascii(class) = 81
chr(81) || 'SO' = class
md5(class) = md5('QSO')
case when z > 1 then 'far' when z > 0 then 'near' else 'here' end = 'near'
case run when 0 then 10 when 1 then 20 end / 3 = 6
case when z > 1 then z else 0.1 end = 0.1
case when run > 0 then run else q end > 2
case class when 'QSO' then 1 when 'STAR' then 2 else 3 end < 3
case when clean then z > 0.2 else null end
case when z > 1 then 1 end is null
specobjid = 11258999741428506624
specobjid = '11258999741428507624'
specobjid in (11258999741428506624, 11258999741428509624, 7)
specobjid - 11258999741428506624 < 5000
specobjid > -1 and specobjid < 11258999741428600000
div(specobjid, 1125899906842624) = 10000
mod(specobjid, 7000) = 624
mag[1] > 15.5 and mag[5] < mag[2]
mag[9] is null
mag[1] + mag[2] > 31.5
id in (1, 2, 3, 400, -1)
id in (1 + 1, run, 3 * 2)
q in (u, 0, 1)
ra between 100 and 200 and dec > 0
q3c_radial_query(ra, dec, 0, 0, 1)
q3c_radial_query(ra, dec, 150, 2, 30)
q3c_radial_query(ra, dec, 180, 0, 60) and z > 0.2
z > 0.2 and q3c_radial_query(ra, dec, 180, 0, 60)
(q3c_radial_query(ra, dec, 180, 0, 60) and (z > 0.2))
q3c_radial_query(ra, dec, 100, 0, 60) and q3c_radial_query(ra, dec, 140, 0, 60)
q3c_radial_query(ra, dec, 100, 0, 20) or q3c_radial_query(ra, dec, 200, 0, 20)
not q3c_radial_query(ra, dec, 100, 0, 60)
not q3c_radial_query(ra, dec, 100, 0, 60) and z > 0.2
q3c_radial_query(ra, dec, 100, 0, 60) is null
q3c_radial_query(ra, dec, 100, 0, 60) is not true
q3c_radial_query(ra, dec, 100, 0, 60) is true
q3c_radial_query(ra, dec, 100, 0, 60) = true and id > 10
't' = q3c_radial_query(ra, dec, 100, 0, 60)
q3c_radial_query(ra, dec, 100, 0, 60) = clean
case when q3c_radial_query(ra, dec, 100, 0, 60) then run > 0 else run < 0 end
Q3C_Radial_Query(RA, Dec, 15*2.5, -0.5, 3600/60)
q3c_radial_query(ra, dec, 0.5, 0.5, 3600/3600.0)
q3c_radial_query(0.5, 0.5, ra, dec, 1)
q3c_radial_query(ra, dec, 1e2+50, 1e1-1e0, 40)
z > 2e1-19.9
z > 1E0-1e-1
half = 1.5e0+1
run::bigint << 2 = -12
run::bigint << 63 < 0
run::bigint << 66 = 8
run::bigint << -62 = 12
target << 5 > 0
target << run > 0
target >> 70 = target >> 6
target >> -1 = -1
run::bigint >> 65 = -2
null between '-5' and 1000::bigint
null::int in (plate, 1, 0.0)
specobj.z > 0.1 limit all
q3c_radial_query(plug_ra, plug_dec, 10.5, 20.5, 0.3)
q3c_radial_query(plug_ra, plug_dec, 10.5, 20.5, zerr)
q3c_radial_query(ra, dec, plug_ra, plug_dec, 20)
not q3c_radial_query(plug_ra, plug_dec, 10.5, 20.5, 0.3) and clean
q3c_poly_query(ra, dec, array[350, -10, 10, -10, 10, 10, 350, 10])
q3c_poly_query(ra, dec, ARRAY[100.0, -8, 118, -8, 118, 8, 100, 8]) and z > 0
q3c_poly_query(ra, dec, '{100, -8, 118, -8, 118, 8, 100, 8}'::float8[])
q3c_poly_query(ra, dec, array[100, -8, 118, -8, 110, 8]::double precision[]) or z > 1
not q3c_poly_query(ra, dec, array[100, -8, 118, -8, 110, 8]) and z > 0
q3c_dist(ra, dec, 180, 0) < 40
q3c_dist(ra, dec, 180, 0) < 40 and z > 0.2
40 > q3c_dist(180, 0, ra, dec)
q3c_dist(ra, dec, 180, 0) between 30 and 60
q3c_dist(ra, dec, 180, 0) < 40 or q3c_dist(ra, dec, 10, 0) < 40
q3c_dist(ra, dec, 180, 0) is null
not q3c_dist(ra, dec, 180, 0) < 40
q3c_dist(ra, dec, plug_ra, plug_dec) * 3600 < 80000
q3c_dist(plug_ra, plug_dec, 10.5, 20.5) <= 0.25 + zerr / 10
order by z, id
order by z desc, id
order by z nulls first, id
order by z desc nulls last, id
order by q, id desc
order by q desc, id desc
order by class, id
order by class desc, id
order by clean, z desc, id
order by -run, id
order by abs(q), id
order by run % 3, -id
order by lower(class) desc nulls last, id
order by case when z > 1 then 0 else 1 end, id
order by specobjid desc
order by mag[2]
order by target
order by q3c_dist(ra, dec, 180, 0), id
z > 0.1 order by q3c_dist(ra, dec, 180, 0) desc, id limit 20
q3c_radial_query(ra, dec, 180, 0, 90) order by u limit 10 offset 3
order by id limit 5
order by id desc limit 5 offset 290
order by id offset 295
order by id limit 0
z > 0.1 order by u desc limit 7
where z > 0.1 order by id limit 3
true
false
null
true and (false or 1 = 1)
1 = 1 or null
'it''s' = 'it''s' and class = 'QSO'
'é' = 'é' and class = 'Éa'
upper('abc') = 'ABC' and lower('ABC') = 'abc'
1e2 = 100 and .5 = 0.5 and 5. = 5
0.1 + 0.25 = 0.35
(((z))) > (0.1)
z*10>1 and(z<2)
"z" > 0.1 and specobj.z < 2 and "class" = 'QSO'
""".strip().split("\n")
CLAUSES += [
    f"{column} in ({', '.join(first)}, {', '.join(map(repr, map(str, range(60))))})"
    for column, first in (
        ("run", ["'-3'", "' +0002'", "'-04 '"]),
        ("z", ["' 0.10'", "'2.5e-1'", "'NaN'"]),
        ("q", ["'NaN'", "'-Infinity'", "'-0'"]),
    )
]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    try:
        with cluster() as server:
            server.copy("specobj", TABLE)
            yield server
    except NotInstalled as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CatalogueTable]:
    folder = tmp_path_factory.mktemp("catalogue")
    file = folder / "table.parquet"
    cells = healpix_29(*(TABLE[name].to_numpy() for name in ("ra", "dec")))
    pq.write_table(TABLE.append_column("_healpix_29", pa.array(cells)).sort_by("_healpix_29"), file)
    index_table(folder, [file], id_column="specobjid", ra="ra", dec="dec")
    with open_database("500MB", tmp_path_factory.mktemp("scratch"), 1) as database:
        named = {"id_column": "specobjid", "ra": "ra", "dec": "dec"}
        yield open_table("specobj", folder, [file], database, QueryLimits(), **named, description="simulated")


def found_by_guard(catalogue: CatalogueTable, clause: str) -> list[int]:
    found: list[int] = catalogue.query(where=clause, columns=["id"])["id"].to_pylist()
    return found if "order by" in clause else sorted(found)


def found_by_postgres(postgres: Postgres, clause: str) -> list[int]:
    word = "" if re.match(r"(order|limit|offset|where)\b", clause) else "WHERE "
    found = [row[0] for row in postgres.run(f"SELECT id FROM specobj {word}{clause}")]
    return found if "order by" in clause else sorted(found)


@pytest.mark.parametrize("clause", CLAUSES)
def test_a_clause_finds_the_rows_that_postgresql_finds(
    catalogue: CatalogueTable, postgres: Postgres, clause: str
) -> None:
    assert found_by_guard(catalogue, clause) == found_by_postgres(postgres, clause)


def test_there_are_as_many_clauses_as_promised() -> None:
    assert len(CLAUSES) >= 150
    assert len(set(CLAUSES)) == len(CLAUSES)
