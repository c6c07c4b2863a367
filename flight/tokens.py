"""Tokens: who a caller is, signed with a key that only the data directory has.

A token reads ``NAME.1.1.<rights><expiry>.<signature>_access``: the four parts ``user.uid.gid.hash`` that the clients
of the Data Lab take apart, and the ending by which they know a token from other words. The signature is itsdangerous'
HMAC with SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path

from itsdangerous import Signer

from specflight.errors import Forbidden, InvalidRequest, Unauthenticated

__all__ = ["ANONYMOUS", "Identity", "TokenKey", "require_admin"]

KEY_FILE = "token.key"
RESERVED = frozenset({"anonymous", "public", "vos"})
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_TOKEN = re.compile(
    rf"(?P<told>(?P<name>{_NAME.pattern})\.1\.1\.(?P<rights>[ua])(?P<expiry>[0-9]{{1,12}}))\.[\w-]+_access", re.ASCII
)
_ANONYMOUS_TOKENS = ("", "anonymous.0.0.anon_access")
_ENDING = "_access"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls.

    Attributes
    ----------
    name : str
    admin : bool
        Whether they may stop the service.
    expires : float
        Unix time at which the token ends.
    """

    name: str
    admin: bool = False
    expires: float = float("inf")


ANONYMOUS = Identity("anonymous")
"""Whoever sends no token, or the one that old clients send when nobody is logged in."""


class TokenKey:
    """Signs and verifies the tokens of a data directory.

    Parameters
    ----------
    data : Path
        The data directory; ``token.key`` in it holds the key, made when the first token is. Without that file every
        token is forged: removing it ends them all.
    """

    def __init__(self, data: Path) -> None:
        self._path = data / KEY_FILE

    def issue(self, name: str, admin: bool = False, days: float = 365.0) -> str:
        """Token for a user.

        Parameters
        ----------
        name : str
            Lower-case letters, digits, ``_`` and ``-``, starting with a letter, 32 at most.
        admin : bool
            Whether they may stop the service.
        days : float
            Time until it expires.

        Raises
        ------
        InvalidRequest
            If the name or the time is none.
        """
        if not _NAME.fullmatch(name) or name in RESERVED:
            raise InvalidRequest(
                f"USER: '{name}' is not a name: a lower-case letter, then letters, digits, _ and -, at most 32 "
                f"characters, and none of {', '.join(sorted(RESERVED))}"
            )
        if not 0 < days <= 100_000:
            raise InvalidRequest(f"days: {days} is not a number of days above 0")
        self._make()
        return self._sign(f"{name}.1.1.{'a' if admin else 'u'}{int(time.time() + days * 86_400)}")

    def identify(self, token: str) -> Identity:
        """Who a token belongs to.

        Raises
        ------
        Unauthenticated
            If it is forged, truncated or expired.
        """
        if token in _ANONYMOUS_TOKENS:
            return ANONYMOUS
        parts = _TOKEN.fullmatch(token)
        try:
            # Made anew rather than taken apart: the last letter of a signature has bits that do not count.
            genuine = parts is not None and compare_digest(self._sign(parts["told"]), token)
        except FileNotFoundError:
            genuine = False
        if parts is None or not genuine:
            raise Unauthenticated(f"token: '{_shown(token)}' is not a token of this service")
        expires = float(parts["expiry"])
        if expires <= time.time():
            raise Unauthenticated(f"token: that of '{parts['name']}' has expired")
        return Identity(parts["name"], parts["rights"] == "a", expires)

    def _sign(self, told: str) -> str:
        signer = Signer(self._path.read_bytes(), salt="specflight token", digest_method=hashlib.sha256)
        return signer.sign(told).decode() + _ENDING

    def _make(self) -> None:
        new = self._path.with_name(f".{KEY_FILE}.{os.getpid()}")
        new.touch(0o600)
        try:
            new.write_bytes(secrets.token_hex(32).encode())
            os.link(new, self._path)  # only if there is none
        except FileExistsError:
            pass
        finally:
            new.unlink()


def require_admin(identity: Identity, what: str) -> None:
    """Let only administrators do something.

    Raises
    ------
    Unauthenticated
        If nobody says who they are.
    Forbidden
        If it is somebody else.
    """
    if identity.admin:
        return
    if identity is ANONYMOUS:
        raise Unauthenticated(f"token: {what} needs the token of an administrator")
    raise Forbidden(f"token: '{identity.name}' is no administrator, whom {what} needs")


def _shown(token: str) -> str:
    """Enough of a token to know it again, and too little to use it."""
    return token[:12] + ("..." if len(token) > 12 else "")
