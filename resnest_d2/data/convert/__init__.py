"""Conversion of annotations from and to other formats, and splits of COCO files."""

from .exporting import EXPORTS, Exported, export_data
from .importing import FORMATS, Imported, import_data
from .kinds import kind_of, require_coco, require_kind
from .splitting import Plan, SplitFiles, split_data

__all__ = [
    "EXPORTS",
    "FORMATS",
    "Exported",
    "Imported",
    "Plan",
    "SplitFiles",
    "export_data",
    "import_data",
    "kind_of",
    "require_coco",
    "require_kind",
    "split_data",
]
