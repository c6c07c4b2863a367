"""What a call of the old client returned, and the same data through Flight to judge it by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specflight.client import Client
from specflight.tools.legacysample import Sample

__all__ = ["Check", "Result", "Truth", "Vectors"]

Vectors = NDArray[Any]
"""Spectra, structured."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a call returned inside the old client's environment, as `specflight.tools.legacycalls` reports it.

    Attributes
    ----------
    told : dict
        The line of JSON.
    folder : Path
        Where its files are.
    """

    told: dict[str, Any]
    folder: Path

    @property
    def kind(self) -> str:
        """Name of its type; ``error`` for an exception."""
        return str(self.told["type"])

    @property
    def items(self) -> list[Result]:
        """Members of a list."""
        return [Result(item, self.folder) for item in self.told.get("items", [])]

    @property
    def value(self) -> Any:  # noqa: ANN401
        """A text, number or dict."""
        return self.told.get("value")

    def array(self) -> NDArray[Any]:
        """Data of an array, table or image."""
        array: NDArray[Any] = np.load(self.folder / self.told["file"])
        return array

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Data of a Spectrum1D or a plot."""
        with np.load(self.folder / self.told["file"]) as archive:
            return dict(archive)

    def content(self) -> bytes:
        """Data of bytes."""
        path = self.folder / str(self.told["file"])
        return path.read_bytes()

    def __str__(self) -> str:
        """Short form, as in the table of the calls against the old service."""
        told = self.told
        match self.kind:
            case "error":
                return f"{told['error']}: {told['message']}"
            case "image":
                return f"PIL {told['format']} {told['mode']} {tuple(told['size'])}"
            case "list":
                return f"list[{len(self.items)}]" + (f" of {self.items[0]}" if self.items else "")
            case "bytes":
                return f"bytes[{told['shape'][0]}]"
            case "str":
                return f"str[{len(self.value)}] {self.value!r}"
            case _ if "value" in told:
                return f"{self.kind} {self.value}"
            case _:
                dtype = told.get("dtype", "")
                whole = isinstance(dtype, list) and len(dtype) == 8
                return f"{self.kind} shape={tuple(told.get('shape', ()))} dtype={'struct8' if whole else dtype}"


@dataclass(frozen=True, slots=True)
class Truth:
    """The same data by another way.

    Attributes
    ----------
    client : Client
        Of the service's Flight server.
    sample : Sample
    results : dict of str to Result
        The calls made before, by name.
    """

    client: Client
    sample: Sample
    results: dict[str, Result]

    def ids(self, names: str) -> list[int]:
        """Ids of fields of the sample, such as ``'pmf_id,one'``."""
        found: list[int] = []
        for name in names.split(","):
            value = getattr(self.sample, name)
            found += value if isinstance(value, list) else [value]
        return found

    def spectra(self, names: str, columns: str | None = None, cutout: str | None = None) -> Vectors:
        """Spectra as the old client returns them: on the grid of the list, shape (npix,) for one, else (n, npix)."""
        aligned: Vectors = self.client.getSpec(self.ids(names), align=True, columns=columns, cutout=cutout)
        return aligned[0] if len(aligned) == 1 else aligned


Check = Callable[[Result, Truth], str | None]
"""Says in a sentence what is not as it should be; None if all is."""
