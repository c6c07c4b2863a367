"""The old client's notebooks from top to bottom, and its virtual storage, as a user who has logged in."""

from __future__ import annotations

from specflight.tools.legacycall import LegacyCall, new, refused
from specflight.tools.legacychecks import (
    contains,
    equals,
    found,
    originals,
    raises,
    spectra,
)
from specflight.tools.legacyimages import drawn, grid, picture, stack
from specflight.tools.legacytruth import Check

__all__ = ["FLOW", "STORAGE"]

_FLOW: tuple[tuple[str, Check], ...] = (
    ("list_contexts(fmt='json')", contains("default", kind="dict")),
    ("set_context(context)", equals("OK")),
    ("get_context()", equals(lambda s: s.context)),
    ("catalogs(context=context)", contains(lambda s: s.catalog)),
    (
        "(ids := query(ra, dec, size))",
        found(lambda s: {"ra": s.ra, "dec": s.dec, "size": s.size, "context": s.context}),
    ),
    ("len(ids)", equals(lambda s: len(s.cone))),
    ("(aligned := getSpec(ids, align=True))", spectra("cone", any_order=True)),
    ("getSpec(ten)", spectra("ten")),
    ("getSpec(ten, fmt='pandas')", spectra("ten", "list of DataFrame")),
    ("getSpec(ten, fmt='tables')", spectra("ten", "list of Table")),
    ("getSpec(ten, fmt='Spectrum1D', align=True)", spectra("ten", "Spectrum1D")),
    ("getSpec(ten, fmt='FITS')", originals("ten")),
    ("getSpec(ten, align=True, cutout='6500-7200')", spectra("ten", cutout="6500-7200")),
    ("drawn(plot(one))", drawn("one")),
    ("drawn(client.plot(one, rest_frame=False, dark=False, mark_lines='em'))", drawn("one", lambda z: 1.0)),
    ("preview(one)", picture("RGBA", (400, 100))),
    ("plotGrid(hundred, 5, 5, page=1)", grid(25, 5)),
    ("stackedImage(hundred)", stack("hundred")),
    ("query(ra, dec, size, out='found.csv')", equals("OK")),
    ("text('found.csv').splitlines()[0]", equals("specobjid")),
    ("set_context('default')", equals("OK")),
)
FLOW: tuple[LegacyCall, ...] = tuple(new(code, check) for code, check in _FLOW)

