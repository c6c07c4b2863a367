"""Spectra: readers, store, archive, and the Arrow Flight server."""
