from pathlib import Path

import pytest

from resnest_d2 import shipped

ROOT = Path(__file__).parents[1]


def test_configs_are_found_in_a_checkout():
    assert shipped.config_dir() == ROOT / "configs"
    name = "quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.yaml"
    assert name in shipped.list_configs()
    assert shipped.find_config(name) == str(ROOT / "configs" / name)


def test_a_file_here_goes_before_one_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = shipped.list_configs()[0]
    Path(name).parent.mkdir(parents=True)
    Path(name).write_text("VERSION: 2\n")
    assert shipped.find_config(name) == name


def test_missing_files_are_named(monkeypatch):
    with pytest.raises(FileNotFoundError, match="no config file mask_rcn.yaml.*mask_rcnn_ResNeSt"):
        shipped.find_config("mask_rcn.yaml")
    monkeypatch.setattr(shipped, "_PLACES", (Path("/nowhere"), Path("/neither")))
    with pytest.raises(FileNotFoundError, match="/nowhere and /neither; install"):
        shipped.config_dir()
