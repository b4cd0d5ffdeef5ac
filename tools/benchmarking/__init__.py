"""Modules of tools/benchmark.py: one per kind of case, measuring, and reporting."""
