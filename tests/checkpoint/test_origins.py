"""Weights by name, file and address, through detectron2's PathManager."""

import hashlib
import io
import os
import subprocess
import sys

import published
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_backbone
from detectron2.utils.file_io import PathManager
from safetensors.torch import save_file

import resnest_d2  # noqa: F401 (registers the handler)
from resnest_d2.checkpoint import WeightsOrigin, origins
from resnest_d2.checkpoint.fetch import DownloadError
from resnest_d2.files import WriteError
from resnest_d2.model_zoo import table

WEIGHTS = {name: value + 0.25 for name, value in published.fill(published.imagenet(14)).items()}


def content(weights=WEIGHTS):
    file = io.BytesIO()
    torch.save(weights, file)
    return file.getvalue()


def hashed(data, stem="net"):
    return f"{stem}-{hashlib.sha256(data).hexdigest()[:8]}.pth"


@pytest.fixture
def published_net(server, monkeypatch):
    """A file on the server, which the zoo knows as imagenet/net."""
    data = content()
    name = hashed(data)
    server.files[name] = data
    row = table.Model("imagenet/net", "backbone", 14, {}, server.address(name), "authors")
    monkeypatch.setattr(table, "models", lambda: (row,))
    return name


def loads(path, cfg):
    """Whether stock detectron2 fills a backbone from there."""
    net = build_backbone(cfg)
    DetectionCheckpointer(net).load(path)
    return all(bool((p == 0.75).all()) for p in net.parameters())


def test_by_name_into_stock_detectron2(published_net, server, weights_cache, cfg):
    assert loads("resnest://imagenet/net", cfg)
    assert loads("resnest://imagenet/net", cfg) and len(server.asked) == 1  # kept
    kept = [p.name for p in (weights_cache / "resnest_d2-v1").iterdir() if p.suffix != ".lock"]
    assert kept == [published_net]  # converted; the download itself is gone
    # the names of the published file, too
    assert loads(f"resnest://{published_net}", cfg)
    assert loads(f"resnest://{published_net.removesuffix('.pth')}", cfg)


def test_open_and_exists(published_net, weights_cache):
    with PathManager.open("resnest://imagenet/net", "rb") as file:
        assert "stem.conv1_1.weight" in torch.load(file, weights_only=True)["model"]
    assert PathManager.isfile("resnest://imagenet/net")
    assert not PathManager.exists("resnest+file:///nowhere.pth")
    with pytest.raises(ValueError, match="can only be read"):
        PathManager.open("resnest://imagenet/net", "wb")


def test_unknown_name(weights_cache):
    with pytest.raises(ValueError, match="no published model 'faster_rcnn_s5'; close.*rcnn_s50"):
        PathManager.get_local_path("resnest://faster_rcnn_s5")


def test_a_corrupt_download_is_removed(server, weights_cache, cfg):
    name = hashed(content())
    server.files[name] = content()[:-7]
    with pytest.raises(ValueError, match="corrupt.*download was removed"):
        PathManager.get_local_path(f"resnest+{server.address(name)}")
    server.files[name] = content()
    assert loads(f"resnest+{server.address(name)}", cfg)


def test_a_cut_off_download_is_resumed(published_net, server, weights_cache, cfg, monkeypatch):
    monkeypatch.setattr(
        origins.fetch, "__kwdefaults__", {**origins.fetch.__kwdefaults__, "pause": 0}
    )
    server.cut[published_net] = 5000
    assert loads("resnest://imagenet/net", cfg)
    assert server.asked[1:] == [(published_net, "bytes=5000-")]


def test_four_processes_download_once(published_net, server, weights_cache):
    address = f"resnest+{server.address(published_net)}"
    code = f"""
import resnest_d2
from detectron2.utils.file_io import PathManager
import torch
weights = torch.load(PathManager.get_local_path({address!r}), weights_only=True)["model"]
print(weights["stem.conv1_1.weight"].flatten()[0].item())
"""
    running = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    printed = [process.communicate()[0].split()[-1] for process in running]
    assert printed == [b"0.75"] * 4 and len(server.asked) == 1


def test_offline_says_what_to_do(monkeypatch, weights_cache, tmp_path):
    monkeypatch.setattr(
        origins.fetch, "__kwdefaults__", {**origins.fetch.__kwdefaults__, "attempts": 1}
    )
    address = "http://127.0.0.1:9/some%2Bnet-01234567.pth"
    with pytest.raises(DownloadError) as error:
        PathManager.get_local_path(f"resnest+{address}")
    message = str(error.value)
    assert address in message and "put it as some+net-01234567.pth into a folder" in message
    assert "set RESNEST_D2_WEIGHTS to that folder" in message
    monkeypatch.setenv("RESNEST_D2_WEIGHTS", str(tmp_path))
    with pytest.raises(DownloadError, match=f"into the folder {tmp_path}"):
        PathManager.get_local_path(f"resnest+{address}")


@pytest.mark.parametrize("file", ["some+net", "some%2Bnet"])
def test_the_mirror_comes_first(file, monkeypatch, weights_cache, tmp_path, cfg):
    data = content()
    head = hashlib.sha256(data).hexdigest()[:8]
    (tmp_path / f"{file}-{head}.pth").write_bytes(data)
    monkeypatch.setenv("RESNEST_D2_WEIGHTS", str(tmp_path))
    assert loads(f"resnest+http://127.0.0.1:9/some%2Bnet-{head}.pth", cfg)


