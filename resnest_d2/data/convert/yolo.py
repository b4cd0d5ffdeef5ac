"""Reader of YOLO annotations, as Ultralytics and Roboflow write them.

The annotations of an image are parsed by supervision
(https://supervision.roboflow.com). Only its boxes are used. Polygons are copied from the file,
because supervision's masks are drawn from rounded corners including their rim: a square of 4 x 4
pixels becomes 5 x 5.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.files import read_text, read_yaml
from resnest_d2.progress import counted

from .faults import Faults, fault_of_yolo
from .labelled import IMAGES, SPLITS, LabelledImage, Object, Split, named_after, size_of


def read_yolo(source: Path, faults: Faults) -> Iterator[Split]:
    """Reads the splits of a data.yaml; labels are in ``labels`` beside each ``images`` folder.

    An image without labels has no objects.

    Args:
        source: data.yaml file, or its folder.
        faults: takes faulty lines.
    """
    file = source / "data.yaml" if source.is_dir() else source
    if not file.is_file():
        raise MissingFileError(
            f"There is no {file}, which gives the names of the classes and the folders of images, "
            "such as names: [cat, dog] and train: images."
        )
    data = read_yaml(file)
    names = _names(file, data)
    root = file.parent / str(data.get("path", ""))
    given = [split for split in SPLITS if data.get(split)]
    if not given:
        raise UserError(f"{file} has no images: it has none of the keys {', '.join(SPLITS)}.")
    for split in given:
        folder = _folder(data[split], [root, file.parent], f"{file}: {split}")
        found = [_image(p, folder, names, faults) for p in counted(_images(folder), "Images")]
        images = [image for image in found if image is not None]
        yield Split(named_after(file.parent)[0], split, folder, list(names.values()), images)


def _names(file: Path, data: object) -> dict[int, str]:
    names = data.get("names") if isinstance(data, dict) else None
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, dict):
        raise UserError(f"{file} has no names: a list of class names, or a mapping of ids to them.")
    if wrong := [id_ for id_ in names if not str(id_).isdigit()]:
        raise UserError(f"{file}: the id {wrong[0]!r} among its names is no whole number.")
    names = {int(id_): str(names[id_]) for id_ in sorted(names, key=int)}
    name, number = Counter(names.values()).most_common(1)[0] if names else ("", 0)
    if number > 1:
        ids = ", ".join(str(id_) for id_, other in names.items() if other == name)
        raise UserError(
            f"{file}: the classes {ids} are all named {name!r} and would become one; give each "
            "its own name."
        )
    return names


def _folder(given: object, roots: list[Path], what: str) -> Path:
    if isinstance(given, str):
        # Roboflow writes ../train/images instead of train/images.
        for path in (given, given.removeprefix("../")):
            for root in roots:
                if (root / path).is_dir():
                    return root / path
    raise UserError(f"{what} is {given!r}, not a folder of images.")


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)


def _image(path: Path, folder: Path, names: dict[int, str], faults: Faults) -> LabelledImage | None:
    from supervision.dataset.formats.yolo import yolo_annotations_to_detections

    parts = list(path.parts)
    if "images" in parts:  # replace the last one
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    labels, objects, lines = Path(*parts).with_suffix(".txt"), [], []
    text = read_text(labels) if labels.is_file() else ""
    for number, line in enumerate(text.splitlines(), 1):
        if fault := line.strip() and fault_of_yolo(line.split(), names):
            faults.add(f"{labels}, line {number}", fault)
        elif line.strip():
            lines.append(line)
    size = size_of(path, faults)
    if size is None:
        return None
    width, height = size
    found = yolo_annotations_to_detections(lines, (width, height), with_masks=False)
    ids = found.class_id if lines else ()  # supervision has none without objects
    for line, box, id_ in zip(lines, found.xyxy, ids, strict=True):
        values = [float(value) for value in line.split()[1:]]
        polygon = [v * (height if i % 2 else width) for i, v in enumerate(values)]
        # Five and six values are a box, an odd one at the end a confidence.
        polygons = [polygon[: len(polygon) // 2 * 2]] if len(values) > 5 else []
        objects.append(Object(names[int(id_)], box.tolist(), polygons))
    return LabelledImage(path.relative_to(folder).as_posix(), width, height, objects)
