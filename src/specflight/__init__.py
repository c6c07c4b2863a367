"""specflight: survey spectra at the speed of memory."""

__all__ = ["__version__"]

__version__ = "0.1.0"
