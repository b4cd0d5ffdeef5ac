"""Every seam to another library: its probe says yes here, and what happens where it says no."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from multiprocessing import resource_sharer
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultTrainer, defaults
from detectron2.evaluation import coco_evaluation
from detectron2.layers import Conv2d, batched_nms
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes
from packaging.version import Version
from PIL import Image
from torch import nn
from torchvision.ops import boxes as box_ops

from resnest_d2.checkpoint import read_checkpoint
from resnest_d2.compat import cudnn, detectron, evaluators, pytorch, vision
from resnest_d2.compat.replacing import replaced
from resnest_d2.deploy.layers import FusedConv2d
from resnest_d2.engine.evaluation import build_evaluator
from resnest_d2.errors import UserError

PROBES = (
    detectron.can_replace_scoring,
    detectron.can_replace_training_parts,
    pytorch.can_allow_types,
    pytorch.has_onednn,
    vision.can_replace_nms,
)


@pytest.fixture(autouse=True)
def forgetful():
    """What a test makes a probe say is forgotten after it."""
    yield
    for probe in PROBES:
        probe.cache_clear()


def again(probe):
    probe.cache_clear()
    return probe()


def test_replaced_names_come_back():
    before = box_ops.batched_nms
    with pytest.raises(ZeroDivisionError), replaced(box_ops, batched_nms=len):
        assert box_ops.batched_nms is len
        1 / 0  # noqa: B018
    assert box_ops.batched_nms is before
    with pytest.raises(AttributeError), replaced(box_ops, batched_nms=len, no_such_name=len):
        pass
    assert box_ops.batched_nms is before


class TestDetectron2:
    def test_one_of_the_past_is_told_by_what_it_lacks(self, tmp_path, monkeypatch):
        assert detectron.why_unsupported() is None
        package = tmp_path / "detectron2"
        (package / "layers").mkdir(parents=True)
        monkeypatch.setattr(detectron, "find_spec", lambda name: Spec(package, None))
        assert "is a folder named detectron2, but not the package" in detectron.why_unsupported()
        spec = Spec(package, package / "__init__.py")
        monkeypatch.setattr(detectron, "find_spec", lambda name: spec)
        assert detectron.why_unsupported() is None  # no source to look into
        (package / "layers" / "wrappers.py").write_text("def cat(tensors): ...\n")
        assert "main branch of March 2023 or later" in detectron.why_unsupported()
        (package / "layers" / "wrappers.py").write_text("def check_if_dynamo_compiling(): ...\n")
        assert detectron.why_unsupported() is None
        (package / "data" / "transforms").mkdir(parents=True)
        (package / "data" / "transforms" / "transform.py").write_text("Image.LINEAR\n")
        monkeypatch.setattr("PIL.Image", SimpleNamespace())
        assert "from before July 2023, which cannot be" in detectron.why_unsupported()
        monkeypatch.setattr("PIL.Image", SimpleNamespace(LINEAR=2))
        assert detectron.why_unsupported() is None
        monkeypatch.setattr(detectron, "find_spec", lambda name: None)
        assert detectron.why_unsupported() is None

    def test_importing_beside_the_release_of_2021_ends_in_a_sentence(self, tmp_path):
        layers = tmp_path / "detectron2" / "layers"
        layers.mkdir(parents=True)
        (layers / "wrappers.py").write_text("def cat(tensors): ...\n")
        for folder in (layers, layers.parent):
            (folder / "__init__.py").write_text('__version__ = "0.6"\n')
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        result = subprocess.run(
            [sys.executable, "-c", "import resnest_d2"],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 1
        sentence = result.stderr.splitlines()[-1]
        assert sentence.startswith("resnest_d2.errors.MissingPackageError: resnest_d2 needs")
        assert "it is the release 0.6 of 2021" in sentence

    def test_extension_points(self, monkeypatch):
        assert detectron.missing_extension_points() == []
        place = "detectron2.modeling.roi_heads:CascadeROIHeads"
        monkeypatch.setitem(detectron.EXTENSION_POINTS, place, ("_run_stage", "_run_phase"))
        assert detectron.missing_extension_points() == [f"{place}._run_phase"]

    def test_training_on_the_cpu(self, monkeypatch):
        assert again(detectron.can_replace_training_parts)
        ddp, model = defaults.create_ddp_model, nn.Linear(1, 1)
        with detectron.training_on_cpu(nn.Linear):
            assert defaults.AMPTrainer is nn.Linear
            assert defaults.create_ddp_model(model) is model  # one process
            assert defaults.create_ddp_model.keywords == {"device_ids": None}
        assert defaults.create_ddp_model is ddp
        monkeypatch.setattr(DefaultTrainer, "__init__", lambda self, cfg: None)
        assert not again(detectron.can_replace_training_parts)
        with (
            pytest.raises(UserError, match="cannot train on the CPU in several processes"),
            detectron.training_on_cpu(nn.Linear),
        ):
            pass

    def test_scoring(self, monkeypatch):
        class Scorer:
            def __init__(self, truth, results, kind):
                self.params, self.results = type("Params", (), {})(), results

            def evaluate(self):
                pass

            accumulate = summarize = evaluate

        class Truth:
            loadRes = staticmethod(lambda results: results)

        assert again(detectron.can_replace_scoring)

        def prepare(results, task):
            return [*results, {"bbox": 2}] if task == "segm" else results

        with detectron.scoring(prepare, coco_eval=Scorer):
            score = coco_evaluation._evaluate_predictions_on_coco
            fast = coco_evaluation.COCOeval_opt
            assert score(Truth, [{"bbox": 1}], "bbox", cocoeval_fn=fast).results == [{"bbox": 1}]
            many = {"cocoeval_fn": fast, "max_dets_per_image": [1, 10, 300]}
            assert score(Truth, [{"bbox": 1}], "segm", **many).results == [{}, {}]
        own = coco_evaluation.COCOeval_opt
        assert own is not Scorer
        monkeypatch.delattr(coco_evaluation, "_evaluate_predictions_on_coco")
        assert not again(detectron.can_replace_scoring)
        with detectron.scoring(prepare, coco_eval=Scorer):
            assert coco_evaluation.COCOeval_opt is own

    def test_annotations_of_an_evaluator(self, coco_files, tmp_path):
        from detectron2.data import DatasetCatalog, MetadataCatalog

        from resnest_d2.data import register_coco

        register_coco("seen_by_compat", *coco_files())
        try:
            (evaluator,) = build_evaluator("seen_by_compat", str(tmp_path))._evaluators
            assert len(detectron.annotations_of(evaluator).imgs) == 2
        finally:
            DatasetCatalog.remove("seen_by_compat")
            MetadataCatalog.remove("seen_by_compat")
        assert detectron.annotations_of(object()) is None

    def test_metadata_of_an_evaluator(self):
        evaluator = SimpleNamespace(_metadata="of the dataset")
        detectron.set_metadata(evaluator, "of the common classes")
        assert evaluator._metadata == "of the common classes"
        with pytest.raises(UserError, match="other categories than the detector's"):
            detectron.set_metadata(object(), "of the common classes")

    def test_results_are_written_whole(self, tmp_path, monkeypatch):
        from detectron2.evaluation import coco_evaluation, sem_seg_evaluation

        own = coco_evaluation.PathManager
        (tmp_path / "a.json").write_text("before")
        with pytest.raises(ZeroDivisionError), evaluators.writing_whole_results():
            assert coco_evaluation.PathManager.exists(str(tmp_path))
            assert coco_evaluation.PathManager.open(str(tmp_path / "a.json")).read() == "before"
            with coco_evaluation.PathManager.open(str(tmp_path / "a.json"), "w") as file:
                file.write("half")
                1 / 0  # noqa: B018
        assert (tmp_path / "a.json").read_text() == "before"
        monkeypatch.delattr(coco_evaluation, "PathManager")
        with evaluators.writing_whole_results():
            assert sem_seg_evaluation.PathManager is not own
        assert sem_seg_evaluation.PathManager is own

    def test_a_failed_load_is_forgotten(self, tmp_path):
        checkpointer = DetectionCheckpointer(nn.Linear(1, 1), str(tmp_path))
        (tmp_path / "bad.pth").write_bytes(b"no checkpoint")
        good = {"model": nn.Linear(1, 1).state_dict()}
        torch.save(good, tmp_path / "good.pth")
        with pytest.raises(Exception):  # noqa: B017 (of torch's choice)
            checkpointer.load(str(tmp_path / "bad.pth"))
        detectron.forget_failed_load(checkpointer)
        checkpointer.load(str(tmp_path / "good.pth"))
        assert torch.equal(checkpointer.model.weight, good["model"]["weight"])
        without = object()
        detectron.forget_failed_load(without)  # which has nothing to forget

    def test_boxes_that_are_not_finite(self):
        with pytest.raises(AssertionError) as caught:
            Boxes(torch.full((1, 4), float("nan"))).clip((4, 4))
        assert detectron.is_nonfinite_box(caught.value)
        with pytest.raises(AssertionError) as caught:
            Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).get_deltas(torch.zeros(1, 4), torch.zeros(1, 4))
        assert not detectron.is_nonfinite_box(caught.value)
        assert not detectron.is_nonfinite_box(ValueError("infinite or NaN"))


class Spec:
    def __init__(self, folder, origin):
        self.submodule_search_locations, self.origin = [str(folder)], origin


class TestOneDnn:
    @pytest.fixture
    def conv(self):
        torch.manual_seed(0)
        conv = Conv2d(16, 16, 3, padding=1, activation=F.relu).eval()
        conv.x = torch.rand(1, 16, 9, 9).contiguous(memory_format=torch.channels_last)
        conv.expected = conv(conv.x)
        conv.__class__ = FusedConv2d
        return conv

    def check(self, conv, *, packed):
        with torch.no_grad():
            conv.prepare()
            assert conv.pack is packed
            torch.testing.assert_close(conv(conv.x), conv.expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.skipif(
        not hasattr(torch.ops.mkldnn, "_convolution_pointwise"), reason="a torch without oneDNN"
    )
    def test_it_runs(self, conv):
        state = torch.random.get_rng_state()
        assert again(pytorch.has_onednn)
        assert torch.equal(torch.random.get_rng_state(), state)
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            assert again(pytorch.has_onednn)
        self.check(conv, packed=True)

    @pytest.mark.parametrize("convolve", [lambda x, *a, **k: x, lambda *args: None])
    def test_one_that_is_wrong_or_gone_is_not_used(self, convolve, conv, monkeypatch):
        monkeypatch.setattr(pytorch, "onednn_convolve", convolve)
        assert not again(pytorch.has_onednn)
        self.check(conv, packed=False)

    def test_an_operator_that_torch_lacks(self, conv, monkeypatch):
        monkeypatch.setattr(torch.ops, "mkldnn", object())
        assert not again(pytorch.has_onednn)
        assert pytorch.onednn_order(torch.zeros(1)) == b""
        self.check(conv, packed=False)


class Asks:
    def __reduce__(self):
        return (os.system, ("true",))


class TestSafeReading:
    def save(self, path):
        torch.save({"model": {"a": torch.ones(1)}, "best": np.float64(0.5)}, path)
        return path

    def test_plain_types(self, tmp_path, monkeypatch):
        if Version(torch.__version__) >= Version("2.6"):
            assert again(pytorch.can_allow_types)
            assert read_checkpoint(self.save(tmp_path / "a.pth"))["best"] == 0.5
        monkeypatch.delattr(torch.serialization, "safe_globals", raising=False)
        assert not again(pytorch.can_allow_types)
        assert isinstance(pytorch.allowing_plain_types(), contextlib.nullcontext)
        with pytest.raises(UserError, match=r"asks for numpy\._?core\.multiarray\.scalar, which"):
            read_checkpoint(self.save(tmp_path / "a.pth"))
        torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "b.pth")
        assert read_checkpoint(tmp_path / "b.pth")["model"]["a"] == 1

    @pytest.mark.parametrize("zipped", [True, False])
    def test_the_type_that_a_file_asks_for(self, zipped):
        file = io.BytesIO()
        torch.save({"a": Asks()}, file, _use_new_zipfile_serialization=zipped)
        file.seek(0)
        with pytest.raises(Exception) as caught:
            torch.load(file, weights_only=True)
        assert pytorch.refused_type(caught.value) in ("posix.system", "nt.system")
        assert pytorch.refused_type(RuntimeError("no such thing")) is None


class Worker(torch.utils.data.Dataset):
    def __init__(self, act):
        self.act = act

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.act()


def mistake():
    raise UserError("a.png: it cannot be read.\n")


def leave():
    os._exit(1)


def stop():
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


def defect():
    raise RuntimeError("a defect")


class TestDataWorkers:
    def error(self, act):
        with pytest.raises((RuntimeError, UserError)) as caught:
            list(torch.utils.data.DataLoader(Worker(act), num_workers=1))
        return caught.value

    def told(self, error):
        return (
            pytorch.is_dead_worker(error),
            pytorch.is_terminated_worker(error),
            pytorch.mistake_in_worker(error),
        )

    def test_a_worker_that_ends(self):
        assert self.told(self.error(leave)) == (True, False, None)

    def test_a_worker_that_is_terminated(self):
        assert self.told(self.error(stop)) == (True, True, None)

    def test_a_worker_that_ends_while_it_hands_a_batch_over(self, tmp_path):
        with open(tmp_path / "batch", "w") as file:
            handed = resource_sharer.DupFd(file.fileno())
        resource_sharer.stop()  # as in a process that has ended
        with pytest.raises((OSError, EOFError)) as caught:
            handed.detach()
        assert self.told(caught.value) == (True, False, None)
        assert self.told(ConnectionResetError("of another socket")) == (False, False, None)

    def test_a_mistake_in_a_worker(self):
        told = (False, False, "a.png: it cannot be read.")
        assert self.told(self.error(mistake)) == told

    def test_a_defect_in_a_worker_stays_one(self):
        assert self.told(self.error(defect)) == (False, False, None)
        assert self.told(UserError("Caught in the act")) == (False, False, None)
        assert self.told(OSError("DataLoader worker")) == (False, False, None)


class TestVision:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 5.0]])

    def test_suppression_by_another_function(self, monkeypatch):
        assert again(vision.can_replace_nms)
        scores, classes = torch.tensor([0.5, 0.6]), torch.zeros(2, dtype=torch.long)
        assert batched_nms(self.boxes, scores, classes, 0.5).tolist() == [1]
        with vision.nms_by(lambda boxes, scores, classes, threshold: [boxes.sum(), threshold]):
            assert batched_nms(self.boxes, scores, classes, 0.5) == [17, 0.5]
        monkeypatch.setattr("detectron2.layers.batched_nms", lambda *args: None)
        assert not again(vision.can_replace_nms)
        with pytest.raises(UserError, match="cannot be exported"), vision.nms_by(len):
            pass

    @pytest.mark.parametrize("kind", ["jpeg", "png", "bmp", "gif"])
    def test_truncated_images(self, kind):
        file = io.BytesIO()
        pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(file, kind)
        for content, truncated in (
            (file.getvalue()[: len(file.getvalue()) // 2], True),
            (b"no image", False),
        ):
            with pytest.raises(Exception) as caught, Image.open(io.BytesIO(content)) as image:
                image.tobytes()
            assert vision.is_truncated_image(caught.value) is truncated


def test_a_lack_of_memory_is_known_by_torchs_own_errors():
    lack = [MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory")]
    for allocate in (
        lambda: torch.empty(1 << 60, dtype=torch.uint8),
        lambda: np.empty(1 << 60, np.uint8),
        lambda: cv2.resize(np.zeros((2, 2), np.uint8), (2**30, 2**31 - 1)),
    ):
        with pytest.raises(Exception) as caught:
            allocate()
        lack.append(caught.value)
    assert [pytorch.is_out_of_memory(error) for error in lack] == [True] * 5
    assert not pytorch.is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_cudnns_fused_convolution(monkeypatch):
    """Without a GPU it is not used; where cuDNN has no kernel for a call, the plain one is."""
    x, weight, bias = torch.rand(1, 2, 3, 3), torch.rand(4, 2, 1, 1), torch.rand(4)
    where = ([0, 0], [1, 1], [1, 1], 1)
    if not torch.cuda.is_available():
        assert not again(cudnn.has_cudnn_fusion)
        assert cudnn.cudnn_convolve(x, weight, bias, where) is None
    calls = []

    def convolve(*_):
        calls.append(1)
        raise RuntimeError(text)

    monkeypatch.setattr(cudnn, "has_cudnn_fusion", lambda: True)
    monkeypatch.setattr(cudnn, "_cudnn_convolve", convolve)
    monkeypatch.setattr(cudnn, "_REFUSED", set())
    text = "GET was unable to find an engine to execute this computation"
    assert cudnn.cudnn_convolve(x, weight, bias, where) is None
    assert cudnn.cudnn_convolve(x, weight, bias, where) is None and calls == [1]
    assert cudnn.cudnn_convolve(x.double(), weight, bias, where) is None and calls == [1]
    text = "CUDNN_STATUS_BAD_PARAM"
    with pytest.raises(RuntimeError, match="BAD_PARAM"):
        cudnn.cudnn_convolve(x[:, :, :2], weight, bias, where)


def test_the_type_of_autocast():
    assert pytorch.autocast_dtype("cpu") is None
    with torch.autocast("cpu", torch.bfloat16):
        assert pytorch.autocast_dtype("cpu") == torch.bfloat16
