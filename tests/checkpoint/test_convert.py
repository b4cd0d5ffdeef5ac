import published
import pytest
import torch
from detectron2.modeling import build_model

from resnest_d2.checkpoint import convert, convert_file, find_weights, read_checkpoint
from resnest_d2.modeling import ResNeSt

MMDET = published.fill(published.mmdetection(14, cascade=True, mask=True))
TORCH = published.fill(published.imagenet(14))


def numbered(shapes):
    """A different tensor for every name."""
    return {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(shapes.items())}


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_detector_there_and_back():
    theirs = numbered(published.mmdetection(14, cascade=True, mask=True))
    ours = convert(theirs)
    assert (ours.depth, ours.unused, ours.missing) == (14, (), ())
    assert ours.renamed == len(theirs) == len(ours.weights)
    back = convert(ours.weights, to="mmdetection")
    assert_same(back.weights, theirs)


def test_a_trained_detector_there_and_back(rcnn_cfg, tmp_path):
    torch.manual_seed(0)
    model = build_model(rcnn_cfg)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    torch.save({"model": model.state_dict(), "iteration": 7}, tmp_path / "a.pth")
    there = convert_file(tmp_path / "a.pth", tmp_path / "mm.pth", to="mmdetection")
    stored = read_checkpoint(tmp_path / "mm.pth")
    assert set(stored) == {"meta", "state_dict"}
    assert "roi_head.mask_head.convs.0.bn.weight" in stored["state_dict"]
    assert there.renamed == len(model.state_dict())
    convert_file(tmp_path / "mm.pth", tmp_path / "b.pth")
    assert_same(find_weights(read_checkpoint(tmp_path / "b.pth"), ""), model.state_dict())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_backbone_there_and_back(suffix, tmp_path):
    ours = numbered({k: v.shape for k, v in ResNeSt(14).state_dict().items()})
    torch.save(ours, tmp_path / "a.pth")
    path = tmp_path / f"timm{suffix}"
    convert_file(tmp_path / "a.pth", path, to="timm")
    theirs = read_checkpoint(path)
    assert set(theirs) == {n for n in TORCH if not n.startswith("fc.")}
    convert_file(path, tmp_path / "b.pth")
    assert_same(find_weights(read_checkpoint(tmp_path / "b.pth"), ""), ours)


def test_of_a_detector_the_backbone_alone():
    detector = convert(MMDET).weights
    backbone = convert(detector, to="timm")
    assert set(backbone.weights) == {n for n in TORCH if not n.startswith("fc.")}
    heads = [n for n in detector if not n.startswith("backbone.bottom_up.")]
    assert set(backbone.unused) == set(heads)
    assert f"{len(heads)} unused" in str(backbone)


def test_timm_computes_the_same(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = ResNeSt(14, out_features=["res5"])
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
        elif name.endswith("running_mean"):
            torch.nn.init.normal_(buffer, std=0.1)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    path = str(tmp_path / "timm.safetensors")
    convert_file(tmp_path / "a.pth", path, to="timm")
    theirs = timm.create_model("resnest14d", num_classes=0, checkpoint_path=path).eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        ours = net.eval()(x)["res5"]
        torch.testing.assert_close(theirs.forward_features(x), ours)
        torch.testing.assert_close(theirs(x), ours.mean((2, 3)))


def test_imagenet_files_lose_their_classifier_alone():
    ours = convert(TORCH)
    assert ours.unused == ("fc.weight", "fc.bias") and ours.missing == ()
    assert ours.weights.keys() == ResNeSt(14).state_dict().keys()


def test_missing_names_are_reported():
    part = {k: v for k, v in TORCH.items() if k != "layer2.0.conv3.weight"}
    assert convert(part).missing == ("res3.0.conv3.weight",)
    assert "1 missing (res3.0.conv3.weight)" in str(convert(part))


def changed(weights, **more):
    return {**weights, **{name.replace("__", "."): torch.ones(1) for name in more}}


@pytest.mark.parametrize(
    ("weights", "to", "message"),
    [
        (
            changed(MMDET, neck__extra__weight=1),
            "detectron2",
            r"x.pth is in mmdetection layout, but 1 of its \d+ names do not belong to it: neck.ex",
        ),
        ({"a": torch.ones(1)}, "detectron2", "x.pth is no ResNeSt in a layout known here.*like a"),
        (
            {"conv1.weight": torch.ones(1), "layer1.0.conv1.weight": torch.ones(1)},
            "detectron2",
            "x.pth is a plain ResNet",
        ),
        (
            {k: v for k, v in TORCH.items() if "conv2.fc" not in k},
            "detectron2",
            "x.pth is a plain ResNet: its blocks have no split attention",
        ),
        (
            {k: v for k, v in TORCH.items() if "layer4" not in k},
            "detectron2",
            r"x.pth has \(1, 1, 1, 0\) blocks in its stages, which no ResNeSt has.*incomplete",
        ),
        (
            published.fill(published.authors(14, deformable=True)),
            "mmdetection",
            "x.pth cannot be written in mmdetection layout, .* for 6 of .*res3.0.conv2_offset",
        ),
    ],
    ids=["leftover", "unknown", "torchvision", "no attention", "cut off", "deformable"],
)
def test_refused(weights, to, message):
    with pytest.raises(ValueError, match=message):
        convert(weights, to=to, origin="x.pth")


def test_nothing_is_left_of_a_failed_conversion(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="a.pth is no ResNeSt"):
        convert_file(tmp_path / "a.pth", tmp_path / "b.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


def test_nothing_is_replaced_unasked(tmp_path):
    torch.save(published.fill(published.imagenet(14)), tmp_path / "a.pth")
    (tmp_path / "b.pth").write_text("mine")
    before = (tmp_path / "a.pth").read_bytes()
    with pytest.raises(ValueError, match="a.pth is an input, which is never changed"):
        convert_file(tmp_path / "a.pth", tmp_path / "a.pth", overwrite=True)
    with pytest.raises(FileExistsError, match="b.pth exists"):
        convert_file(tmp_path / "a.pth", tmp_path / "b.pth")
    assert (tmp_path / "a.pth").read_bytes() == before
    assert (tmp_path / "b.pth").read_text() == "mine"
