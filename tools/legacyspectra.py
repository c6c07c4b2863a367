"""The old client's calls of getSpec."""

from __future__ import annotations

from specflight.tools.legacycall import LegacyCall, mended, ok, own, refused
from specflight.tools.legacychecks import equals, error_text, originals, raises, spectra
from specflight.tools.legacytruth import Check

__all__ = ["GETSPEC"]

PARSES = "it parses the sentence of the error as JSON or npy"
NO_SPECTRUM = f"there is no such spectrum; {PARSES}"
NO_ENTRY = f"a list without entries names no spectrum; {PARSES}"

# Name, ids as an expression, and the fields of the sample that they are.
IDS = (
    ("getSpec(int)", "one", "one"),
    ("getSpec(np.uint64)", "np.uint64(one)", "one"),
    ("getSpec(np.int64)", "np.int64(one)", "one"),
    ("getSpec(str digits)", "str(one)", "one"),
    ("getSpec([int])", "[one]", "one"),
    ("getSpec([int x3 same-length])", "three", "three"),
    ("getSpec([10 of run2d 103])", "ten", "ten"),
    ("getSpec([5x103 + 5xBOSS])", "mixed", "mixed"),
    ("getSpec(ndarray int64 x10)", "np.array(ten)", "ten"),
    ("getSpec(ndarray uint64 x10, >=2**63)", "np.array(big, dtype=np.uint64)", "big"),
    ("getSpec(list of np.uint64 x3)", "[np.uint64(i) for i in three]", "three"),
    ("getSpec(tuple p,m,f)", "tuple(pmf)", "pmf_id"),
    ("getSpec([tuple])", "[tuple(pmf)]", "pmf_id"),
    ("getSpec([tuple,tuple])", "[tuple(pmf), tuple(pmf2)]", "pmf_id,pmf2_id"),
    ("getSpec([tuple,int])", "[tuple(pmf), pmf2_id]", "pmf_id,pmf2_id"),
    ("getSpec([int,tuple])", "[pmf2_id, tuple(pmf)]", "pmf2_id,pmf_id"),
    ("getSpec([(p,m,f,'103')])", "[(*pmf, run2d)]", "pmf_id"),
)
# The order of the spectra of a pattern is nowhere promised.
PATTERNS = (
    ("getSpec([(p,m,'1-5')])", "[(*pmf[:2], between)]", "between_ids"),
    ("getSpec([(p,m,'1,5')])", "[(*pmf[:2], '%d,%d' % tuple(pair))]", "pair_ids"),
    ("getSpec([(p,m,[1,5])])", "[(*pmf[:2], list(pair))]", "pair_ids"),
    ("getSpec([('1962,1963','*',100)])", "[(both[0], '*', both[1])]", "both_ids"),
    ("getSpec([('*',54331,100)])", "[('*', *pmf[1:])]", "night_ids"),
    ("getSpec([(1963,'*',100)])", "[(pmf[0], '*', pmf[2])]", "fiber_ids"),
    ("getSpec([(1962,53321,'*','103')]) 500 spectra", "[(*plate[:2], '*', plate[2])]", "plate_ids"),
)
ABSENT = (("getSpec([(p,m,f) not existing])", "[tuple(absent)]"), ("getSpec(int not existing)", "absent_id"))

FORMS = (
    ("numpy", "ndarray", "ndarray", "ndarray"),
    ("pandas", "DataFrame", "list of DataFrame", "list of DataFrame"),
    ("tables", "Table", "list of Table", "list of Table"),
    ("Spectrum1D", "Spectrum1D", "list of Spectrum1D", "Spectrum1D"),
)
"""fmt, and the type of what comes for one id, for a list, and for an aligned list."""


def _by_ids(align: bool) -> list[LegacyCall]:
    calls = [ok(f"{name} align={align}", spectra(ids), _get(code, f"align={align}")) for name, code, ids in IDS]
    calls += [
        ok(f"{name} align={align}", spectra(ids, any_order=True), _get(code, f"align={align}"))
        for name, code, ids in PATTERNS
    ]
    calls += [
        refused(f"{name} align={align}", NO_SPECTRUM, raises("JSONDecodeError"), _get(code, f"align={align}"))
        for name, code in ABSENT
    ]
    return [
        *calls,
        refused(f"getSpec([]) align={align}", NO_ENTRY, raises("JSONDecodeError"), _get("[]", f"align={align}")),
    ]


def _get(ids: str, options: str) -> str:
    return f"getSpec({ids}, {options})"


def _thrice(fmt: str) -> list[tuple[str, str]]:
    """Names and codes of the calls of a format: one id, a list, an aligned list."""
    more = (f"fmt='{fmt}'", f"fmt='{fmt}', align=False", f"fmt='{fmt}', align=True")
    ids = (("int", "one"), ("[10x103]", "ten"), ("[10x103]", "ten"))
    return [(_get(name, options), _get(code, options)) for (name, code), options in zip(ids, more, strict=True)]