_TEXT = "first line\\nsecond line\\n"
_STORED: tuple[tuple[str, Check], ...] = (
    ("store.isAlive(storage)", equals(True)),
    ("store.mkdir('vos://%s' % room)", equals("OK")),
    ("store.access('vos://%s' % room, 'rw')", equals(True)),
    ("store.stat('vos://%s' % room)['type']", equals("container")),
    ("store.saveAs('" + _TEXT + "', 'vos://%s/a.txt' % room)", equals(["OK"])),
    ("store.get('vos://%s/a.txt' % room)", equals("first line\nsecond line\n")),
    ("store.get('%s/a.txt' % room)", equals("first line\nsecond line\n")),
    ("store.get('vos://%s/a.txt' % room, mode='binary') == b'" + _TEXT + "'", equals(True)),
    ("store.stat('vos://%s/a.txt' % room)['type']", equals("data")),
    ("int(store.stat('vos://%s/a.txt' % room)['size'])", equals(23)),
    ("store.access('vos://%s/a.txt' % room, 'r')", equals(True)),
    ("store.access('vos://%s/nosuch' % room, 'r')", equals(False)),
    ("store.stat('vos://%s/nosuch' % room)", equals({})),
    ("store.put(written('b.txt', 'b'), 'vos://%s/' % room)", equals(["OK"])),
    ("store.put(written('c.dat', 'c'), 'vos://%s/c.dat' % room, verbose=False)", equals(["OK"])),
    ("store.put(written('empty.dat', ''), 'vos://%s' % room)", equals(["OK"])),
    ("store.put('?.*t', 'vos://%s' % room)", equals(["OK", "OK"])),
    ("sorted(store.ls('vos://%s' % room).split(','))", equals(["a.txt", "b.txt", "c.dat", "empty.dat"])),
    ("store.ls('vos://%s' % room, format='long')", contains("a.txt", "c.dat")),
    ("store.get('vos://%s/a.txt' % room, 'a-again.txt')", equals(["OK"])),
    ("text('a-again.txt')", equals("first line\nsecond line\n")),
    ("os.mkdir('down') or store.get('vos://%s/*.txt' % room, 'down')", equals(["OK", "OK"])),
    ("sorted(os.listdir('down'))", equals(["a.txt", "b.txt"])),
    ("store.cp('vos://%s/a.txt' % room, 'vos://%s/copy.txt' % room)", equals("OK")),
    ("store.mv('vos://%s/copy.txt' % room, 'vos://%s/moved.txt' % room)", equals("OK")),
    ("store.get('vos://%s/moved.txt' % room)", equals("first line\nsecond line\n")),
    ("store.access('vos://%s/copy.txt' % room, 'r')", equals(False)),
    ("query(ra, dec, size, out='vos://%s/found.csv' % room)", equals("OK")),
    ("store.get('vos://%s/found.csv' % room) == text('found.csv')[:-1]", equals(True)),
    ("store.saveAs(''.join('%d\\n' % i for i in three), 'vos://%s/ids.txt' % room)", equals(["OK"])),
    ("getSpec('vos://%s/ids.txt' % room, align=True)", spectra("three")),
    ("store.saveAs('seen', 'vos://public/%s.txt' % room)", equals(["OK"])),
    ("store.get(nobody, '%s://public/%s.txt' % (user, room), 'seen.txt')", equals(["OK"])),
    ("text('seen.txt')", equals("seen")),
    ("store.access(nobody, 'vos://%s/a.txt' % room, 'r')", equals(False)),
    ("store.access(nobody, '%s://%s/a.txt' % (user, room), 'r')", equals(False)),
    ("store.access(nobody, '%s://public/%s.txt' % (user, room), 'w')", equals(False)),
    ("store.rm('vos://public/%s.txt' % room)", equals("OK")),
    ("store.rm('vos://%s/*.dat' % room)", equals(["OK", "OK"])),
    ("store.rm('vos://%s/a.txt' % room)", equals("OK")),
    ("set(store.ls('vos://%s' % room).split(',')) == {'b.txt', 'found.csv', 'ids.txt', 'moved.txt'}", equals(True)),
    ("store.rm('vos://%s/*' % room)", equals(["OK"] * 4)),
    ("store.rmdir('vos://%s' % room)", equals("OK")),
    ("store.access('vos://%s' % room, 'r')", equals(False)),
)
PARSES = "it takes the sentence of the error for a URL"
_IN_VAIN = (
    refused(
        "store.get('vos://%s/nosuch' % room)",
        f"there is no such file; {PARSES}",
        raises("MissingSchema", "InvalidSchema", saying="Error: "),
        old="new",
    ),
    *(
        refused(code, "the storage has none of that, and says so", contains("Error: "), old="new")
        for code in (
            "store.ln('vos://public/link', 'vos://%s/a.txt' % room)",
            "store.tag('vos://public', 'a tag')",
            "store.load('vos://public/loaded', service)",
        )
    ),
    refused(
        "store.saveAs(nobody, 'x', 'vos://%s/x.txt' % room)[0]",
        f"who has not logged in writes nothing; {PARSES}",
        contains("Error: "),
        old="new",
    ),
)
STORAGE: tuple[LegacyCall, ...] = (*(new(code, check) for code, check in _STORED), *_IN_VAIN)
"""Each leaves the storage as it found it once all have been made: they write to a folder of their own, `room`."""
