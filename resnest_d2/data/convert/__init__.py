"""Conversion of annotations from other formats, and splits of COCO files."""

from .importing import FORMATS, Imported, import_data
from .kinds import kind_of, require_coco, require_kind
from .splitting import Plan, SplitFiles, split_data

__all__ = [
    "FORMATS",
    "Imported",
    "Plan",
    "SplitFiles",
    "import_data",
    "kind_of",
    "require_coco",
    "require_kind",
    "split_data",
]
