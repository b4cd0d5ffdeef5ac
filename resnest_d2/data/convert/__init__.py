"""Conversion of YOLO, Pascal VOC and labelme annotations to COCO JSON."""

from .importing import FORMATS, Imported, import_data

__all__ = ["FORMATS", "Imported", "import_data"]
