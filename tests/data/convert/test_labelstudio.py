"""Label Studio's regions, in percent, become pixels."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from formats import images

from resnest_d2.data import read_coco
from resnest_d2.data.convert import import_data
from resnest_d2.data.convert.image_names import ImageNames
from resnest_d2.data.convert.labelstudio import unpack_rle

SIZE = {"original_width": 100, "original_height": 50, "image_rotation": 0}
BOX = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]}
POLYGON = {"points": [[10, 10], [30, 10], [30, 70]], "closed": True, "polygonlabels": ["dog"]}
ELLIPSE = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "ellipselabels": ["dog"]}


def pack(values, *, word=8):
    """rle-pack in its plainest form: runs of up to 256 equal values, each with eight bits."""
    bits = f"{len(values):032b}{word - 1:05b}" + f"{7:04b}" * 4
    i = 0
    while i < len(values):
        end = i
        while end < len(values) and end - i < 256 and values[end] == values[i]:
            end += 1
        if end - i > 1:
            bits += f"1{0:02b}{end - i - 1:08b}{values[i]:0{word}b}"
        else:
            end = min(i + 3, len(values))
            bits += f"0{3:02b}{end - i - 1:08b}" + "".join(f"{v:0{word}b}" for v in values[i:end])
        i = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def brush(mask):
    rgba = np.zeros((*mask.shape, 4), np.uint8)
    rgba[..., 3] = 255 * mask
    return {"format": "rle", "rle": pack(rgba.ravel().tolist()), "brushlabels": ["cat"]}


def task(*values, image="/data/upload/1/0123abcd-a.png"):
    kinds = [next((k for k in value if k.endswith("labels")), "rectangle") for value in values]
    results = [{**SIZE, "type": k, "value": v} for k, v in zip(kinds, values, strict=True)]
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": results}]}


def read(tmp_path, content):
    folder = tmp_path / "pets"
    if not folder.exists():
        images(folder / "images", a="a.png", b="b.png")
    (folder / "export.json").write_text(json.dumps(content))
    source = [str(folder / "export.json")]
    (file,) = import_data("labelstudio", source, output=str(tmp_path / "out"), overwrite=True).files
    read_coco(file.json_file, file.image_root)
    assert file.json_file.endswith("out/pets.json")
    with open(file.json_file) as opened:
        return json.load(opened)


def expect_all(data, mask):
    assert data["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert data["images"] == [{"id": 1, "file_name": "a.png", "height": 50, "width": 100}]
    box, polygon, ellipse, brushed = data["annotations"]
    assert (box["bbox"], box["category_id"]) == ([10, 10, 30, 20], 1)
    assert polygon["bbox"] == [10, 5, 20, 30] and polygon["category_id"] == 2
    assert polygon["segmentation"] == [[10, 5, 30, 5, 30, 35]]
    assert ellipse["bbox"] == pytest.approx([40, 15, 20, 20])
    assert brushed["area"] == mask.sum() and brushed["bbox"] == [20, 10, 5, 7]
    np.testing.assert_array_equal(mask_util.decode(brushed["segmentation"]), mask)


def test_both_exports(tmp_path, caplog):
    mask = np.zeros((50, 100), np.uint8)
    mask[10:17, 20:25] = 1
    mask[12, 22] = 0
    regions = [BOX, POLYGON, ELLIPSE, brush(mask)]
    point = {"x": 1, "y": 1, "keypointlabels": ["nose"]}
    unlabelled = {"x": 1, "y": 1, "width": 3, "height": 3, "rotation": 0}
    expect_all(read(tmp_path, [task(*regions, point, unlabelled)]), mask)
    assert "skipped keypointlabels" in caplog.text and "skipped rectangle" in caplog.text
    labels = [{**SIZE, **region} for region in regions]
    minimal = {"image": "https://a.org/x/a.png?token=3", "id": 1, "label": labels, "annotator": 1}
    expect_all(read(tmp_path, [minimal]), mask)


def test_takes_the_annotation_that_counts(tmp_path, caplog):
    several = task(BOX)
    other = {"result": [{**SIZE, "type": "polygonlabels", "value": POLYGON}]}
    several["annotations"] = [
        {**several["annotations"][0], "was_cancelled": True},
        several["annotations"][0],
        {**other, "ground_truth": True},
    ]
    assert read(tmp_path, [several])["annotations"][0]["bbox"] == [10, 5, 20, 30]
    assert "used the first of 2 annotations" in caplog.text
    data = read(tmp_path, [task(BOX), {**task(image="b.png"), "annotations": []}])
    assert len(data["images"]) == 2 and len(data["annotations"]) == 1


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([{**BOX, "rotation": 15}], "a rectangle is rotated by 15 degrees"),
        ([{**BOX, "rectanglelabels": ["cat", "dog"]}], r"has the labels \['cat', 'dog'\], not one"),
        ([{**BOX, "x": "left"}], "the x of a region is 'left', no number"),
        ([{**POLYGON, "points": [[1, 1]]}], "not three or more"),
        ([{"rle": [0, 0], "brushlabels": ["cat"]}], "the rle of a brush is cut off"),
        ([{"rle": pack([0] * 9), "brushlabels": ["cat"]}], "has 9 values, not 20000"),
    ],
)
def test_faulty_regions(regions, message, tmp_path):
    with pytest.raises(ValueError, match=f"export.json, task 1: .*{message}"):
        read(tmp_path, [task(*regions)])


def test_a_rotated_image_and_a_missing_one(tmp_path):
    rotated = task(BOX)
    rotated["annotations"][0]["result"][0]["image_rotation"] = 90
    with pytest.raises(ValueError, match="its image is rotated by 90 degrees"):
        read(tmp_path, [rotated])
    gone = [{**task(BOX, image=f"/data/upload/1/{i}.png"), "id": i} for i in range(100)]
    with pytest.raises(ValueError, match="99 more like it, in .*task 1, .*task 2, .*task 3 ...$"):
        read(tmp_path, gone)


def test_links_to_images(tmp_path):
    images(tmp_path / "a", a="x 1.png", b="same.png")
    images(tmp_path / "b", b="same.png")
    names = ImageNames(tmp_path)
    assert names.find("s3://bucket/more/x%201.png") == "a/x 1.png"
    assert names.find("/data/local-files/?d=sets/b/same.png") == "b/same.png"
    with pytest.raises(ValueError, match="'same.png' is in .* 2 times"):
        names.find("/data/upload/3/same.png")
    with pytest.raises(ValueError, match="'x.png' is not in .*--images"):
        names.find("x.png")


@pytest.mark.parametrize("word", [3, 8, 16])
def test_rle_of_other_words(word):
    values = [5, 5, 5, 1, 2, 7, 7, 0]
    assert unpack_rle(bytes(pack(values, word=word)), 8).tolist() == values
