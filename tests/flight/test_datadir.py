"""Tests of `specflight.flight.datadir`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specflight.errors import DamagedData
from specflight.flight.datadir import SCHEMA_VERSION, ContextDirectory, DataFile, Manifest, TableEntry

CONTEXT = "sdss_dr16"


def data_file(name: str) -> DataFile:
    return DataFile(name=name, bytes=1, sha256="0" * 64, rows=1)


def table(folder: str, **about: Any) -> TableEntry:  # noqa: ANN401 - any field
    names = ("dataset/Norder=0/Dir=0/Npix=4.parquet", "no_position.parquet", "hats.properties")
    files = [data_file(f"{folder}/{name}") for name in names]
    return TableEntry(files=tuple(files[:2]), hats=tuple(files[2:]), **about)


@pytest.fixture
def directory(tmp_path: Path) -> ContextDirectory:
    directory = ContextDirectory(tmp_path, CONTEXT)
    directory.root.mkdir()
    return directory


FULL = Manifest(
    context=CONTEXT,
    index=data_file("index-0.arrow"),
    parts=(data_file("part-1.arrow"),),
    tables={
        "specobjall": table("specobjall-a", source="all.fits", id="targetid", ra=None, dec=None, description="theirs"),
        "vac.stars": table("vac.stars-b", source="stars.csv", id=None),
    },
    derived=table("specobjall-c"),
)


def test_a_manifest_is_read_as_it_was_written(directory: ContextDirectory) -> None:
    assert directory.manifest() is None
    for manifest in (FULL, Manifest(context=CONTEXT, tables={"vac.stars": table("vac.stars-b", source="stars.csv")})):
        directory.switch(manifest)
        assert directory.manifest() == manifest


def test_a_table_of_the_spectra_needs_no_more_than_its_files(directory: ContextDirectory) -> None:
    entry = table("specobj-a")
    assert (entry.id, entry.ra, entry.dec, entry.description, entry.source) == ("specobjid", "ra", "dec", "", None)


def test_paths_are_inside_of_the_folder_of_the_version(directory: ContextDirectory) -> None:
    assert directory.table_folder(FULL, "vac.stars") == directory.catalog / "vac.stars-b"
    folder = directory.catalog / "specobjall-a"
    files = [folder / "dataset/Norder=0/Dir=0/Npix=4.parquet", folder / "no_position.parquet"]
    assert directory.table_files(FULL, "specobjall") == files


def test_every_file_that_is_named_is_live_also_those_of_a_table_that_is_not_served(directory: ContextDirectory) -> None:
    found = [path.relative_to(directory.root).as_posix() for path, _ in directory.live_files(FULL)]
    inside = ("dataset/Norder=0/Dir=0/Npix=4.parquet", "no_position.parquet", "hats.properties")
    folders = ("specobjall-a", "vac.stars-b", "specobjall-c")
    assert found == [
        "spectra/index-0.arrow",
        "spectra/part-1.arrow",
        *(f"catalog/{folder}/{name}" for folder in folders for name in inside),
    ]


def test_links_point_to_what_is_served(directory: ContextDirectory) -> None:
    assert directory.links(FULL) == {
        directory.catalog / "specobjall": "specobjall-a",
        directory.catalog / "vac.stars": "vac.stars-b",
        directory.spectra / "index.arrow": "index-0.arrow",
    }
    assert directory.links(Manifest(context=CONTEXT, tables={})) == {}


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        (1, "move the folder sdss_dr16 away and ingest its files again"),
        (SCHEMA_VERSION + 1, "a newer specflight wrote it, which this one cannot read"),
    ],
)
def test_a_manifest_of_another_version_is_refused_with_what_to_do(
    directory: ContextDirectory, version: int, advice: str
) -> None:
    file = data_file("part-1.parquet").model_dump()
    old = {"schema_version": version, "context": CONTEXT, "index": file, "parts": [], "tables": {"specobj": [file]}}
    directory.manifest_path.write_text(json.dumps(old))
    with pytest.raises(DamagedData) as caught:
        directory.manifest()
    assert str(caught.value) == f"sdss_dr16/MANIFEST.json has schema version {version}, not {SCHEMA_VERSION}: {advice}"


@pytest.mark.parametrize(
    "change",
    [{"tables": {"specobj": {"files": []}}}, {"tables": {"specobj": []}}, {"unknown": 1}, {"schema_version": "x"}],
)
def test_a_manifest_that_is_none_is_refused(directory: ContextDirectory, change: dict[str, Any]) -> None:
    directory.manifest_path.write_text(json.dumps(FULL.model_dump() | change))
    with pytest.raises(DamagedData, match=r"sdss_dr16/MANIFEST\.json is not a manifest: "):
        directory.manifest()
