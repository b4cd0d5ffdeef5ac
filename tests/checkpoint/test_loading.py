import hashlib
import io
import logging

import published
import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone, build_model
from torch import nn

from resnest_d2.checkpoint import ReportingCheckpointer, convert, origins
from resnest_d2.model_zoo import table


class Detector(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.roi_heads = nn.ModuleDict({"box_predictor": nn.Linear(4, classes + 1)})


def save(path, weights):
    torch.save(weights, path)
    return str(path)


@pytest.fixture
def checkpointer():
    return ReportingCheckpointer(Detector())


def test_complete(checkpointer, tmp_path):
    other = Detector()
    path = save(tmp_path / "a.pth", {"model": other.state_dict()})
    checkpointer.load(path)
    report = checkpointer.report
    assert report.complete and str(report) == f"{path}: 8 tensors loaded."
    assert torch.equal(checkpointer.model.backbone[0].weight, other.backbone[0].weight)


def test_bare_weights_without_counters(checkpointer, tmp_path):
    weights = {k: v for k, v in Detector().state_dict().items() if "num_batches" not in k}
    checkpointer.load(save(tmp_path / "a.pth", weights))
    assert checkpointer.report.complete and checkpointer.report.num_loaded == 8


def test_backbone_alone_is_incomplete(checkpointer, tmp_path):
    weights = {k: v for k, v in Detector().state_dict().items() if k.startswith("backbone")}
    checkpointer.load(save(tmp_path / "a.pth", {**weights, "fc.weight": torch.zeros(1)}))
    report = checkpointer.report
    assert not report.complete and report.num_loaded == 6
    assert "2 missing in the file (roi_heads.box_predictor 2)" in str(report)
    assert "1 of the file unused (fc 1)" in str(report)


def test_other_number_of_classes_is_one_line(checkpointer, tmp_path, caplog):
    caplog.set_level("INFO")
    before = checkpointer.model.roi_heads["box_predictor"].weight.clone()
    checkpointer.load(save(tmp_path / "a.pth", {"model": Detector(80).state_dict()}))
    assert torch.equal(checkpointer.model.roi_heads["box_predictor"].weight, before)
    assert checkpointer.report.missing == () and not checkpointer.report.complete
    lines = [r.message for r in caplog.records if "re-initialised" in r.message]
    assert len(lines) == 1 and "(81, 4) in the file, (4, 4) here and 1 more" in lines[0]
    assert not [r for r in caplog.records if r.levelname == "WARNING"]


def test_another_model_is_refused(checkpointer, tmp_path):
    path = save(tmp_path / "a.pth", {"layer1.weight": torch.zeros(2)})
    with pytest.raises(ValueError, match="another model: not one of its 1 tensors.*layer1.weight"):
        checkpointer.load(path)


def test_statistics_of_frozen_norms_are_missing_with_the_norm(tmp_path):
    """detectron2 fills them in where a file has none, and reports nothing."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), FrozenBatchNorm2d(4), FrozenBatchNorm2d(4))
    checkpointer = ReportingCheckpointer(model)
    with pytest.raises(ValueError, match="another model: not one of its 1 tensors"):
        checkpointer.load(save(tmp_path / "a.pth", {"b.weight": torch.zeros(2)}))
    weights = {n: v for n, v in model.state_dict().items() if not n.startswith("1.")}
    checkpointer.load(save(tmp_path / "b.pth", weights))
    norm = ("weight", "bias", "running_mean", "running_var")
    assert set(checkpointer.report.missing) == {f"1.{name}" for name in norm}
    del weights["2.running_mean"], weights["2.running_var"]  # early files: statistics folded in
    checkpointer.load(save(tmp_path / "c.pth", weights))
    assert not any(name.startswith("2.") for name in checkpointer.report.missing)


def test_code_in_a_checkpoint_is_refused(checkpointer, tmp_path):
    torch.save({"model": Detector().state_dict(), "extra": print}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="a.pth is refused: to be read it asks for"):
        checkpointer.load(str(tmp_path / "a.pth"))
    # and the next load works
    checkpointer.load(save(tmp_path / "b.pth", {"model": Detector().state_dict()}))
    assert checkpointer.report.complete


def load(cfg, path, **keys):
    """Load a file into the config's backbone."""
    for key, value in keys.items():
        cfg.MODEL.RESNETS[key] = value
    checkpointer = ReportingCheckpointer(build_backbone(cfg))
    checkpointer.load(str(path))
    return checkpointer


def test_another_depth_is_refused_with_the_key_to_set(cfg, tmp_path):
    path = save(tmp_path / "a.pth", published.fill(published.imagenet(101)))
    with pytest.raises(
        ValueError,
        match=r"a.pth has the \(3, 4, 23, 3\) blocks of depth 101, this model the "
        r"\(1, 1, 1, 1\) of depth 14; set MODEL.RESNETS.DEPTH 101 and STEM_OUT_CHANNELS 128",
    ):
        load(cfg, path)


def test_a_plain_resnet_is_refused(cfg, tmp_path):
    cfg.MODEL.RESNETS.RADIX = 0
    path = save(tmp_path / "a.pth", {"model": build_backbone(cfg).state_dict()})
    with pytest.raises(ValueError, match="a.pth is a plain ResNet.*set MODEL.RESNETS.RADIX 0"):
        load(cfg, path, RADIX=2)
    assert load(cfg, path, RADIX=0).report.complete  # where it is wanted


def test_classes_are_counted(rcnn_cfg, tmp_path):
    def checkpointer(classes):
        rcnn_cfg.MODEL.ROI_HEADS.NUM_CLASSES = classes
        return ReportingCheckpointer(build_model(rcnn_cfg))

    path = save(tmp_path / "a.pth", {"model": checkpointer(80).model.state_dict()})
    three = checkpointer(3)
    three.load(path)
    assert "80 classes there, 3 here" in str(three.report)
    assert not three.report.complete and three.report.missing == ()


@pytest.mark.parametrize("layout", ["torch", "detectron2", "mmdetection"])
def test_any_layout_loads_as_it_is(layout, rcnn_cfg, tmp_path):
    torch.manual_seed(0)
    model = build_model(rcnn_cfg)
    weights = convert(model.state_dict(), to=layout).weights
    fresh = ReportingCheckpointer(build_model(rcnn_cfg))
    fresh.load(save(tmp_path / "a.pth", {"state_dict": weights}))
    backbone = "backbone.bottom_up."
    for name, value in fresh.model.state_dict().items():
        if layout != "torch" or name.startswith(backbone):
            assert torch.equal(value, model.state_dict()[name]), name
    assert fresh.report.complete is (layout != "torch")


def test_missing_file(checkpointer):
    with pytest.raises(FileNotFoundError, match="nowhere.pth does not exist"):
        checkpointer.load("nowhere.pth")


def test_address_that_cannot_be_fetched(checkpointer, monkeypatch):
    once = {**origins.fetch.__kwdefaults__, "attempts": 1}
    monkeypatch.setattr(origins.fetch, "__kwdefaults__", once)
    with pytest.raises(OSError, match="^http://127.0.0.1:9/a.pth cannot be fetched.*D2_WEIGHTS to"):
        checkpointer.load("http://127.0.0.1:9/a.pth")


def test_nothing_to_load(checkpointer):
    checkpointer.load("")
    assert checkpointer.report is None


@pytest.mark.parametrize("inside", ["", "backbone.bottom_up."])
def test_another_stem_is_refused_like_another_depth(inside, cfg, tmp_path):
    def weights(channels):
        cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = channels
        return build_backbone(cfg).state_dict()

    theirs = {inside + name: value for name, value in weights(32).items()}
    path = save(tmp_path / "a.pth", {"model": theirs})
    weights(64)
    with pytest.raises(ValueError, match="stem of 32 channels, this model one of 64; set .* 32"):
        ReportingCheckpointer(build_backbone(cfg)).load(path)


def kept(weights_cache):
    return sorted(p.name for p in weights_cache.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_a_plain_address_is_fetched_once_and_its_hash_is_checked(
    checkpointer, server, tmp_path, weights_cache
):
    data = open(save(tmp_path / "a.pth", checkpointer.model.state_dict()), "rb").read()
    name = f"a-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    server.files |= {name: data, "a-01234567.pth": data, "a.pth": data}
    for _ in range(2):
        checkpointer.load(server.address(name))
        assert checkpointer.report.complete
    assert server.asked == [(name, None)]
    with pytest.raises(ValueError, match="a-01234567.pth is corrupt|must begin 01234567"):
        checkpointer.load(server.address("a-01234567.pth"))
    checkpointer.load(server.address("a.pth?matching_heuristics=True"))  # of detectron2
    assert server.asked[-1] == ("a.pth", None)
    assert len(kept(weights_cache)) == 2 and not list(weights_cache.rglob("*.download*"))


@pytest.mark.parametrize("address", ["{}", "resnest+{}"])
@pytest.mark.parametrize("content", [b"<html>Log in</html>", b"", b'{"error": "log in"}'])
def test_what_is_no_checkpoint_is_not_kept(address, content, checkpointer, server, weights_cache):
    server.files["a.pth"] = content
    with pytest.raises(ValueError, match="/a.pth is not a checkpoint of torch, but "):
        checkpointer.load(address.format(server.address("a.pth")))
    assert kept(weights_cache) == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ftp://127.0.0.1:9/a.pth", "ftp://127.0.0.1:9/a.pth is no http or https address"),
        ("catalog://ImageNetPretrained/MSRA/R-50", "R-50.pkl is a pickle, which can run any code"),
        ("detectron2://a/model_final.pkl", "model_final.pkl is a pickle"),
        ("https://127.0.0.1:9/a.pkl?b=c", "a.pkl is a pickle"),
        ("https://127.0.0.1:9/a.pyth", "a.pyth is a pickle"),
        ("https:///a.pth", "'https:///a.pth' is no http or https address"),
        ("resnest+https:///a.pth", "a.pth' is no http or https address"),
        ("https://[::/a.pth", "'https://.::/a.pth' is no address"),
        ("https://a/\x1b.pth", r"'https://a/.x1b.pth' is no http or https address"),
    ],
)
def test_addresses_that_are_not_asked(address, words, checkpointer, weights_cache):
    with pytest.raises(ValueError, match=words):
        checkpointer.load(address)


