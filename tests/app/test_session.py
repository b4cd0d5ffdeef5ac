"""What a visitor's image is predicted with, filtered to and written as; without gradio."""

import json
from collections import Counter

import av
import numpy as np
import pytest
import torch
from PIL import Image

from resnest_d2.app import session
from resnest_d2.app.session import Detector, Visit, count, keep, short_names, table
from resnest_d2.errors import UserError
from resnest_d2.inference import PackedMasks, Predictor


@pytest.fixture(scope="module")
def detector(run):
    return Detector(str(run), name="mine", device="cpu")


def test_a_detector_begins_with_the_recommended_threshold(run, detector, monkeypatch, strange):
    assert (detector.name, detector.threshold, detector.lowest) == ("mine", 0.35, 0.05)
    assert detector.classes == ["cat", strange, "dog"]
    monkeypatch.setattr(session, "LOWEST", 0.4)  # it is not above the recommended one
    assert Detector(str(run), device="cpu").lowest == 0.35


@pytest.mark.parametrize("threshold", [0.05, 0.35, 0.4])
def test_filtering_equals_predicting_at_the_threshold(
    run, files, detector, tmp_path, threshold, monkeypatch
):
    (found,) = Visit(str(files / "noise.png"), tmp_path).find(detector)
    kept = keep(found, threshold=threshold)
    expected = Predictor(run, score_threshold=threshold, device="cpu")(files / "noise.png")
    np.testing.assert_array_equal(kept.boxes, expected.boxes)
    np.testing.assert_array_equal(kept.scores, expected.scores)
    assert kept.class_names == expected.class_names and len(found) == 100
    drawn, as_predicted = np.asarray(kept.draw()), np.asarray(expected.draw())
    np.testing.assert_array_equal(drawn, as_predicted)


def test_a_detector_runs_once_for_each_size_of_tiles(files, detector, tmp_path, monkeypatch):
    sizes, predict = [], detector.predict
    monkeypatch.setattr(detector, "predict", lambda s, size: sizes.append(size) or predict(s, size))
    visit = Visit(str(files / "noise.png"), tmp_path)
    whole = visit.find(detector)
    tiled = visit.find(detector, 32)
    assert visit.find(detector) is whole and visit.find(detector, 32) is tiled
    assert sizes == [None, 32] and len(tiled[0]) != len(whole[0])


def test_classes_are_chosen_by_name(files, detector, tmp_path, strange):
    (found,) = Visit(str(files / "noise.png"), tmp_path).find(detector)
    all_of = count([keep(found, threshold=0.3)])
    assert set(all_of) == {"cat", strange, "dog"}
    kept = keep(found, threshold=0.3, classes=[strange, "dog"])
    assert count([kept]) == {strange: all_of[strange], "dog": all_of["dog"]}
    assert not len(keep(found, threshold=0.3, classes=["horse"]))


def test_the_table_has_a_row_for_each_detection(files, detector, tmp_path):
    (found,) = Visit(str(files / "noise.png"), tmp_path).find(detector)
    rows = table([keep(found, threshold=0.4)])
    assert len(rows) == (found.scores >= 0.4).sum() > 0
    name, score, *box, frame = rows[0]
    assert name == found.class_names[0] and frame is None
    assert score == pytest.approx(found.scores[0], abs=5e-4)
    assert box == pytest.approx(found.boxes[0], abs=0.05)


def test_the_json_has_what_is_kept_and_no_path(files, detector, tmp_path, strange):
    visit = Visit(str(files / "noise.png"), tmp_path)
    kept = [keep(p, threshold=0.35) for p in visit.find(detector)]
    records = json.loads(open(visit.write_json(kept, 1)).read())
    assert {record["file_name"] for record in records} == {"noise.png"}
    ids = Counter(record["category_id"] for record in records)
    named = dict(zip(["cat", strange, "dog"], [1, 5, 7], strict=True))
    assert ids == {named[name]: number for name, number in count(kept).items()}
    visit.close()
    assert not tmp_path.exists()


def test_frames_of_a_video_are_found_and_drawn(files, detector, tmp_path):
    visit = Visit(str(files / "three.mp4"), tmp_path)
    found = visit.find(detector)
    assert [p.frame for p in found] == [0, 1, 2] and table(found)[-1][-1] == 2
    with av.open(visit.draw(found)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    drawn = [np.asarray(prediction.draw(), dtype=float) for prediction in found]
    differences = [[np.abs(frame - one).mean() for one in drawn] for frame in frames]
    assert [np.argmin(row) for row in differences] == [0, 1, 2]
    assert max(min(row) for row in differences) < 30  # of 255; the colours are coarse
    assert visit.draw(found) != visit.draw(found)  # browsers would show the former one


def test_a_long_video_is_thinned_out(files, detector, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "FRAMES", 2)
    found = Visit(str(files / "three.mp4"), tmp_path).find(detector)
    assert [p.frame for p in found] == [0, 2]


def test_an_image_of_a_camera_is_predicted(files, detector, tmp_path):
    taken = Image.open(files / "noise.png").convert("RGB")
    (found,) = Visit(taken, tmp_path).find(detector)
    (expected,) = Visit(str(files / "noise.png"), tmp_path).find(detector)
    np.testing.assert_array_equal(found.boxes, expected.boxes)


def test_masks_are_kept_packed(files, detector, tmp_path):
    (found,) = Visit(str(files / "noise.png"), tmp_path).find(detector)
    found.instances.pred_masks = masks = torch.rand(100, 48, 64) > 0.5
    packed = session._to_keep(found)
    assert isinstance(packed.instances.pred_masks, PackedMasks)
    np.testing.assert_array_equal(packed.masks, masks.numpy())
    kept = keep(packed, threshold=0.4)
    np.testing.assert_array_equal(kept.masks, masks[found.instances.scores >= 0.4].numpy())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken.png", "cannot be read: .*truncated"),
        ("<b>notes.txt", "cannot be read: it is no image in one of the formats"),
        ("no.mp4", "no.mp4 is no video file: it begins as another kind of file"),
        ("gone.png", "There is no image, video or folder gone.png"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(files, detector, tmp_path, name, reason):
    (files / "no.mp4").write_text("no video")
    with pytest.raises(UserError, match=reason) as raised:
        Visit(str(files / name), tmp_path).find(detector)
    told = session.sentence_of(raised.value)
    assert name in told and str(files) not in told and "\n" not in told


def test_other_errors_are_sentences_without_details(caplog):
    memory = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    assert session.sentence_of(memory).startswith("There is not enough memory for this image;")
    told = session.sentence_of(RuntimeError("secret"))
    assert told.startswith("There was an internal error") and "secret" not in told
    assert "secret" in caplog.text


def test_names_are_short_where_they_differ(tmp_path):
    runs = [tmp_path / "a" / "mine", tmp_path / "b" / "mine", tmp_path / "b" / "other"]
    for run in runs:
        run.mkdir(parents=True)
    first, second, third = map(str, runs)
    assert short_names([first, "mask_rcnn_s50", third]) == ["mine", "mask_rcnn_s50", "other"]
    assert short_names([first, second, third]) == [first, second, "other"]