def _formats() -> list[LegacyCall]:
    calls = []
    for fmt, *forms in FORMS:
        for (name, code), form, ids in zip(_thrice(fmt), forms, ("one", "ten", "ten"), strict=True):
            calls.append(ok(name, spectra(ids, form), code))
    why = "it returns Spectrum1D for SpectrumCollection"
    for (name, code), ids in zip(_thrice("SpectrumCollection"), ("one", "ten", "ten"), strict=True):
        calls.append(own(name, "!", why, spectra(ids, "Spectrum1D"), code))
    (one, one_code), (several, several_code), (aligned, aligned_code) = _thrice("FITS")
    calls.append(ok(one, originals("one", one=True), one_code))
    calls.append(ok(several, originals("ten"), several_code))
    calls.append(own(aligned, "FAIL", "it reads FITS as npy when align is set", raises("ValueError"), aligned_code))
    calls += [
        refused(name, "there is no such format", raises("Exception", saying="'nosuch'"), code)
        for name, code in _thrice("nosuch")
    ]
    return calls


def _values(name: str, ids: str, options: str, columns: str, old: str) -> LegacyCall:
    check: Check = spectra(ids, columns=columns)
    return ok(name, check, _get(ids, options)) if old == "ok" else mended(name, "FAIL", check, _get(ids, options))


IGNORES_OUT = "it does not send out, and writes nothing"
CUT = "6500-7200"
GETSPEC: tuple[LegacyCall, ...] = (
    *_by_ids(align=False),
    *_by_ids(align=True),
    *_formats(),
    ok(
        "getSpec([same x3], fmt='Spectrum1D')",
        spectra("three", "list of Spectrum1D"),
        _get("three", "fmt='Spectrum1D'"),
    ),
    ok("getSpec([3 FITS ids], fmt='FITS')", originals("three"), _get("three", "fmt='FITS'")),
    mended(
        "getSpec(int without FITS, fmt='FITS')",
        "!",
        error_text(lambda s: str((s.nofits or "?")[0])),
        "getSpec(nofits[0], fmt='FITS', context=nofits[1])",
    ),
    own(
        "getSpec(int, out='x.npy')",
        "!",
        IGNORES_OUT,
        equals(False),
        "(getSpec(one, out='x.npy'), os.path.exists('x.npy'))[1]",
    ),
    mended("getSpec(int, cutout='6500-7200')", "!", spectra("one", cutout=CUT), _get("one", f"cutout='{CUT}'")),
    mended(
        "getSpec([10], cutout='6500-7200', align=True)",
        "!",
        spectra("ten", cutout=CUT),
        _get("ten", f"cutout='{CUT}', align=True"),
    ),
    _values("getSpec(int, values='flux,loglam')", "one", "values='flux,loglam'", "flux,loglam", "ok"),
    ok(
        "getSpec(int, values='loglam,flux') order",
        equals(("flux", "loglam")),
        "getSpec(one, values='loglam,flux').dtype.names",
    ),
    _values("getSpec(int, values='flux')", "one", "values='flux'", "flux", "FAIL"),
    _values("getSpec(int, values=['flux','loglam'])", "one", "values=['flux','loglam']", "flux,loglam", "ok"),
    _values(
        "getSpec([10], values='flux,loglam', align=True)",
        "ten",
        "values='flux,loglam', align=True",
        "flux,loglam",
        "ok",
    ),
    _values("getSpec([10], values='flux', align=True)", "ten", "values='flux', align=True", "flux", "FAIL"),
    refused(
        "getSpec(int, context='sdss_dr15') (no data there)",
        NO_SPECTRUM,
        raises("JSONDecodeError"),
        "getSpec(elsewhere[0], context=elsewhere[1])",
    ),
    refused(
        "getSpec(int, context='nosuch')",
        f"there is no such context; {PARSES}",
        raises("JSONDecodeError"),
        _get("one", "context='nosuch'"),
    ),
    ok(
        "getSpec('file with ids', align=True)",
        spectra("three"),
        "getSpec(written('ids.txt', ''.join('%d\\n' % i for i in three)), align=True)",
    ),
    # Ids on both sides of 2**63 in a file become floats in the client; these are on one side.
    mended(
        "getSpec(query file with header, align=True)",
        "FAIL",
        spectra("pmf_id,pmf2_id", any_order=True),
        "(query(constraint='specobjid in (%d, %d)' % (pmf_id, pmf2_id), out='two.csv'), "
        "getSpec('two.csv', align=True))[1]",
    ),
    ok("getSpec(DataFrame, align=True)", spectra("three"), "getSpec(pd.DataFrame({'specobjid': three}), align=True)"),
    ok(
        "getSpec('specobjid\\n..csv text', align=True)",
        spectra("three"),
        "getSpec('specobjid\\n' + ''.join('%d\\n' % i for i in three), align=True)",
    ),
    ok(
        "getSpec(Table(query fields='specobjid,z'), align=True)",
        spectra("cone", any_order=True),
        "getSpec(query(ra, dec, size, fields='specobjid,z'), align=True)",
    ),
    ok("getSpec(query(...), align=True)", spectra("cone", any_order=True), "getSpec(query(ra, dec, size), align=True)"),
    ok("getSpec([1000 ids], align=True)", spectra("thousand"), _get("thousand", "align=True")),
)
