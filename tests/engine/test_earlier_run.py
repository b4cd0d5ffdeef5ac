import json
import logging

import pytest
from detectron2.utils.events import EventStorage, JSONWriter

from resnest_d2.engine.earlier_run import check_folder, set_aside
from resnest_d2.errors import UserError

FILES = ("best.json", "model_best.pth", "model_final.pth", "last_checkpoint", "results.json")
FILES += ("threshold.json",)


def write_run(folder, text):
    for name in FILES:
        (folder / name).write_text(text)
    (folder / "inference").mkdir()
    (folder / "inference" / "coco_instances_results.json").write_text(text)


def test_three_runs_in_a_folder_lose_nothing(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    caplog.set_level(logging.INFO)
    writer = JSONWriter(str(tmp_path / "metrics.json"))
    with EventStorage(0) as storage:
        for run in ("first", "second", "third"):
            set_aside(str(tmp_path))
            write_run(tmp_path, run)
            storage.put_scalar("total_loss", 1.0)
            writer.write()
            storage.step()
    writer.close()
    for number, run in enumerate(("first", "second", "third"), 1):
        folder = tmp_path / (f"earlier_{number}" if number < 3 else "")
        assert {(folder / name).read_text() for name in FILES} == {run}
        assert (folder / "inference" / "coco_instances_results.json").read_text() == run
        (line,) = (folder / "metrics.json").read_text().splitlines()
        assert json.loads(line)["iteration"] == number - 1
    assert caplog.text.count("holds an earlier run") == 2


def test_a_folder_with_a_run_is_refused_with_the_choices(tmp_path):
    folder, second = tmp_path / "mine", tmp_path / "mine_2"
    for path in (folder, second):
        path.mkdir()
    (folder / "config.yaml").write_text("")  # of a dry run
    (folder / "metrics.json").write_text("")
    check_folder(str(folder))
    write_run(folder, "a")
    with pytest.raises(UserError, match=rf"--resume, .*\({tmp_path}/mine_3 is free\).*--overwrite"):
        check_folder(str(folder))
    assert (folder / "model_final.pth").read_text() == "a"


def test_overwriting_leaves_what_is_not_the_runs(tmp_path):
    write_run(tmp_path, "a")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "model_0000099.pth").write_text("a")
    check_folder(str(tmp_path), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
