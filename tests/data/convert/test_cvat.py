"""CVAT's shapes become the boxes and masks that were drawn."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from formats import images

from resnest_d2.data import read_coco
from resnest_d2.data.convert import import_data

LABELS = "<labels>" + "".join(
    f"<label><name>{name}</name>{parent}</label>"
    for name, parent in (("dog", ""), ("nose", "<parent>dog</parent>"), ("cat", ""), ("dog", ""))
)
LABELS += "</labels>"


def write(folder, shapes, *, subset=None, name="a.png"):
    images(folder / "images" / (subset or ""), a=name)
    attribute = f'subset="{subset}"' if subset else ""
    image = f'<image id="0" name="{name}" {attribute} width="100" height="50">{shapes}</image>'
    meta = f"<meta><task>{LABELS}</task></meta>"
    text = f"<annotations><version>1.1</version>{meta}{image}</annotations>"
    (folder / "annotations.xml").write_text(text)
    return str(folder)


def read(source, tmp_path, **options):
    done = import_data("cvat", [source], output=str(tmp_path / "out"), **options)
    for file in done.files:
        read_coco(file.json_file, file.image_root)
        with open(file.json_file) as opened:
            yield file, json.load(opened)


def test_boxes_polygons_masks_and_ellipses(tmp_path, caplog):
    mask = np.zeros((50, 100), np.uint8)
    mask[11:13, 20:23] = [[0, 1, 1], [1, 0, 1]]
    source = write(
        tmp_path / "pets",
        '<box label="cat" occluded="0" xtl="1.5" ytl="2" xbr="11.5" ybr="22" z_order="0"/>'
        '<polygon label="dog" points="10.00,5.00;30.00,5.00;30.00,35.00"/>'
        '<mask label="cat" rle="1, 3, 1, 1" left="20" top="11" width="3" height="2"/>'
        '<ellipse label="dog" cx="50" cy="25" rx="20" ry="10" rotation="90"/>'
        '<points label="dog" points="1,1"/><tag label="dog"/>',
    )
    ((file, data),) = read(source, tmp_path)
    assert file.json_file.endswith("out/pets.json") and file.image_root.endswith("pets/images")
    assert data["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    box, polygon, rle, ellipse = data["annotations"]
    assert (box["bbox"], box["category_id"]) == ([1.5, 2, 10, 20], 2)
    assert polygon["bbox"] == [10, 5, 20, 30] and polygon["category_id"] == 1
    assert polygon["segmentation"] == [[10, 5, 30, 5, 30, 35]]
    assert rle["bbox"] == [20, 11, 3, 2] and rle["area"] == 4
    np.testing.assert_array_equal(mask_util.decode(rle["segmentation"]), mask)
    assert ellipse["bbox"] == pytest.approx([40, 5, 20, 40])  # turned by a quarter
    assert "skipped points" in caplog.text and "skipped tag" in caplog.text


def test_subsets_are_splits(tmp_path):
    box = '<box label="cat" xtl="1" ytl="2" xbr="11" ybr="22"/>'
    source = write(tmp_path / "pets", box, subset="Validation")
    ((file, data),) = read(source, tmp_path)
    assert file.split == "val" and file.json_file.endswith("out/pets_val.json")
    assert data["images"][0]["file_name"] == "Validation/a.png"


def test_images_in_another_folder(tmp_path):
    source = write(tmp_path / "pets", "")
    (tmp_path / "pets" / "images").rename(tmp_path / "elsewhere")
    ((file, data),) = read(source, tmp_path, images=str(tmp_path / "elsewhere"))
    assert file.image_root == str(tmp_path / "elsewhere") and data["annotations"] == []


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<box label="cat" xtl="1" ytl="2" xbr="9" ybr="9" rotation="30"/>', "rotated by 30 deg"),
        ('<box label="cat" xtl="left" ytl="2" xbr="9" ybr="9"/>', "xtl of a box is 'left'"),
        ('<box xtl="1" ytl="2" xbr="9" ybr="9"/>', "a box has no label"),
        ('<polygon label="cat" points="1,1;2,2"/>', "not three or more x,y"),
        ('<mask label="cat" rle="1,2" left="0" top="0" width="3" height="2"/>', "covers 3 pixels"),
        ('<mask label="cat" rle="0,6" left="99" top="0" width="3" height="2"/>', "outside its im"),
        ('<mask label="cat" rle="6" left="0" top="0" width="3" height="2"/>', "a mask is empty"),
    ],
)
def test_faulty_shapes(shape, message, tmp_path):
    source = write(tmp_path / "pets", shape)
    with pytest.raises(ValueError, match=f"annotations.xml, image 'a.png': .*{message}"):
        import_data("cvat", [source], output=str(tmp_path / "out"))


def test_tracks_are_refused(tmp_path):
    source = tmp_path / "annotations.xml"
    source.write_text('<annotations><track id="0" label="cat"></track></annotations>')
    with pytest.raises(ValueError, match="tracks of a video. Export .* 'CVAT for images 1.1'"):
        import_data("cvat", [str(source)], output=str(tmp_path / "out"))
