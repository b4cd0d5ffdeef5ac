import hashlib
import sys
from pathlib import Path

import published
import pytest
import torch

from resnest_d2 import model_zoo
from resnest_d2.checkpoint import WeightsOrigin
from resnest_d2.model_zoo import find_model, get_config, list_configs, list_models, models, table
from resnest_d2.model_zoo.table import published_at

ROOT = Path(__file__).parents[2]
DETECTORS = [m.id for m in models() if not m.is_backbone]
AUTHORS = "faster_rcnn_ResNeSt_50_FPN_syncbn_range-scale_1x"
sys.path.insert(0, str(ROOT / "tools"))


def test_the_table_is_whole():
    assert set(DETECTORS) == set(published.DETECTORS) and len(DETECTORS) == 8 + 13
    names = [name for m in models() for name in (m.id, *m.aliases)]
    assert len(names) == len(set(names))
    for model in models():
        if model.source != "timm":
            assert model.weights.startswith("https://")
            assert model.origin.hash_head == model.sha256
        if not model.is_backbone:
            assert model.config in list_configs()
            assert f"_{model.depth}_" in model.config
            assert model.box_ap > 42 - 0.1 or model.depth == 50
            assert (model.mask_ap is None) is (model.task == "detection")


def test_every_training_config_names_its_imagenet_weights():
    for name in list_configs():
        cfg = get_config(name)
        if name.startswith("quick_schedules"):
            assert cfg.MODEL.WEIGHTS == ""  # from scratch, without a network
            continue
        start = find_model(cfg.MODEL.WEIGHTS.removeprefix("resnest://"))
        assert start.is_backbone and start.depth == cfg.MODEL.RESNETS.DEPTH
        for key, value in start.config.items():
            assert cfg.MODEL.RESNETS[key] == value


def test_listing():
    assert list_models(task="panoptic segmentation") == [
        "panoptic_ResNeSt_200_FPN_syncBN_tricks_3x"
    ]
    assert "faster_rcnn_s50" in list_models(task="detection", depth=50)
    assert list_models(depth=269) == ["imagenet/resnest269", "timm/resnest269e"]
    assert len(list_models(task="backbone")) == 4 + 3 + 8
    with pytest.raises(ValueError, match="No published model has depth 34; choose.*50"):
        list_models(depth=34)


@pytest.mark.parametrize(
    "alias",
    [
        "faster_rcnn_s50",
        "faster_rcnn_s50_fpn_syncbn-backbone+head_mstrain-range_1x_coco",
        "faster_rcnn_s50_fpn_syncbn-backbone+head_mstrain-range_1x_coco_20200926_125502-20289c16.pth",
        "faster_rcnn_ResNeSt_50_FPN_1x",
        "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml",
    ],
)
def test_aliases(alias):
    cfg = get_config(alias, trained=True)
    assert cfg.MODEL.WEIGHTS == "resnest://faster_rcnn_s50"
    assert get_config(alias).MODEL.WEIGHTS == "resnest://imagenet/resnest50_detectron"


def test_the_authors_names():
    name = "mask_cascade_rcnn_ResNeSt_50_FPN_syncBN_1x"
    for alias in (name, f"{name}-c58bd325", f"{name}-c58bd325.pth"):
        assert find_model(alias).config.endswith("cascade_mask_rcnn_ResNeSt_50_FPN_syncbn_1x.yaml")


def test_what_cannot_be_had():
    with pytest.raises(ValueError, match="imagenet/resnest50 is a backbone, not a detector"):
        get_config("imagenet/resnest50")
    with pytest.raises(ValueError, match="no published model 'quick_schedules/faster"):
        get_config("quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml", trained=True)
    with pytest.raises(ValueError, match="no published model 'faster_rcnn_s5'; close.*rcnn_s50"):
        get_config("faster_rcnn_s5")
    with pytest.raises(FileNotFoundError, match="no config file faster_rcnn_s5.yaml"):
        get_config("faster_rcnn_s5.yaml")


@pytest.mark.parametrize("name", DETECTORS)
def test_every_published_file_fits_its_config(name, tmp_path, weights_cache):
    from resnest_d2.checkpoint.fitting import build_on_meta, fit

    path = published.save(tmp_path / "published.pth", name)
    for address in (str(path), f"resnest+file://{path}"):
        report = fit(address, build_on_meta(get_config(name)))
        assert report.complete and not report.unused
        assert report.num_loaded == sum("num_batches" not in n for n in published.detector(name))


