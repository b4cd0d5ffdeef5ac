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


def a_loop(content):
    content["model"]["state"] = content


def a_ladder(content):
    for _ in range(100):
        content["more"] = content = {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (a_loop, "a.pth is no checkpoint: its contents contain themselves"),
        (lambda c: c.update(model=c), "contain themselves"),
        (lambda c: c.update(more=[c]), "contain themselves"),
        (a_ladder, "a.pth is no checkpoint: it is nested 50 levels deep"),
    ],
)
def test_contents_without_an_end(change, message, tmp_path):
    content = {"model": {"a.weight": torch.zeros(2)}}
    change(content)
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "a.pth")


def test_contents_that_occur_twice_are_no_loop(tmp_path):
    shared = {"lr": [0.1]}
    for _ in range(30):  # 2**30 paths lead to its end
        shared = {"a": shared, "b": shared}
    torch.save({"model": {"a.weight": torch.zeros(2)}, "more": shared}, tmp_path / "a.pth")
    assert list(find_weights(read_checkpoint(tmp_path / "a.pth"), "a.pth")) == ["a.weight"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a.weight", torch.tensor([1.0, float("nan")]), "a.weight has values that are infinite or"),
        ("a.running_var", torch.tensor([float("inf")]).half(), "a.running_var has values that are"),
        ("a.weight", torch.ones(2, dtype=torch.complex64), "a.weight has complex numbers"),
        ("a.bias", torch.ones(2, dtype=torch.int64), r"a.bias has integers \(torch.int64\)"),
        ("a.bias", torch.ones(2, dtype=torch.bool), "a.bias has integers"),
        ("weight", torch.ones(2, 2).to_sparse(), "weight is sparse"),
        ("weight", torch.quantize_per_tensor(torch.ones(2), 1, 0, torch.qint8), "weight is quanti"),
    ],
)
def test_weights_that_no_detector_has(name, value, message, tmp_path):
    torch.save({"model": {name: value, "ids": torch.arange(3)}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=f"a.pth cannot be used: {message}"):
        find_weights(read_checkpoint(tmp_path / "a.pth"), "a.pth")
    torch.save({"model": {name: torch.ones(2).bfloat16(), "ids": value}}, tmp_path / "a.pth")
    assert len(find_weights(read_checkpoint(tmp_path / "a.pth"), "a.pth")) == 2