def test_names_in_addresses_stay_in_the_cache(checkpointer, server, tmp_path, weights_cache):
    data = open(save(tmp_path / "a.pth", checkpointer.model.state_dict()), "rb").read()
    up, long = "..%2F..%2F..%2Fb.pth", "d" * 500 + ".pth"
    for name in (up, "%2e%2e", "%0a%1b%5b2Jc.pth", "%e2%80%aee.pth", long, "x%00.pth"):
        server.files[name] = data
        checkpointer.load(server.address(name))
    folders = {path.parent.name for path in tmp_path.rglob("*.pth") if path.name != "a.pth"}
    assert folders == {"resnest_d2-v1"}
    assert all(len(name) < 200 and name.isprintable() for name in kept(weights_cache))


@pytest.mark.parametrize("old", ["http://download.old.org/models/{}", "https://s3.old.org/{}?v=1"])
def test_old_addresses_of_published_files(old, server, weights_cache, monkeypatch, cfg, caplog):
    net = build_backbone(cfg)
    file = io.BytesIO()
    torch.save(published.fill(published.imagenet(14)), file)
    name = f"net+1-{hashlib.sha256(file.getvalue()).hexdigest()[:8]}.pth"
    server.files[name.replace("+", "%2B")] = file.getvalue()
    address = server.address(name.replace("+", "%2B"))
    row = table.Model("imagenet/net", "backbone", 14, {}, address, "authors")
    monkeypatch.setattr(table, "models", lambda: (row,))
    with caplog.at_level(logging.INFO):
        ReportingCheckpointer(net).load(old.format(name))
    assert "is published, and loaded as resnest://imagenet/net." in caplog.text
    assert len(server.asked) == 1
