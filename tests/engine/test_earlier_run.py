import json
import logging

from detectron2.utils.events import EventStorage, JSONWriter

from resnest_d2.engine.earlier_run import set_aside


def test_an_earlier_run_is_set_aside(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    caplog.set_level(logging.INFO)
    for name in ("best.json", "model_best.pth", "model_final.pth", "last_checkpoint"):
        (tmp_path / name).write_text("model_final.pth")
    writer = JSONWriter(str(tmp_path / "metrics.json"))
    with EventStorage(7) as storage:
        storage.put_scalar("total_loss", 1.0)
        writer.write()
        set_aside(str(tmp_path))
        storage.step()
        storage.put_scalar("total_loss", 2.0)
        writer.write()
    writer.close()
    names = "best.old.json last_checkpoint.old metrics.json metrics.old.json model_best.old.pth"
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [*names.split(), "model_final.old.pth"]
    for name, iteration in (("metrics.old.json", 7), ("metrics.json", 8)):
        (line,) = (tmp_path / name).read_text().splitlines()
        assert json.loads(line)["iteration"] == iteration
    assert caplog.text.count("is of an earlier run") == 5
