"""A call of the old client: its text, what the old service made of it, and what has to come back now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from specflight.tools.legacytruth import Check

__all__ = ["LegacyCall", "mended", "new", "ok", "own", "refused"]

Blame = Literal["service", "client", "caller"]


@dataclass(frozen=True, slots=True)
class LegacyCall:
    """A call of the old client.

    Attributes
    ----------
    name : str
        As in the table of the calls against the old service; ids and names of these data take the place of its own.
    code : str
        The expression: names of the client's module, fields of `specflight.tools.legacysample.Sample`, and what
        `specflight.tools.legacycalls` adds.
    old : {'ok', '!', 'FAIL', 'new'}
        What the old service made of it: right, a wrong or meaningless value, an exception; ``new`` was not asked then.
    check : Check
        What has to come back now.
    whose : {'service', 'client', 'caller'}
        Who was to blame where it was not ok. What was the service's fault has to work now; what is the client's own
        stays as it is; what the caller asks for in vain is refused, and rightly.
    why : str
        The reason, where it was not the service.
    """

    name: str
    code: str
    old: Literal["ok", "!", "FAIL", "new"]
    check: Check
    whose: Blame = "service"
    why: str = ""


def ok(name: str, check: Check, code: str = "") -> LegacyCall:
    """A call that worked and has to go on working; the code is its name unless given."""
    return LegacyCall(name, code or name, "ok", check)


def new(name: str, check: Check, code: str = "") -> LegacyCall:
    """A call that is not in the table."""
    return LegacyCall(name, code or name, "new", check)


def mended(name: str, old: Literal["!", "FAIL"], check: Check, code: str = "") -> LegacyCall:
    """A call that the old service spoiled."""
    return LegacyCall(name, code or name, old, check)


def own(name: str, old: Literal["!", "FAIL", "new"], why: str, check: Check, code: str = "") -> LegacyCall:
    """A call that the client spoils by itself."""
    return LegacyCall(name, code or name, old, check, "client", why)


def refused(name: str, why: str, check: Check, code: str = "", old: Literal["FAIL", "new"] = "FAIL") -> LegacyCall:
    """A call that asks for what there is not."""
    return LegacyCall(name, code or name, old, check, "caller", why)