@pytest.fixture
def on_the_server(server, tmp_path, monkeypatch, weights_cache):
    """A function that puts a detector's file on the server and its address into the table."""

    def publish(name):
        data = published.save(tmp_path / "published.pth", name).read_bytes()
        file = f"published-{hashlib.sha256(data).hexdigest()[:8]}.pth"
        server.files[file] = data
        row = find_model(name)._replace(weights=server.address(file))
        monkeypatch.setattr(table, "models", lambda: (row,))

    return publish


@pytest.mark.parametrize(
    ("id", "alias"),
    [
        ("faster_rcnn_s50", "faster_rcnn_ResNeSt_50_FPN_1x"),
        (AUTHORS, "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_syncbn_1x.yaml"),
    ],
)
def test_get_trained(id, alias, on_the_server):
    on_the_server(id)
    model = model_zoo.get(alias, trained=True, device="cpu")
    assert model.training and model.device.type == "cpu"
    assert all(bool((p == 0.5).all()) for p in model.parameters())


def test_get_refuses_weights_that_do_not_fit(on_the_server, monkeypatch):
    on_the_server("faster_rcnn_s50")
    (row,) = table.models()
    row = row._replace(config=find_model_config("mask_rcnn_ResNeSt_50_FPN_1x"))
    monkeypatch.setattr(table, "models", lambda: (row,))
    with pytest.raises(ValueError, match="weights of faster_rcnn_s50 do not fit.*mask_head"):
        model_zoo.get("faster_rcnn_s50", trained=True, device="cpu")


def find_model_config(stem):
    return next(name for name in list_configs() if name.endswith(f"/{stem}.yaml"))


def test_model_zoo_md_is_up_to_date():
    from write_model_zoo import document

    text = (ROOT / "MODEL_ZOO.md").read_text()
    assert text == document(), "run tools/write_model_zoo.py"
    assert all(f"`{m.id}`" in text and m.weights in text for m in models())


def test_panoptic_trains_and_predicts():
    from detectron2.modeling import build_model
    from detectron2.structures import BitMasks, Boxes, Instances
    from detectron2.utils.events import EventStorage

    cfg = get_config("panoptic_ResNeSt_200_FPN_syncBN_tricks_3x")
    cfg.MODEL.DEVICE, cfg.MODEL.RESNETS.DEPTH, cfg.INPUT.MASK_FORMAT = "cpu", 14, "bitmask"
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    torch.manual_seed(0)
    model = build_model(cfg)
    truth = Instances((64, 96))
    truth.gt_boxes, truth.gt_classes = Boxes([[8.0, 8.0, 60.0, 50.0]]), torch.tensor([3])
    truth.gt_masks = BitMasks(torch.rand(1, 64, 96) > 0.5)
    image = {"image": torch.rand(3, 64, 96) * 255, "height": 64, "width": 96}
    ground = {"instances": truth, "sem_seg": torch.randint(0, 54, (64, 96))}
    with EventStorage():
        losses = model([{**image, **ground}] * 2)
    sum(losses.values()).backward()
    assert {"loss_sem_seg", "loss_mask", "loss_cls_stage2"} <= set(losses)
    with torch.no_grad():
        found = model.eval()([image])[0]
    assert found["sem_seg"].shape == (54, 64, 96)
    assert found["panoptic_seg"][0].shape == (64, 96)


@pytest.mark.parametrize("model", [m for m in models() if m.source != "timm"], ids=lambda m: m.id)
def test_published_files_are_known_by_their_addresses(model):
    """Over any protocol; from another place by a name with a hash alone."""
    place = model.weights.removeprefix("https://")
    assert published_at(model.weights) == published_at(f"http://{place}") == model.origin
    elsewhere = f"https://elsewhere.org/{place.rpartition('/')[2]}"
    hashed = WeightsOrigin(name=elsewhere, url=elsewhere).hash_head
    assert published_at(elsewhere) == (model.origin if hashed else None)
    assert published_at(f"{model.weights}.zip") is None
