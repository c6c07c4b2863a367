from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from PIL import Image

COMMAND = Path(sysconfig.get_path("scripts")) / "specflight"


def demo(data: Path, spectra: int = 40) -> subprocess.CompletedProcess[str]:
    command = [str(COMMAND), "demo", "--once", "--spectra", str(spectra), "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def files(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    kept = (path for path in root.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in kept}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    data = tmp_path_factory.mktemp("show") / "demo"
    return data, demo(data)


def test_the_demo_shows_rates_and_leaves_a_plot(shown: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    data, done = shown
    assert done.returncode == 0, done.stderr
    rates = [float(rate.replace(",", "")) for rate in re.findall(r"([\d,]+) spectra/s", done.stdout)]
    assert len(rates) >= 6
    assert all(rate > 0 for rate in rates)
    assert re.search(r"query\(30\.5, 0\.0, 1\.0\): [1-9]\d* spectra", done.stdout)
    (name,) = re.findall(r"\S+\.png", done.stdout)
    assert Path(name) == data / "demo.png"
    with Image.open(name) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert min(picture.size) > 400
        assert len(picture.convert("L").getcolors() or []) > 20, "the picture is blank"


def test_the_contexts_of_the_demo_are_ingested_and_from_files(
    shown: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    data, _ = shown
    assert (data / "sdss_dr12/MANIFEST.json").exists()
    assert (data / "sdss_dr16/MANIFEST.json").exists()
    assert "[contexts.sdss_dr12_fits]" in (data / "specflight.toml").read_text()


def test_a_second_demo_uses_the_data_again(shown: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    data, _ = shown
    before = {name: kept for name, kept in files(data).items() if not name.endswith((".png", "archive.arrow"))}
    done = demo(data)
    assert done.returncode == 0, done.stderr
    after = {name: kept for name, kept in files(data).items() if not name.endswith((".png", "archive.arrow"))}
    assert after == before
    assert re.search(r"sdss_dr16: 0 spectra ingested, [1-9]\d* files were there", done.stdout)


def test_a_folder_of_somebody_else_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "specflight.toml").write_text("max_ids = 3\n")
    before = files(tmp_path)
    done = demo(tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path} is not a folder of the demo" in done.stderr
    assert "Traceback" not in done.stderr
    assert files(tmp_path) == before


def test_an_empty_folder_may_be_used_and_a_file_may_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = demo(tmp_path / "file")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "x"
