"""specflight: survey spectra at the speed of memory."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("specflight")
