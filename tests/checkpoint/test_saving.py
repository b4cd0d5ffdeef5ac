import collections
import resource
import signal

import pytest
import torch
from torch import nn

from resnest_d2.checkpoint import ReportingCheckpointer
from resnest_d2.files import WriteError, whole_file


@pytest.fixture
def small_files():
    """Files may have no more than 20 kB, as if the disk were full then."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_file_is_whole_or_as_before(tmp_path):
    path = tmp_path / "file"
    for text in ("one", "two"):
        with whole_file(str(path), "w") as file:
            file.write(text)
    with pytest.raises(KeyError), whole_file(str(path), "w") as file:
        file.write("three")
        raise KeyError
    assert path.read_text() == "two" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, small_files):
    model = nn.Linear(10, 10)
    checkpointer = ReportingCheckpointer(model, str(tmp_path))
    checkpointer.save("model_0")
    before = (tmp_path / "model_0.pth").read_bytes()
    checkpointer.model = nn.Linear(100, 100)
    for name in ("model_1", "model_0"):
        with pytest.raises(WriteError, match=r"File too large.*MB free.*--resume"):
            checkpointer.save(name)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0.pth"
    assert (tmp_path / "model_0.pth").read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"model_0.pth", "last_checkpoint"}


def test_a_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(WriteError, match="gone/file cannot be written"):
        with whole_file(str(tmp_path / "gone" / "file")):
            pass


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_saved(value, tmp_path):
    model = nn.BatchNorm1d(3)
    checkpointer = ReportingCheckpointer(model, str(tmp_path), extra=nn.Linear(1, 1))
    checkpointer.save("model_0")
    assert set(torch.load(tmp_path / "model_0.pth", weights_only=True)) == {"model", "extra"}
    model.running_var[1] = value
    with pytest.raises(FloatingPointError, match="running_var became infinite or NaN"):
        checkpointer.save("model_1")
    assert (tmp_path / "last_checkpoint").read_text() == "model_0.pth"


class Signalling:
    """Stops the program while it is saved, and is saved as an empty dictionary."""

    def __reduce__(self):
        signal.raise_signal(signal.SIGINT)
        return (collections.OrderedDict, ())


def test_a_signal_waits_until_the_checkpoint_is_whole_and_tagged(tmp_path):
    checkpointer = ReportingCheckpointer(nn.Linear(2, 2), str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("model_0", extra=Signalling())
    assert (tmp_path / "last_checkpoint").read_text() == "model_0.pth"
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save_weights(str(tmp_path / "model_best.pth"), extra=Signalling())
    for name in ("model_0.pth", "model_best.pth"):
        saved = torch.load(tmp_path / name, weights_only=True)
        assert torch.equal(saved["model"]["bias"], checkpointer.model.bias) and saved["extra"] == {}
