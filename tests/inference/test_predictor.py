"""Predictor against DefaultPredictor, and what it takes, reports and refuses."""

import functools
import logging

import cv2
import numpy as np
import pytest
import torch
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from PIL import Image

from resnest_d2 import Predictor
from resnest_d2.data.mapper import NamingDatasetMapper
from resnest_d2.deploy import keep_freed_memory, precision
from resnest_d2.deploy.cpu import allocator
from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.inference import prediction_config
from resnest_d2.inference.arrays import in_order
from resnest_d2.inference.images import InputImage, Source
from resnest_d2.inference.sources import open_source
from resnest_d2.model_zoo import load_config

CONFIG = "quick_schedules/mask_rcnn_ResNeSt_14_FPN_shapes.yaml"
SMALL = ["MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.WIDTH_PER_GROUP", 16]
SMALL += ["MODEL.FPN.OUT_CHANNELS", 32, "INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 200]
SMALL += ["MODEL.RPN.POST_NMS_TOPK_TEST", 64, "TEST.DETECTIONS_PER_IMAGE", 20]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a run on data that is gone, with random weights whose detections are many."""
    folder = tmp_path_factory.mktemp("run")
    cfg = load_config(CONFIG, ["MODEL.DEVICE", "cpu", *SMALL])
    cfg.DATASETS.COCO = [["gone", "/gone/train.json", "/gone"]]
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("gone",)
    cfg.DATASETS.CLASSES, cfg.DATASETS.CATEGORY_IDS = ["ant", "bee", "cow"], [3, 5, 9]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight *= 30
    torch.save({"model": model.state_dict()}, folder / "model_best.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder


@pytest.fixture(scope="module")
def predictor(run):
    return Predictor(run, score_threshold=0.05)  # as in the evaluation


@pytest.fixture(scope="module")
def pixels():
    """BGR, of two sizes by turns."""
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (5, 5 + i % 2, 3), np.uint8) for i in range(6)]
    return [np.kron(one, np.ones((12, 12, 1), np.uint8)) for one in coarse]


def reference(run):
    cfg = load_config(str(run / "config.yaml"))
    cfg.MODEL.WEIGHTS = str(run / "model_best.pth")
    return DefaultPredictor(cfg)


def assert_same(ours, theirs):
    assert len(ours) == len(theirs) > 5
    torch.testing.assert_close(ours.scores, theirs.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.pred_boxes.tensor, theirs.pred_boxes.tensor, atol=1e-2, rtol=0)
    assert torch.equal(ours.pred_classes, theirs.pred_classes)
    assert (ours.pred_masks == theirs.pred_masks).float().mean() > 0.9999


@pytest.mark.parametrize("options", [{}, {"backend": "plain", "batch_size": 2, "workers": 1}])
def test_equals_default_predictor(run, pixels, options):
    results = Predictor(run, score_threshold=0.05, **options)(pixels, channels="BGR")
    theirs = reference(run)
    for result, image in zip(results, pixels, strict=True):
        assert_same(result.instances, theirs(image)["instances"])
    assert results.failed == [] and results[1].name == "image 1"


def test_batches_hold_only_what_is_padded_alike(run, pixels, monkeypatch):
    predictor = Predictor(run, batch_size=2, workers=1, score_threshold=0.05)
    sizes, model = [], predictor.model

    def count(inputs):
        sizes.append([tuple(one["image"].shape[1:]) for one in inputs])
        return model(inputs)

    count.backbone = model.backbone
    predictor.model = count
    results = predictor(pixels, channels="BGR")
    square, wide = (64, 64), (64, 77)
    expected = [[square] * 2, [square], [wide] * 2, [wide]]
    assert sorted(sizes) == sorted(expected)
    assert [r.image_size for r in results] == [p.shape[:2] for p in pixels]


def test_the_resize_key_counts(run, pixels):
    found = [
        Predictor(run, opts=["INPUT.RESIZE", name], score_threshold=0.05)(
            pixels[0], channels="BGR"
        ).instances.scores
        for name in ("pil", "cv2")
    ]
    assert not torch.equal(*found)


def test_the_precision_of_the_weights(run, pixels, monkeypatch):
    monkeypatch.setattr(precision, "abilities", lambda: ("BF16",))
    narrow = Predictor(run, precision="bf16", score_threshold=0.05)
    assert narrow.model.backbone.fpn_output2.weight.dtype == torch.bfloat16
    assert len(narrow(pixels[0], channels="BGR")) > 0
    monkeypatch.setattr(precision, "abilities", lambda: ())
    with pytest.raises(UserError, match="bf16 would be slower than fp32 here"):
        Predictor(run, precision="bf16")
    with pytest.raises(UserError, match="backend plain computes in fp32; precision is 'bf16'"):
        Predictor(run, backend="plain", precision="bf16")
    with pytest.raises(MissingFileError, match="int8 needs a quantized file"):
        Predictor(run, precision="int8")


def test_the_allocator_is_left_alone(run, pixels, monkeypatch):
    calls = []
    monkeypatch.setattr(allocator, "_set", calls.append)
    found = Predictor(run, device="cpu", score_threshold=0.05)(pixels[0], channels="BGR")
    assert len(found) > 0
    assert calls == []
    keep_freed_memory()
    assert len(calls) == 1  # what the test would have seen


def test_takes_the_same_image_in_every_form(predictor, pixels, tmp_path):
    image = Image.fromarray(pixels[1][:, :, ::-1])
    image.save(tmp_path / "a.png")
    expected = predictor(tmp_path / "a.png").instances.scores
    alpha = np.dstack([pixels[1], np.zeros(pixels[1].shape[:2], np.uint8)])
    rgb = functools.partial(predictor, channels="RGB")
    for found in (
        predictor(image),
        predictor.predict(image),
        predictor(pixels[1], channels="BGR"),
        predictor(alpha, channels="BGR"),
        rgb(pixels[1][:, :, ::-1]),
    ):
        assert torch.equal(found.instances.scores, expected)
    assert (rgb(pixels[1]).instances.scores - expected).abs().max() > 1e-3
    # The threads that share a list have fewer threads of torch's each, and round differently.
    (found,), (other,) = predictor([str(tmp_path / "a.png")]), predictor(tmp_path)
    torch.testing.assert_close(found.instances.scores, expected, rtol=0, atol=2e-6)
    assert torch.equal(other.instances.scores, found.instances.scores)


def test_exif_turns_files_and_pil_images(predictor, pixels, tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels[1]).save(path, exif=exif)
    turned = read_image(path, "BGR")
    assert turned.shape[:2] == pixels[1].shape[1::-1]
    expected = predictor(turned, channels="BGR").instances
    with Image.open(path) as image:
        for found in (predictor(path), predictor(image)):
            assert found.image_size == turned.shape[:2]
            assert torch.equal(found.instances.scores, expected.scores)


def test_a_broken_image_costs_only_itself(predictor, pixels, tmp_path, caplog):
    for i in range(4):
        Image.fromarray(pixels[i]).save(tmp_path / f"{i}.jpg")
    whole = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "2b.png").write_text("no image")
    (tmp_path / "notes.txt").write_text("not looked at")
    deep = np.full((30, 40), 40000, np.uint16)
    Image.fromarray(deep).save(tmp_path / "3b.png")
    with caplog.at_level(logging.WARNING, "resnest_d2"):
        results = predictor(tmp_path)
    assert [r.name for r in results] == ["0.jpg", "2.jpg", "3.jpg"]
    failed = [str(tmp_path / name) for name in ("1.jpg", "2b.png", "3b.png")]
    assert [one.name for one in results.failed] == failed
    assert "more than 8 bits" in results.failed[2].reason
    assert all(name in caplog.text for name in failed) and "3 images could" in caplog.text
    with pytest.raises(ValueError, match="2b.png cannot be read: it is no image in one of"):
        predictor(tmp_path / "2b.png")
    predictor([str(tmp_path / name) for name in ("0.jpg", "2b.png")])
    assert "1 image could not be read and was left out:\n" in caplog.text


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_image_too_large_for_the_memory_costs_only_itself(
    batch_size, predictor, pixels, tmp_path, monkeypatch
):
    images = [pixels[0], pixels[0], np.tile(pixels[0], (1, 2, 1)), pixels[0]]
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    one = len(predictor(tmp_path / "0.png"))
    limit = (
        predictor._prepare(next(open_source(images[0], "RGB").images)).inputs[0]["image"].numel()
    )
    detect = predictor.model.forward

    def lacking(inputs):
        if sum(image["image"].numel() for image in inputs) > limit:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return detect(inputs)

    monkeypatch.setattr(predictor, "batch_size", batch_size)
    monkeypatch.setattr(predictor.model, "forward", lacking)
    results = predictor(tmp_path)
    assert [(r.name, len(r)) for r in results] == [(f"{i}.png", one) for i in (0, 1, 3)]
    assert results.failed == [(str(tmp_path / "2.png"), "there is not enough memory for it")]


@pytest.mark.parametrize("error", [MemoryError(), cv2.error("resize"), ValueError("a defect")])
def test_only_errors_of_an_image_are_its_own(error, predictor, pixels, monkeypatch):
    def failing(image):
        raise error

    monkeypatch.setattr(predictor, "augmentations", failing)
    own = not isinstance(error, ValueError)
    with pytest.raises(UserError if own else ValueError) as caught:
        predictor(pixels[0], channels="BGR")
    assert str(caught.value).startswith("the image cannot be read: " if own else "a defect")


def test_streams_without_reading_everything_first(predictor, pixels, tmp_path):
    for i in range(8):
        Image.fromarray(pixels[0]).save(tmp_path / f"{i:02}.png")
    stream = iter(predictor.stream(tmp_path))
    assert next(stream).name == "00.png"
    (tmp_path / "07.png").unlink()  # not read yet
    assert [p.name for p in stream] == [f"{i:02}.png" for i in range(1, 7)]


def test_a_camera_is_predicted_frame_by_frame(predictor, pixels, monkeypatch):
    read = functools.partial(in_order, pixels[0], "BGR")
    frames = (InputImage(f"camera_0#{i}", None, i, read, read, 10.0) for i in range(3))
    endless = Source(frames, None, single=False, endless=True)
    with pytest.raises(UserError, match="never ends; iterate over stream"):
        predictor(endless)
    monkeypatch.setattr(predictor, "batch_size", 4)
    stream = predictor.stream(endless)
    assert stream.chunk == 1 and [p.frame for p in stream] == [0, 1, 2]


def test_slices_and_classes_are_kept_as_asked(run, predictor, pixels):
    """A sliced image has the detections of the image, and of its slices where these are better."""
    image = np.tile(pixels[0], (2, 2, 1))  # 120 x 120
    options = {"score_threshold": 0.05, "only": ["ant"], "slice_size": 64, "overlap": 0.25}
    sliced = Predictor(run, **options)(image, channels="BGR")
    whole = predictor(image, channels="BGR")
    others = Predictor(run, **{**options, "only": ["bee", "cow"]})(image, channels="BGR")
    assert set(sliced.names) == {"ant"} and "ant" not in others.names
    assert (np.diff(sliced.scores) <= 0).all() and sliced.scores[0] >= whole.scores[0] - 1e-5
    masks = sliced.masks
    assert masks.shape == (len(sliced), 120, 120) and masks.any()
    for mask, box in zip(masks, sliced.boxes, strict=True):
        x0, y0, x1, y1 = np.floor(box[:2]).tolist() + np.ceil(box[2:]).tolist()
        assert not mask[: int(y0)].any() and not mask[:, int(x1) + 1 :].any()


def test_the_threads_of_torch_are_as_before(predictor, pixels):
    before = torch.get_num_threads()
    predictor(pixels[:2], channels="BGR")
    assert torch.get_num_threads() == before


def test_score_threshold(run, predictor, pixels):
    every = predictor(pixels[0], channels="BGR").instances
    threshold = float(every.scores.median())
    found = Predictor(run, score_threshold=threshold)(pixels[0], channels="BGR").instances
    assert 0 < len(found) < len(every)
    assert torch.equal(found.scores, every.scores[every.scores > threshold])


@pytest.mark.parametrize("kind", ["folder", "checkpoint", "config", "cfg"])
def test_a_run_is_one_line(run, kind, pixels, predictor):
    weights = run / "model_best.pth"
    model, weights = {
        "folder": (run, None),
        "checkpoint": (weights, None),
        "config": (run / "config.yaml", weights),
        "cfg": (predictor.cfg, weights),
    }[kind]
    found = Predictor(model, weights=weights, score_threshold=0.05)(pixels[0], channels="BGR")
    assert torch.equal(
        found.instances.scores, predictor(pixels[0], channels="BGR").instances.scores
    )
    assert found.metadata.thing_classes == ["ant", "bee", "cow"]  # though the data is gone


def test_the_last_checkpoint_where_there_is_no_best(run, tmp_path):
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    with pytest.raises(FileNotFoundError, match="has none of model_best.pth, model_final.pth"):
        Predictor(tmp_path)
    (tmp_path / "model_final.pth").symlink_to(run / "model_best.pth")
    assert Predictor(tmp_path).cfg.MODEL.WEIGHTS == str(tmp_path / "model_final.pth")


def test_a_published_detector_has_its_weights_and_coco_classes(monkeypatch):
    from resnest_d2.inference import predictor as module

    monkeypatch.setattr(module, "build_trained", lambda cfg: cfg.MODEL.WEIGHTS)
    published = Predictor("mask_rcnn_s50", backend="plain")
    assert published.model == "resnest://mask_rcnn_s50"
    assert published.metadata.thing_classes[0] == "person"
    assert published.metadata.category_ids[-1] == 90
    own = Predictor("mask_rcnn_s50", backend="plain", weights="x.pth")
    assert own.model == "x.pth"


def test_refuses_a_checkpoint_without_heads(run, tmp_path):
    weights = torch.load(run / "model_best.pth")["model"]
    body = {name: value for name, value in weights.items() if "roi_heads" not in name}
    torch.save({"model": body}, tmp_path / "body.pth")
    with pytest.raises(ValueError, match="refuses an incomplete detector.*roi_heads"):
        Predictor(run, weights=tmp_path / "body.pth")


def test_predicts_with_one_channel_as_in_training(pixels, tmp_path):
    cfg = load_config(CONFIG, ["MODEL.DEVICE", "cpu", *SMALL, "INPUT.FORMAT", "L"])
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [110.0], [1.0]
    cfg.DATASETS.COCO, cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = [], (), ()
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "weights.pth")
    height, width = pixels[0].shape[:2]
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    trained = Predictor(cfg, weights=tmp_path / "weights.pth", score_threshold=0.0)
    record = {"file_name": str(tmp_path / "a.png"), "height": height, "width": width}
    mapped = NamingDatasetMapper(trained.cfg, is_train=False)({**record, "image_id": 1})
    assert mapped["image"].shape[0] == 1
    with torch.no_grad():
        (theirs,) = trained.model([mapped])
    ours = trained(str(tmp_path / "a.png")).instances
    assert len(ours) > 0 and torch.equal(ours.scores, theirs["instances"].scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, "score_threshold is 1.5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"backend": "fast"}, "no backend 'fast'; choose from"),
        ({"classes": ["ant", "bee"]}, "NUM_CLASSES is 3, but DATASETS.CLASSES has 2"),
        ({"opts": ["INPUT.FORMAT", "L"]}, "INPUT.FORMAT is 'L'"),
        ({"device": "gpu"}, "device is 'gpu'; choose auto, cpu, cuda, or cuda:1"),
        ({"opts": ["MODEL.DEVICE", "gpu"]}, "device is 'gpu'"),
        ({"device": "cpu", "opts": ["MODEL.DEVICE", "cpu"]}, "device and MODEL.DEVICE in opts"),
        ({"weights": "a.pth", "opts": ["MODEL.WEIGHTS", "b.pth"]}, "weights and MODEL.WEIGHTS in"),
        (
            {"score_threshold": 0.5, "opts": ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.1]},
            "score_threshold and MODEL.ROI_HEADS.SCORE_THRESH_TEST in opts both",
        ),
        (
            {"classes": ["a"] * 3, "opts": ["DATASETS.CLASSES", ["b"] * 3]},
            "classes and DATASETS.CLASSES in opts both",
        ),
    ],
)
def test_refuses_values_out_of_range(run, options, message):
    with pytest.raises(ValueError, match=message):
        Predictor(run, **options)


@pytest.mark.parametrize(
    ("opts", "message"), [(["MODEL.MASK_ONN", True], "MASK_ONN"), (["MODEL.MASK_ON"], "in pairs")]
)
def test_refuses_wrong_keys_for_a_config_too(predictor, opts, message):
    with pytest.raises(ValueError, match=message):
        Predictor(predictor.cfg, opts=opts)


def test_opts_go_before_what_belongs_to_the_model(run):
    opts = ["MODEL.WEIGHTS", "b.pth", "MODEL.DEVICE", "meta"]
    cfg = prediction_config(run, weights=None, device="auto", score_threshold=None, opts=opts)
    assert (cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE) == ("b.pth", "meta")


def test_refuses_what_is_no_detector(tmp_path):
    with pytest.raises(
        ValueError, match="no detector, config or run 'mask_rcnn_s51'; close names: mask"
    ):
        Predictor("mask_rcnn_s51")
    with pytest.raises(FileNotFoundError, match="folder without config.yaml; give the OUTPUT_DIR"):
        Predictor(tmp_path)
    for name in ("a.pth", "a.onnx", "a.png", "a"):
        (tmp_path / name).write_bytes(b"\x89")
    with pytest.raises(FileNotFoundError, match=r"no config.yaml beside the checkpoint .*/a\.pth;"):
        Predictor(tmp_path / "a.pth")
    for name in ("a.onnx", "a.png", "a"):
        with pytest.raises(ValueError, match=f"/{name} is neither a config .* nor a checkpoint"):
            Predictor(tmp_path / name)
    with pytest.raises(ValueError, match="no weights to predict with"):
        Predictor(CONFIG, opts=["MODEL.WEIGHTS", ""])
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device is 'cuda', but torch finds no CUDA"):
            Predictor(CONFIG, device="cuda")
