"""Catalogues: identifiers, sky index, guarded SQL over Parquet."""
