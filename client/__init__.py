"""Client of a specflight service."""