def test_a_corrupt_file_in_the_mirror_is_left_there(monkeypatch, weights_cache, tmp_path):
    (tmp_path / "net-01234567.pth").write_bytes(content())
    monkeypatch.setenv("RESNEST_D2_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match="net-01234567.pth is corrupt: .* must begin 01234567"):
        PathManager.get_local_path("resnest+http://127.0.0.1:9/net-01234567.pth")
    assert (tmp_path / "net-01234567.pth").exists()


def test_a_local_file_is_converted_once_for_its_content(weights_cache, tmp_path, cfg):
    path = tmp_path / "a b.pth"
    path.write_bytes(content())
    assert loads(f"resnest+file://{path}", cfg)
    first = PathManager.get_local_path(f"resnest+file://{path}")
    stamp = os.stat(first).st_mtime_ns
    assert PathManager.get_local_path(f"resnest+file:{path}".replace(" ", "%20")) == first
    assert os.stat(first).st_mtime_ns == stamp
    path.write_bytes(content({name: value * 2 for name, value in WEIGHTS.items()}))
    assert PathManager.get_local_path(f"resnest+file://{path}") != first


def test_files_of_one_name_at_two_addresses(server, weights_cache):
    for folder, factor in (("a", 1), ("b", 2)):
        weights = {name: value * factor for name, value in WEIGHTS.items()}
        server.files[f"{folder}/net.pth"] = content(weights)
    paths = [
        PathManager.get_local_path(f"resnest+{server.address(f'{folder}/net.pth')}")
        for folder in "ab"
    ]
    assert paths[0] != paths[1]


def test_missing_local_file(weights_cache):
    with pytest.raises(FileNotFoundError, match="/nowhere/a.pth does not exist"):
        PathManager.get_local_path("resnest+file:///nowhere/a.pth")


def test_timms_own_weights(monkeypatch, weights_cache, cfg):
    timm = pytest.importorskip("timm")

    class Classifier(torch.nn.Module):
        def state_dict(self):
            return WEIGHTS

    asked = []

    def create_model(name, pretrained):
        asked.append((name, pretrained))
        return Classifier()

    monkeypatch.setattr(timm, "create_model", create_model)
    assert loads("resnest://timm/resnest14d", cfg) and loads("resnest://timm/resnest14d", cfg)
    assert asked == [("resnest14d.gluon_in1k", True)]


def test_timms_weights_from_the_mirror(monkeypatch, weights_cache, tmp_path, cfg):
    stored = {name: value.clone().contiguous() for name, value in WEIGHTS.items()}
    save_file(stored, tmp_path / "resnest14d.gluon_in1k.safetensors")
    monkeypatch.setenv("RESNEST_D2_WEIGHTS", str(tmp_path))
    assert loads("resnest://timm/resnest14d", cfg)


def test_without_timm(monkeypatch, weights_cache):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'resnest-d2\[timm\]'.*safetensors into"):
        PathManager.get_local_path("resnest://timm/resnest14d")


def test_hash_in_a_files_name():
    assert WeightsOrigin("a", "https://x.org/net-0123abcd.pth").hash_head == "0123abcd"
    assert WeightsOrigin("a", "https://x.org/range-scale_1x.pth").hash_head is None
    assert WeightsOrigin("a", "https://x.org/a%2Bb-0123abcd.pth").files == (
        "a+b-0123abcd.pth",
        "a%2Bb-0123abcd.pth",
    )


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("net.pth", ("net.pth",)),
        ("some%2Bnet.pth", ("some+net.pth", "some%2Bnet.pth")),
        ("..%2F..%2Fnet-01234567.pth", ("net-01234567.pth", "..%2F..%2Fnet-01234567.pth")),
        ("%2Fetc%2Fnet.pth", ("net.pth", "%2Fetc%2Fnet.pth")),
        ("..%5Cnet.pth", ("net.pth", "..%5Cnet.pth")),
        ("net%00.pth", ("net%00.pth",)),
        ("..", ("weights.pth",)),
        ("", ("weights.pth",)),
        ("n" * 300 + ".pth", ("weights.pth",)),
    ],
)
def test_an_address_leads_to_no_other_folder(name, files):
    assert WeightsOrigin("a", url=f"https://host/folder/{name}").files == files


def test_weights_of_an_address_that_leads_out_stay_in_the_cache(server, weights_cache, tmp_path):
    server.files["..%2F..%2Fnet.pth"] = server.files["../../net.pth"] = content()
    path = PathManager.get_local_path(f"resnest+{server.address('..%2F..%2Fnet.pth')}")
    assert os.path.dirname(path) == str(weights_cache / "resnest_d2-v1")
    assert {p.name for p in tmp_path.iterdir()} == {"cache"}


def test_a_file_with_a_long_name_is_converted(weights_cache, tmp_path):
    path = tmp_path / ("n" * 250 + ".pth")
    path.write_bytes(content())
    assert os.path.isfile(origins.converted_file(path))


def test_a_cache_of_another_user_is_read(weights_cache, tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(content())
    kept = origins.converted_file(tmp_path / "a.pth")

    def refused(path):
        raise PermissionError(13, "Permission denied", f"{path}.lock")

    monkeypatch.setattr(origins, "file_lock", refused)
    assert origins.converted_file(tmp_path / "a.pth") == kept
    os.remove(kept)
    with pytest.raises(WriteError, match="resnest_d2-v1/a-.*.pth cannot be written .*Permission"):
        origins.converted_file(tmp_path / "a.pth")
