"""Checks and repairs of annotation files and images."""

from .check import DataCheck, check_data, pair_paths
from .findings import Finding
from .repair import Repair, fix_data, repair_table
from .statistics import Anchors, ClassFacts

__all__ = [
    "Anchors",
    "ClassFacts",
    "DataCheck",
    "Finding",
    "Repair",
    "check_data",
    "fix_data",
    "pair_paths",
    "repair_table",
]
