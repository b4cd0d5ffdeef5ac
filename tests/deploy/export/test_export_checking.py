"""What counts as the same detections."""

import numpy as np
import pytest
import torch

from resnest_d2.deploy.export.checking import check, compare


def detections(masks=False):
    boxes = np.array([[0, 0, 10, 10], [5, 5, 20, 30], [0, 0, 10, 10]], np.float32)
    found = [boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 1])]
    return [*found, np.full((3, 4, 4), 0.5, np.float32)] if masks else found


def test_swapped_detections_are_the_same():
    swapped = [values[[1, 0, 2]] for values in detections(masks=True)]
    swapped[0] = swapped[0] + np.float32(0.05)
    difference = compare((30, 40), detections(masks=True), swapped)
    assert difference.small and difference.detections == 3 and difference.unmatched == 0
    assert difference.boxes == pytest.approx(0.05, abs=1e-5)
    assert difference.scores == difference.masks == 0


@pytest.mark.parametrize(
    ("field", "change"),
    [(0, 0.2), (1, 2e-3), (2, 1), (3, 0.02)],
    ids=["box", "score", "class", "mask"],
)
def test_each_field_counts(field, change):
    found = detections(masks=True)
    found[field][1] += np.array(change, found[field].dtype)
    difference = compare((30, 40), detections(masks=True), found)
    assert difference.unmatched == 1 and not difference.small


def test_one_too_many_and_none():
    none = [values[:0] for values in detections()]
    assert compare((30, 40), none, none).small
    assert str(compare((30, 40), none, none)) == "30 x 40: 0 detections"
    assert not compare((30, 40), none, detections()).small
    assert not compare((30, 40), detections(), none).small


def test_one_is_not_the_counterpart_of_two():
    one = [values[:1] for values in detections()]
    twice = [values[[0, 0]] for values in detections()]
    assert compare((30, 40), one, twice).unmatched == 1
    assert compare((30, 40), twice, one).unmatched == 1


@pytest.mark.parametrize("score", [0.05, 1e-7], ids=["found lower", "never found"])
def test_the_file_runs_at_the_threshold_of_the_detector(score):
    asked, ran = [], []

    def detector(image, threshold):
        asked.append(float(threshold))
        kept = torch.tensor([score]) > threshold
        return torch.zeros(1, 4)[kept], torch.tensor([score])[kept], torch.zeros(1)[kept]

    def run(image, threshold):
        ran.append(threshold)
        return [part.numpy() for part in detector(image, torch.tensor(threshold))]

    images = [torch.zeros(8, 9, 3, dtype=torch.uint8)] * 2
    found = check(run, detector, images, threshold=0.5)
    tries = [0.5, 0.05, 0.005] if score == 0.05 else [0.5, 0.05, 0.005, 0.0005]
    assert asked[: len(tries)] == pytest.approx(tries)
    assert ran == pytest.approx([tries[-1], 1.0]) and all(one.small for one in found)
