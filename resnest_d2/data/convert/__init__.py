"""YOLO, Pascal VOC and labelme folders into COCO JSON; images stay where they are."""

from .importing import FORMATS, Imported, import_data

__all__ = ["FORMATS", "Imported", "import_data"]
