import pickle

import pytest
import torch
from torch import nn

from resnest_d2.checkpoint import ReportingCheckpointer


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


class Evil:
    def __reduce__(self):
        return (open, ("evil_was_here", "w"))


def test_code_in_a_checkpoint_does_not_run(checkpointer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Detector().state_dict(), "extra": Evil()}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="a.pth is not a checkpoint that can be read safely"):
        checkpointer.load(str(tmp_path / "a.pth"))
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"model": Evil()}))
    with pytest.raises(ValueError, match="b.pkl is a pickle"):
        checkpointer.load(str(tmp_path / "b.pkl"))
    assert not (tmp_path / "evil_was_here").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_broken_file(content, checkpointer, tmp_path):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ValueError, match="a.pth is not a checkpoint"):
        checkpointer.load(str(tmp_path / "a.pth"))
    # and the next load works
    checkpointer.load(save(tmp_path / "b.pth", {"model": Detector().state_dict()}))
    assert checkpointer.report.complete


@pytest.mark.parametrize("content", [[1, 2], {}, {"model": []}])
def test_no_tensors(content, checkpointer, tmp_path):
    with pytest.raises(ValueError, match="no dictionary of tensors"):
        checkpointer.load(save(tmp_path / "a.pth", content))


def test_missing_file(checkpointer):
    with pytest.raises(FileNotFoundError, match="nowhere.pth does not exist"):
        checkpointer.load("nowhere.pth")


def test_address_that_cannot_be_fetched(checkpointer):
    with pytest.raises(OSError, match="127.0.0.1:9/a.pth cannot be fetched.*MODEL.WEIGHTS"):
        checkpointer.load("http://127.0.0.1:9/a.pth")


def test_nothing_to_load(checkpointer):
    checkpointer.load("")
    assert checkpointer.report is None
