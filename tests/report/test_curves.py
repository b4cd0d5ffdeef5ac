"""Curves from matched images are COCOeval's, to the last digit."""

import contextlib
import gc
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from benchmarking.made_run import write_run

from resnest_d2.report import gather
from resnest_d2.report.analysis import analyse
from resnest_d2.report.gather import Run, read_annotations, read_detections
from resnest_d2.report.matching import OVERLAPS


def cocos_curves(api, found, task, limit):
    """Precision of pycocotools, (T, R, K); NaN without annotations."""
    with contextlib.redirect_stdout(io.StringIO()):
        scorer = COCOeval(api, api.loadRes([dict(d) for d in found]), task)
        scorer.params.iouThrs = np.array(OVERLAPS)
        scorer.params.areaRng, scorer.params.areaRngLbl = [[0, 1e10]], ["all"]
        scorer.params.maxDets = [limit]
        scorer.evaluate()
        scorer.accumulate()
    precision = scorer.eval["precision"][:, :, :, 0, 0]
    return np.where(precision < 0, np.nan, precision)


@pytest.mark.parametrize("limit", [100, 300])
def test_curves_equal_pycocotools(limit, tmp_path):
    """With crowds, equal scores, equal overlaps, a class without annotations and too many boxes."""
    data = write_run(tmp_path / "run", images=12, classes=5, masks=True)
    content = json.loads((tmp_path / "run/data.json").read_text())
    annotations = [a for a in content["annotations"] if a["category_id"] != 2]
    for annotation in annotations[::9]:
        annotation["iscrowd"] = 1
    double = [{**a, "id": 10_000 + a["id"]} for a in annotations[::5]]
    content["annotations"] = [*annotations, *double]
    content["images"].reverse()
    (tmp_path / "run/data.json").write_text(json.dumps(content))
    path = tmp_path / "run/inference/made/coco_instances_results.json"
    found = json.loads(path.read_text())
    found += [{**found[0], "score": 0.3}] * 150  # more than the limit of 100
    for detection in found:
        detection["score"] = round(detection["score"], 1)
    curves = analyse(read_annotations(data.json_file), found, ["bbox", "segm"], limit=limit).curves
    assert list(curves) == ["bbox", "segm"]
    api = read_annotations(data.json_file)
    for task, curve in curves.items():
        expected = cocos_curves(api, found, task, limit)
        np.testing.assert_array_equal(curve, expected)
        assert np.isnan(curve).all(axis=(0, 1)).tolist() == [False, True, False, False, False]
        assert 0.1 < np.nanmean(curve) < 0.9


def test_a_class_without_detections_has_no_precision(tmp_path):
    data = write_run(tmp_path / "run", images=4, classes=2)
    found = json.loads((tmp_path / "run/inference/made/coco_instances_results.json").read_text())
    found = [d for d in found if d["category_id"] == 1]
    curve = analyse(read_annotations(data.json_file), found, ["bbox"]).curves["bbox"]
    assert curve[:, :, 0].max() > 0 and not curve[:, :, 1].any()


def test_of_equal_overlaps_the_last_annotation_is_matched(tmp_path):
    """As in pycocotools: the second detection, right for the last annotation alone, is false."""
    data = write_run(tmp_path / "run", images=1, classes=1)
    content = json.loads((tmp_path / "run/data.json").read_text())
    one = content["annotations"][0]
    content["annotations"] = [
        {**one, "id": i, "bbox": [x, 0, 10, 10], "area": 100} for i, x in enumerate((0, 6), 1)
    ]
    (tmp_path / "run/data.json").write_text(json.dumps(content))
    found = [
        {"image_id": 1, "category_id": 1, "bbox": [x, 0, 10, 10], "score": score}
        for x, score in ((3, 0.9), (6, 0.8))
    ]
    curve = analyse(read_annotations(data.json_file), found, ["bbox"]).curves["bbox"]
    api = read_annotations(data.json_file)
    np.testing.assert_array_equal(curve, cocos_curves(api, found, "bbox", 100))
    assert curve[0, 51, 0] == 0  # one of two is found


def test_detections_are_parsed_without_garbage_collection(tmp_path, monkeypatch):
    data = write_run(tmp_path / "run", images=2, classes=2)
    read, enabled = gather.read_json, []
    monkeypatch.setattr(
        gather, "read_json", lambda path: (enabled.append(gc.isenabled()), read(path))[1]
    )
    found = read_detections(
        Run(str(tmp_path / "run"), {}, [], ""), "made", read_annotations(data.json_file)
    )
    assert len(found) >= 40 and enabled == [False] and gc.isenabled()
