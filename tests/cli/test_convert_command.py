import published
import pytest
import torch

from resnest_d2.checkpoint import read_checkpoint


@pytest.fixture
def run(resnest_d2):
    """A function that runs the command: exit code, standard output, standard error."""

    def call(*arguments):
        done = resnest_d2("convert", *arguments)
        return done.exit_code, done.stdout, done.stderr

    return call


def test_converts_checks_and_reports(run, tmp_path):
    source = published.save(tmp_path / "a.pth", "faster_rcnn_s50")
    target = tmp_path / "b.pth"
    config = "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml"
    code, out, err = run(source, target, "--config", config)
    assert code == 0, err
    number = len(published.detector("faster_rcnn_s50"))
    assert f"ResNeSt-50 from mmdetection layout to detectron2: {number} tensors" in out
    assert "0 unused, 0 missing" in out
    assert "roi_heads.box_head.fc1.weight" in read_checkpoint(target)["model"]


def test_what_is_left_out_is_listed(run, tmp_path):
    torch.save(published.fill(published.imagenet(14)), tmp_path / "a.pth")
    code, out, err = run(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert code == 0, err
    assert "  unused: fc.weight\n  unused: fc.bias\n" in out
    assert "res5.0.conv3.weight" in read_checkpoint(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("COCO-InstanceSegmentation/mask_rcnn_ResNeSt_50_FPN_1x.yaml", "does not fit"),
        ("COCO-Detection/faster_rcnn_ResNeSt_101_FPN_1x.yaml", "set MODEL.RESNETS.DEPTH 50"),
    ],
)
def test_another_config_is_refused(config, message, run, tmp_path):
    source = published.save(tmp_path / "a.pth", "faster_rcnn_s50")
    code, out, err = run(source, tmp_path / "b.pth", "--config", config)
    assert code == 1 and message in err
    assert not (tmp_path / "b.pth").exists()


def test_a_mistake_is_a_sentence(run, tmp_path):
    (tmp_path / "a.pth").write_text("text")
    code, out, err = run(tmp_path / "a.pth", tmp_path / "b.pth")
    assert code == 1 and err.startswith("resnest-d2: ")
    assert "a.pth is not a checkpoint of torch" in err


@pytest.mark.parametrize("target", ["a.pth", "./sub/../a.pth", "soft.pth", "hard.pth"])
def test_the_source_is_never_replaced(target, run, tmp_path):
    source = published.save(tmp_path / "a.pth", "faster_rcnn_s50")
    (tmp_path / "sub").mkdir()
    (tmp_path / "soft.pth").symlink_to(source)
    (tmp_path / "hard.pth").hardlink_to(source)
    before = source.read_bytes()
    code, _, err = run(source, f"{tmp_path}/{target}", "--overwrite")
    assert code == 1 and "an input, which is never changed" in err
    assert source.read_bytes() == before


def test_another_target_is_replaced_only_if_asked(run, tmp_path):
    torch.save(published.fill(published.imagenet(14)), tmp_path / "a.pth")
    (tmp_path / "b.pth").write_text("mine")
    code, _, err = run(tmp_path / "a.pth", tmp_path / "b.pth")
    assert code == 1 and "b.pth exists; give another output or ask to overwrite it" in err
    assert (tmp_path / "b.pth").read_text() == "mine"
    code, _, err = run(tmp_path / "a.pth", tmp_path / "b.pth", "--overwrite")
    assert code == 0, err
    assert "model" in read_checkpoint(tmp_path / "b.pth")
