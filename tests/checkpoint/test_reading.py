import argparse
import collections
import os
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from packaging.version import Version

from resnest_d2.checkpoint import find_weights, read_checkpoint

WEIGHTS = {"a.weight": torch.arange(3.0), "a.bias": torch.ones(1)}


def same(weights):
    return weights.keys() == WEIGHTS.keys() and all(
        torch.equal(weights[k], v) for k, v in WEIGHTS.items()
    )


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state", "ema", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_wrappers_and_prefixes(wrapper, prefix, tmp_path):
    weights = collections.OrderedDict((prefix + k, v) for k, v in WEIGHTS.items())
    torch.save({wrapper: weights, "epoch": 3} if wrapper else weights, tmp_path / "a.pth")
    assert same(find_weights(read_checkpoint(tmp_path / "a.pth"), "a.pth"))


def test_a_wrapper_in_a_wrapper(tmp_path):
    inner = {"model": {"module": 3, "state_dict": WEIGHTS}, "ema": {"a.bias": torch.zeros(1)}}
    torch.save(inner, tmp_path / "a.pth")
    assert same(find_weights(read_checkpoint(tmp_path / "a.pth"), "a.pth"))


@pytest.mark.skipif(
    Version(torch.__version__) < Version("2.6"), reason="torch 2.6 can allow a type by its name"
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "of 2020"])
def test_plain_types_beside_the_weights(zipped, tmp_path, monkeypatch):
    # mmengine's log, as its own checkpoints hold it
    module = types.ModuleType("mmengine.logging.history_buffer")
    history = type("HistoryBuffer", (), {"__module__": module.__name__})
    module.HistoryBuffer = history
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    log = history()
    log.values = np.arange(4.0)
    meta = {
        "epoch": 12,
        "time": "Mon",
        "CLASSES": ("person", "car"),
        "best": np.float64(0.42),
        "palette": np.zeros((2, 3), np.uint8),
        "args": argparse.Namespace(lr=0.1),
        "log": log,
    }
    path = tmp_path / "a.pth"
    content = {"meta": meta, "state_dict": collections.OrderedDict(WEIGHTS)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.delitem(sys.modules, name)  # the reader has no mmengine
    loaded = read_checkpoint(path)
    assert loaded["meta"]["CLASSES"] == ("person", "car") and loaded["meta"]["best"] == 0.42
    assert same(find_weights(loaded, path))


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    save_file(WEIGHTS, tmp_path / "a.safetensors")
    assert same(find_weights(read_checkpoint(tmp_path / "a.safetensors"), ""))
    (tmp_path / "b.safetensors").write_bytes(b"no header here, only text")
    with pytest.raises(ValueError, match="b.safetensors is not a readable safetensors file"):
        read_checkpoint(tmp_path / "b.safetensors")


class Evil:
    def __reduce__(self):
        return (os.system, ("touch evil_was_here",))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_named_and_does_not_run(zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": WEIGHTS, "meta": Evil()}
    torch.save(content, "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"a.pth is refused: .* asks for (posix|nt)\.system"):
        read_checkpoint("a.pth")
    with open("b.pth", "wb") as file:
        pickle.dump({"model": Evil()}, file)
    with pytest.raises(ValueError, match=r"b.pth is"):
        read_checkpoint("b.pth")
    with open("c.pkl", "wb") as file:
        pickle.dump({"model": Evil()}, file)
    with pytest.raises(ValueError, match="c.pkl is a pickle, which can run any code"):
        read_checkpoint("c.pkl")
    assert not os.path.exists("evil_was_here")


def test_an_archive_that_unpacks_to_more_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as plain:
        with zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed:
            for name in plain.namelist():
                packed.writestr(name, plain.read(name))
    assert (tmp_path / "b.pth").stat().st_size < 1 << 16
    with pytest.raises(ValueError, match=r"b.pth is refused: .* that unpacks to 419\d{4}; torch"):
        read_checkpoint(tmp_path / "b.pth")


def test_a_torchscript_program_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "a.pth")
    with pytest.raises(ValueError, match="a.pth is a TorchScript program, not a checkpoint"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.pth is empty"),
        (b"just some text", "a.pth is not a checkpoint of torch, but a file that begins b'just"),
        (b"\n<!DOCTYPE html>", "a.pth is not a checkpoint of torch, but a web page"),
        (b"PK\x03\x04 cut off", "a.pth is not a checkpoint that can be read safely; it is trunc"),
    ],
)
def test_no_checkpoint_at_all(content, message, tmp_path):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "a.pth")


def test_missing_file():
    with pytest.raises(FileNotFoundError, match="nowhere.pth does not exist"):
        read_checkpoint("nowhere.pth")


@pytest.mark.parametrize("content", [{"epoch": 3}, {"model": {}}, {}])
def test_no_tensors(content, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="a.pth holds no dictionary of tensors"):
        find_weights(read_checkpoint(tmp_path / "a.pth"), "a.pth")


def test_a_list_is_no_checkpoint(tmp_path):
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(ValueError, match="holds no dictionary of tensors, but list"):
        read_checkpoint(tmp_path / "a.pth")
