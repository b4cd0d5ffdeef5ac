"""Formats are recognised, and a wrong one is told the command to run first."""

import json

import pytest
from formats import labelme, voc, yolo

from resnest_d2.data.convert import kind_of, require_coco, require_kind
from resnest_d2.data.convert.importing import FORMATS
from resnest_d2.data.convert.kinds import KINDS


@pytest.fixture
def places(tmp_path, coco_files):
    """A file or folder of every format, by kind; several under names of their own."""
    (yaml,), (folder,) = yolo(tmp_path / "yolo"), voc(tmp_path / "voc")
    train, _ = labelme(tmp_path / "labelme")
    texts = {
        "cvat/annotations.xml": "<?xml version='1.0'?>\n<annotations><version>1.1</version>",
        "ls/export.json": '[{"id": 1, "annotations": [{"result": []}], "data": {"image": "a"}}]',
        "min/export.json": '[{"image": "a.png", "id": 1, "annotator": 1}]',
        "rf/train/_annotations.coco.json": '{"images": [], "annotations": [], "categories": []}',
        "results.json": '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]',
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    labels = tmp_path / "yolo" / "labels" / "train" / "train.txt"
    coco = coco_files()[0]
    return {
        "yolo": (yaml, yaml.parent, labels),
        "voc": (folder, folder / "Annotations", folder / "Annotations" / "val.xml"),
        "labelme": (train, train / "train.json"),
        "cvat": (tmp_path / "cvat", tmp_path / "cvat" / "annotations.xml"),
        "labelstudio": (tmp_path / "ls", tmp_path / "ls" / "export.json", tmp_path / "min"),
        "roboflow": (tmp_path / "rf", tmp_path / "rf" / "train"),
        "coco": (type(tmp_path)(coco), tmp_path / "rf" / "train" / "_annotations.coco.json"),
        None: (tmp_path / "results.json", tmp_path / "images", tmp_path / "nowhere"),
    }


def test_kinds(places):
    assert set(KINDS) == {*FORMATS, "coco"} == set(places) - {None}
    for kind, paths in places.items():
        assert [kind_of(path) for path in paths] == [kind] * len(paths)


def test_only_coco_is_taken_for_coco(places):
    for kind, paths in places.items():
        for path in paths:
            if kind in ("coco", None):
                require_coco(path)
            else:
                with pytest.raises(ValueError, match=f"resnest-d2 import-data {kind} ") as raised:
                    require_coco(path)
                assert str(path) in str(raised.value)
    with pytest.raises(ValueError, match="import-data labelme .*/train .*/val --output"):
        require_coco(places["labelme"][0].parent)


def test_a_source_of_another_kind(places):
    for kind in FORMATS:
        for path in (*places[kind], *places[None]):
            require_kind(path, kind)
    with pytest.raises(ValueError, match="holds labelme annotations; .* import-data labelme"):
        require_kind(places["labelme"][0], "voc")
    with pytest.raises(ValueError, match="in its folders; .*labelme .*/train .*/val --output"):
        require_kind(places["labelme"][0].parent, "labelme")
    with pytest.raises(ValueError, match="a COCO file already; .* resnest-d2 split"):
        require_kind(places["coco"][0], "yolo")


def test_a_long_coco_file_is_not_read_to_its_end(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(
        '{"info": {}, "images": [' + json.dumps({"id": 1}) + "," * 200_000 + '"shapes":'
    )
    assert kind_of(file) == "coco"
