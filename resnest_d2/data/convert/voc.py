"""Reader of Pascal VOC annotations.

Boxes are parsed by supervision; polygons are copied from the file, as in
:mod:`resnest_d2.data.convert.yolo`.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from resnest_d2.errors import UserError
from resnest_d2.files import read_text
from resnest_d2.parsing import parse_xml
from resnest_d2.progress import counted

from .faults import Faults, fault_of_voc
from .labelled import SPLITS, LabelledImage, Object, Split, named_after, size_of


def read_voc(source: Path, faults: Faults) -> Iterator[Split]:
    """Reads XML files in Annotations and images in JPEGImages, or both in one folder.

    Args:
        source: folder of the dataset; without ImageSets/Main it is a single split.
        faults: takes faulty files.
    """
    labels = _subfolder(source, "Annotations", "annotations")
    folder = _subfolder(source, "JPEGImages", "images")
    trees = {}
    for path in counted(sorted(labels.glob("*.xml")), "Annotations"):
        if (root := read_xml(path, faults)) is not None:
            trees[path.stem] = root
    if not trees and not faults:
        raise UserError(f"There are no XML files in {labels}.")
    lists = [source / "ImageSets" / "Main" / f"{split}.txt" for split in SPLITS]
    splits = {p.stem: _stems(p) for p in lists if p.is_file()}
    name, only = named_after(source)
    for split, stems in (splits or {only: list(trees)}).items():
        if absent := [stem for stem in stems if not (labels / f"{stem}.xml").is_file()]:
            raise UserError(f"{split}: there is no {absent[0]}.xml in {labels}.")
        images = []
        for stem in stems:
            if stem not in trees:
                continue  # a fault of its file
            if fault := fault_of_voc(trees[stem]):
                faults.add(f"{labels / stem}.xml", fault)
            elif (image := _image(trees[stem], stem, folder, faults)) is not None:
                images.append(image)
        yield Split(name, split, folder, [], images)


def read_xml(path: Path, faults: Faults) -> Element | None:
    """Root of an XML file; None, and a fault, if it is none."""
    try:
        return parse_xml(path)
    except UserError as error:
        faults.add(str(path), str(error))
    return None


def _stems(path: Path) -> list[str]:
    """Names of images, one a line; they can contain spaces."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _subfolder(source: Path, *names: str) -> Path:
    return next((source / name for name in names if (source / name).is_dir()), source)


def _image(root: Element, stem: str, folder: Path, faults: Faults) -> LabelledImage | None:
    from supervision.dataset.formats.pascal_voc import (
        detections_from_xml_obj,
        parse_polygon_points,
    )

    name = root.findtext("filename") or f"{stem}.jpg"
    said = [int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height")]
    size = said if all(said) else size_of(folder / name, faults)
    if size is None:
        return None
    width, height = size
    found = root.findall("object")
    polygons = [[parse_polygon_points(p) - 1 for p in o.findall("polygon")] for o in found]
    for one in found:  # otherwise supervision draws a mask of the whole image for each
        for polygon in one.findall("polygon"):
            one.remove(polygon)
    boxes, classes = detections_from_xml_obj(root, [], (width, height))
    objects = [
        Object(classes[id_], box.tolist(), [part.ravel().tolist() for part in parts])
        for box, id_, parts in zip(boxes.xyxy, boxes.class_id, polygons, strict=True)
    ]
    return LabelledImage(name, width, height, objects)
