from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from specflight.errors import InvalidRequest, ServiceUnavailable
from specflight.flight.settings import HttpSettings
from specflight.http import pictures as module
from specflight.http.pictures import OVERHEAD, Pictures

Make = Callable[[], tuple[bytes, str]]


class Painter:
    """Counts how often it draws."""

    def __init__(self, size: int = 10, seconds: float = 0.0) -> None:
        self.drawn = 0
        self._size, self._seconds = size, seconds

    def __call__(self) -> tuple[bytes, str]:
        self.drawn += 1
        time.sleep(self._seconds)
        return bytes([self.drawn]) * self._size, "image/png"


def _until(promise: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not promise():
        assert time.monotonic() < end, "it never comes"
        time.sleep(0.002)


def test_a_picture_is_drawn_once_for_each_key() -> None:
    pictures, painter, other = Pictures(HttpSettings()), Painter(), Painter()
    first = pictures.get(b"a", painter)
    assert (first.content, first.media_type) == (b"\1" * 10, "image/png")
    assert pictures.get(b"a", painter) is first
    pictures.get(b"b", other)
    assert (painter.drawn, other.drawn) == (1, 1)


def test_a_picture_is_drawn_again_when_it_is_old() -> None:
    pictures, painter = Pictures(HttpSettings(picture_seconds=0.1)), Painter()
    first = pictures.get(b"a", painter)
    assert 0 < pictures.left(first) <= 0.1
    _until(lambda: pictures.left(first) < 0)
    assert pictures.get(b"a", painter).content == b"\2" * 10


def test_the_age_of_a_picture_counts_from_when_its_data_were_asked_for() -> None:
    pictures = Pictures(HttpSettings(picture_seconds=100))
    assert pictures.left(pictures.get(b"a", Painter(seconds=0.2))) <= 99.8


def test_pictures_kept_are_bounded_and_those_seen_last_stay() -> None:
    size = 1000
    pictures = Pictures(HttpSettings(picture_cache_bytes=2 * (size + OVERHEAD)))
    painters = {key: Painter(size) for key in (b"a", b"b", b"c")}
    for key in (b"a", b"b", b"a", b"c", b"a"):
        pictures.get(key, painters[key])
    assert {key: painter.drawn for key, painter in painters.items()} == {b"a": 1, b"b": 1, b"c": 1}
    pictures.get(b"b", painters[b"b"])
    assert painters[b"b"].drawn == 2


def test_a_picture_that_is_drawn_again_takes_the_room_of_the_old_one() -> None:
    size = 1000
    pictures = Pictures(HttpSettings(picture_cache_bytes=2 * (size + OVERHEAD), picture_seconds=0.5))
    painter = Painter(size)
    for _ in range(3):
        picture = pictures.get(b"a", painter)
        _until(lambda: pictures.left(picture) < 0)  # noqa: B023 - called at once
    pictures.get(b"a", painter)
    pictures.get(b"b", Painter(size))
    pictures.get(b"a", painter)
    assert painter.drawn == 4


@pytest.mark.parametrize("size", [0, 5000])
def test_a_picture_larger_than_all_that_is_kept_is_still_given(size: int) -> None:
    pictures, painter = Pictures(HttpSettings(picture_cache_bytes=size // 2)), Painter(size)
    assert len(pictures.get(b"a", painter).content) == size
    pictures.get(b"a", painter)
    assert painter.drawn == 2


def test_who_asks_for_a_picture_that_is_being_drawn_waits_for_it() -> None:
    pictures, painter = Pictures(HttpSettings()), Painter(seconds=0.2)
    with ThreadPoolExecutor(8) as threads:
        drawn = list(threads.map(lambda _: pictures.get(b"a", painter), range(8)))
    assert painter.drawn == 1
    assert {id(picture) for picture in drawn} == {id(drawn[0])}


def test_an_error_is_told_to_all_who_wait_and_not_kept() -> None:
    pictures, gate = Pictures(HttpSettings()), threading.Event()

    def fail() -> tuple[bytes, str]:
        gate.wait(10)
        raise InvalidRequest("id: is none")

    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(pictures.get, b"a", fail) for _ in range(3)]
        time.sleep(0.05)
        gate.set()
        for asked in waiting:
            with pytest.raises(InvalidRequest, match="id: is none"):
                asked.result()
    assert pictures.get(b"a", Painter()).content


@pytest.mark.parametrize("drawings", [1, 2])
def test_no_more_draw_at_a_time_than_the_settings_say(drawings: int) -> None:
    pictures = Pictures(HttpSettings(drawings=drawings))
    lock, now, most = threading.Lock(), 0, 0

    def draw(_: int) -> None:
        nonlocal now, most
        with pictures.turn():
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.02)
            with lock:
                now -= 1

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(draw, range(12)))
    assert most == drawings


def test_who_waits_too_long_for_a_turn_is_told_the_limit() -> None:
    pictures = Pictures(HttpSettings(drawing_wait_seconds=0.05))
    with pictures.turn(), pytest.raises(ServiceUnavailable, match=r"drawing_wait_seconds = 0\.05"), pictures.turn():
        pytest.fail("two draw at a time")
    with pytest.raises(ZeroDivisionError), pictures.turn():
        raise ZeroDivisionError
    with pictures.turn():
        pass  # neither who gave up nor who failed keeps others from drawing


def test_who_would_wait_in_vain_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEARNING", 1.0)
    pictures = Pictures(HttpSettings(drawing_wait_seconds=2.0))
    with pictures.turn():
        time.sleep(1.1)

    def wait() -> float:
        started = time.monotonic()
        with pytest.raises(ServiceUnavailable), pictures.turn():
            pytest.fail("two draw at a time")
        return time.monotonic() - started

    with ThreadPoolExecutor(2) as threads, pictures.turn():
        patient = [threads.submit(wait) for _ in range(2)]
        _until(lambda: pictures._waiting == 2)
        assert wait() < 1.0
        assert min(asked.result() for asked in patient) > 1.9
