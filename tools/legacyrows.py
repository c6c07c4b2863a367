"""The old client's calls for contexts, profiles, catalogues, queries, pictures and plots."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from specflight.tools.legacycall import LegacyCall, mended, ok, own, refused
from specflight.tools.legacychecks import (
    all_of,
    answers,
    contains,
    equals,
    error_text,
    found,
    raises,
    rows,
)
from specflight.tools.legacyimages import drawn, grid, picture, png_bytes, same_image, stack
from specflight.tools.legacysample import Sample

__all__ = ["LISTINGS", "PICTURES", "QUERIES"]

TAKES_TIMEOUT = "the function hands on a timeout that its method does not take"
FIRST = ("description", "type", "catalog", "id_main", "redshift", "rest_frame", "catalogs")  # keys of a context

LISTINGS: tuple[LegacyCall, ...] = (
    own("isAlive()  [module]", "FAIL", TAKES_TIMEOUT, raises("TypeError", saying="timeout"), "isAlive()"),
    own("isAlive(url)  [module]", "FAIL", TAKES_TIMEOUT, raises("TypeError", saying="timeout"), "isAlive(service)"),
    mended("client.isAlive(url)", "!", equals(True), "client.isAlive(service)"),
    ok("set_context('sdss_dr16')", equals("OK"), "set_context(context)"),
    refused(
        "set_context('nosuch')", "there is no such context", raises("Exception", saying='Invalid context "nosuch"')
    ),
    ok("set_context('default')", equals("OK")),
    ok("set_profile('default')", equals("OK")),
    refused(
        "set_profile('nosuch')", "there is no such profile", raises("Exception", saying='Invalid profile "nosuch"')
    ),
    ok("get_context()", equals("default")),
    ok("get_profile()", equals("default")),
    ok("list_contexts()", contains("         default   ", lambda s: f"{s.context:>16}   ")),
    ok("list_contexts(fmt='json')", contains("default", lambda s: s.context, kind="dict")),
    mended("list_contexts(fmt='csv')", "!", contains("context_name,description\n", lambda s: f"\n{s.context},")),
    ok("list_contexts('sdss_dr16')", contains(*FIRST, kind="dict"), "list_contexts(context)"),
    mended("list_contexts('nosuch')", "!", error_text("nosuch")),
    ok("list_profiles()", contains("         default   ")),
    mended("list_profiles(fmt='csv')", "!", contains("profile_name,description\n", "\ndefault,")),
    mended("list_profiles(fmt='json')", "!", contains("default", kind="dict")),
    ok("list_profiles('default')", contains("description", "type", "vosRoot", kind="dict")),
    ok("catalogs()", contains("Catalogs used by 'default' context:\n\n", lambda s: f"{s.catalog:>30}   ")),
    ok("catalogs(fmt='csv')", contains("catalog_name,description\n", lambda s: f"\n{s.catalog},")),
    mended(
        "catalogs(fmt='json')",
        "!",
        all_of(contains(lambda s: s.catalog), answers(lambda text: bool(json.loads(text)), "JSON")),
    ),
    ok(
        "catalogs(context='sdss_dr14')",
        contains(lambda s: f"Catalogs used by '{s.other}' context:\n\n", lambda s: f" {s.other}."),
        "catalogs(context=other)",
    ),
    mended("catalogs(context='nosuch')", "!", error_text("nosuch")),
)


def _cone(s: Sample) -> dict[str, Any]:
    return {"ra": s.ra, "dec": s.dec, "size": s.size}


def _wide(constraint: str) -> Callable[[Sample], dict[str, Any]]:
    return lambda s: {
        "ra": s.ra,
        "dec": s.dec,
        "size": s.wide,
        "constraint": constraint.replace("ZCUT", str(s.zcut)),
    }


def _polygon(s: Sample) -> dict[str, Any]:
    return {"region": s.vertices}


def _around_big(s: Sample) -> dict[str, Any]:
    ra, dec, size = s.bigcone or (0.0, 0.0, 0.0)
    return {"ra": ra, "dec": dec, "size": size}


NO_SPECOBJID = "it reads the sentence of the error as a table"
QUERIES: tuple[LegacyCall, ...] = (
    ok("query(30.0,1.0,0.1)", found(_cone), "query(ra, dec, size)"),
    ok("query(30.0,1.0,0.1,out='')", found(_cone), "query(ra, dec, size, out='')"),
    own(
        "client.query(30.0,1.0,0.1)",
        "FAIL",
        "its method takes the first number for another argument",
        raises("AttributeError", saying="startswith"),
        "client.query(ra, dec, size)",
    ),
    own(
        "query(ra=,dec=,size=) keywords",
        "FAIL",
        "it hands on keywords twice",
        raises("TypeError", saying="multiple values"),
        "query(ra=ra, dec=dec, size=size)",
    ),
    ok("query(SkyCoord,0.1)", found(_cone), "query(SkyCoord(ra, dec, unit='deg'), size)"),
    ok("query(region=[flat list])", found(_polygon), "query(flat)"),
    mended(
        "query(region=[(ra,dec),..]) README form",
        "FAIL",
        found(_polygon),
        "query([tuple(vertex) for vertex in vertices])",
    ),
    ok(
        "query(constraint='z > 0.2 limit 5')",
        found(lambda s: {"constraint": f"z > {s.zcut}"}, limit=5),
        "query(constraint='z > %s limit 5' % zcut)",
    ),
    ok(
        "query(constraint=\"run2d='103' order by z limit 5\")",
        found(lambda s: {"constraint": f"run2d='{s.run2d}' order by z limit 5"}, order=True),
        "query(constraint=\"run2d='%s' order by z limit 5\" % run2d)",
    ),
    ok("query(constraint='limit 5')", found(lambda s: {}, limit=5)),
    ok(
        "query(30,1,2, constraint='z>0.2 order by z limit 5')",
        found(_wide("z>ZCUT order by z limit 5"), order=True),
        "query(ra, dec, wide, constraint='z>%s order by z limit 5' % zcut)",
    ),
    ok(
        "query(30,1,2, constraint='order by z limit 5')",
        found(_wide("order by z limit 5"), order=True),
        "query(ra, dec, wide, constraint='order by z limit 5')",
    ),
    ok(
        "query(...,fields='tuple')",
        rows("specobjid,plate,mjd,fiberid,run2d", _cone),
        "query(ra, dec, size, fields='tuple')",
    ),
    ok(
        "query(...,fields='specobjid,ra,dec,z')",
        rows("specobjid,ra,dec,z", _cone),
        "query(ra, dec, size, fields='specobjid,ra,dec,z')",
    ),
    own(
        "query(...,fields='bestobjid')",
        "!",
        "with one field it returns the column specobjid, whatever was asked for",
        found(_cone),
        "query(ra, dec, size, fields=extra)",
    ),
    ok(
        "query(...,catalog='sdss_dr16.specobjall')",
        found(lambda s: _cone(s) | {"catalog": s.catalogall}),
        "query(ra, dec, size, catalog=catalogall)",
    ),
    ok("query(...,context='sdss_dr16')", found(_cone), "query(ra, dec, size, context=context)"),
    mended(
        "query(...,context='sdss') (README/tests)",
        "FAIL",
        found(lambda s: _cone(s) | {"context": "sdss"}),
        "query(ra, dec, size, context=alias)",
    ),
    ok(
        "query() empty result (30,89,0.01)",
        found(lambda s: {"ra": s.ra, "dec": 89.0, "size": 1e-6}),
        "query(ra, 89.0, 1e-6)",
    ),
    refused(
        "query(constraint=bad SQL)",
        "the clause is no SQL; " + NO_SPECOBJID,
        raises("KeyError", saying="specobjid"),
        "query(constraint='z >>> and')",
    ),
    ok(
        "query(...,out='q.csv')",
        answers(lambda text: str(text).startswith("specobjid\n") and str(text).endswith("\n\n"), "a file of CSV"),
        "(query(ra, dec, size, out='q.csv'), text('q.csv'))[1]",
    ),
    ok("query(2,12,1) ids >= 2**63", found(_around_big), "query(*bigcone)"),
)


def _preview(name: str, code: str) -> LegacyCall:
    return ok(name, picture("RGBA", (400, 100)), code)


IGNORES_OUT = "it does not hand on the name of the file"
BLANKS = "it puts the blanks of a tuple into a URL as they are"
PICTURES: tuple[LegacyCall, ...] = (
    _preview("preview(int)", "preview(one)"),
    _preview("preview(np.uint64 >= 2**63)", "preview(np.uint64(bigone))"),
    own("preview(tuple)", "FAIL", BLANKS, raises("Exception", saying="Malformed"), "preview(tuple(pmf))"),
    refused(
        "preview(not existing)",
        "there is no such spectrum",
        raises("Exception", saying="cannot identify image"),
        "preview(absent_id)",
    ),
    ok("plotGrid(25 ids,5,5)", grid(25, 5), "plotGrid(hundred[:25], 5, 5)"),
    ok(
        "plotGrid(25 ids,5,5,fmt=bytes)",
        png_bytes,
        "plotGrid(hundred[:25], 5, 5, fmt='bytes')",
    ),
    ok("plotGrid(100 ids,5,5,page=2)", grid(25, 5), "plotGrid(hundred, 5, 5, page=2)"),
    ok("plotGrid(7 ids,3,2,page=1)", grid(1, 2), "plotGrid(ten[:7], 3, 2, page=1)"),
    ok("plotGrid(7 ids,4,3)", grid(7, 3), "plotGrid(ten[:7], 4, 3)"),
    ok("plotGrid(ndarray uint64)", grid(4, 2), "plotGrid(np.array(big[:4], dtype=np.uint64), 2, 2)"),
    ok("plotGrid(list of np.uint64)", grid(4, 2), "plotGrid([np.uint64(i) for i in ten[:4]], 2, 2)"),
    mended("plotGrid([tuples])", "FAIL", grid(2, 2), "plotGrid([tuple(pmf), tuple(pmf2)], 2, 2)"),
    own(
        "plotGrid(int,1,1)",
        "FAIL",
        "it makes a list of whatever it is given",
        raises("TypeError", saying="not iterable"),
        "plotGrid(one, 1, 1)",
    ),
    ok("stackedImage(100)", stack("hundred"), "stackedImage(hundred)"),
    ok("stackedImage(mixed 50+50)", stack("half"), "stackedImage(half)"),
    ok(
        "stackedImage(100,scale=(0.25,0.25),thickness=3,cmap='summer')",
        stack("hundred", (0.25, 0.25), 3, "RGBA"),
        "stackedImage(hundred, scale=(0.25, 0.25), thickness=3, cmap='summer')",
    ),
    ok(
        "stackedImage(100,scale=0.5,inverse=True)",
        stack("hundred", (0.5, 0.5), inverse=True),
        "stackedImage(hundred, scale=0.5, inverse=True)",
    ),
    mended(
        "stackedImage(100,width=400,height=200)",
        "!",
        picture("L", (400, 200)),
        "stackedImage(hundred, width=400, height=200)",
    ),
    own(
        "stackedImage(100,yflip=True,align=True)",
        "!",
        "it does not send yflip and align",
        same_image("stackedImage(100)"),
        "stackedImage(hundred, yflip=True, align=True)",
    ),
    own(
        "stackedImage(100,fmt='numpy')",
        "!",
        "it does not send fmt, and returns the bytes of the PNG",
        png_bytes,
        "stackedImage(hundred, fmt='numpy')",
    ),
    ok("stackedImage(ndarray uint64 10)", stack("ten"), "stackedImage(np.array(ten, dtype=np.uint64))"),
    ok("stackedImage([int])", stack("one"), "stackedImage([one])"),
    ok("stackedImage(ids>=2**63)", stack("big"), "stackedImage(big)"),
    ok("plot(int)", drawn("one"), "drawn(plot(one))"),
    ok("plot(np.uint64 >= 2**63)", drawn("bigone"), "drawn(plot(np.uint64(bigone)))"),
    ok("plot(ndarray)", drawn("one", lambda z: 1.0), "drawn(plot(getSpec(one)))"),
    ok("plot(Spectrum1D)", drawn("one", lambda z: 1.0), "drawn(plot(getSpec(one, fmt='Spectrum1D')))"),
    ok("plot(DataFrame)", drawn("one", lambda z: 1.0), "drawn(plot(getSpec(one, fmt='pandas')))"),
    ok("plot(int, rest_frame=False)", drawn("one", lambda z: 1.0), "drawn(plot(one, rest_frame=False))"),
    ok("plot(int, z=0.1)", drawn("one", lambda z: 1.1), "drawn(plot(one, z=0.1))"),
    own("plot(tuple)", "FAIL", BLANKS, raises("InvalidURL"), "plot(tuple(pmf))"),
    own(
        "plot(int,out='p.png') [module]",
        "!",
        IGNORES_OUT,
        equals(False),
        "(plot(one, out='p.png'), os.path.exists('p.png'))[1]",
    ),
    own(
        "client.plot(int,out=...)",
        "!",
        IGNORES_OUT,
        equals(False),
        "(client.plot(one, out='p.png'), os.path.exists('p.png'))[1]",
    ),
    own("prospect(int)", "!", "it does nothing", equals(None), "prospect(one)"),
    ok(
        "to_pandas / to_Table / to_Spectrum1D",
        equals(["DataFrame", "Table", "Spectrum1D"]),
        "[type(convert(getSpec(one))).__name__ for convert in (to_pandas, to_Table, to_Spectrum1D)]",
    ),
)
