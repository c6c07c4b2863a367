"""Command line, ingest, demo data, benchmarks and checks."""
