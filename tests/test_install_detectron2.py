"""The installer of detectron2's Python part: what it takes, how it repacks it, what pip does."""

import base64
import csv
import hashlib
import importlib.util
import subprocess
import sys
import types
import venv
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "install_detectron2.py"
PUBLISHED = {  # of the published wheel, one file of each kind
    "detectron2/": "",
    "detectron2/__init__.py": '__version__ = "0.6"\n',
    "detectron2/model_zoo/__init__.py": "",
    "detectron2/model_zoo/configs/a, b.yaml": "VERSION: 2\n",
    "detectron2/_C.cpython-310-x86_64-linux-gnu.so": "compiled",
    "tools/__init__.py": "stray",
    "sal_detectron2-0.7.2.dist-info/LICENSE": "Apache License",
    "sal_detectron2-0.7.2.dist-info/METADATA": "Name: sal-detectron2\nRequires-Dist: numpy<2\n",
    "sal_detectron2-0.7.2.dist-info/WHEEL": "Tag: cp310-cp310-linux_x86_64\n",
    "sal_detectron2-0.7.2.dist-info/RECORD": "",
}


def publish(folder):
    path = folder / "sal_detectron2-0.7.2-cp310-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in PUBLISHED.items():
            wheel.writestr(name, text)
    return path


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("install_detectron2", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pip(monkeypatch):
    """pip, replaced: writes the wheel where it is told to, and keeps its commands."""
    calls = []

    def run(command):
        calls.append(command)
        if "download" in command:
            publish(Path(command[command.index("--dest") + 1]))
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_an_installed_detectron2_is_used_as_it_is(script, capsys):
    assert script.main() == 0
    assert "used as it is" in capsys.readouterr().out


def test_another_file_is_refused(script, pip, tmp_path):
    with pytest.raises(RuntimeError, match="SHA-256 .* expected 491af0c7"):
        script.download(tmp_path)
    assert "sal-detectron2==0.7.2" in pip[0] and "--no-deps" in pip[0]


@pytest.fixture
def repacked(script, tmp_path):
    return script.repack(publish(tmp_path), tmp_path)


def test_the_python_part_alone_is_repacked(repacked):
    assert repacked.name == "detectron2-0.6+a59f056-py3-none-any.whl"
    info = "detectron2-0.6+a59f056.dist-info"
    with zipfile.ZipFile(repacked) as wheel:
        contents = {name: wheel.read(name).decode() for name in wheel.namelist()}
    kept = {name for name in PUBLISHED if name[-1] != "/" and name.startswith("detectron2/")}
    kept -= {"detectron2/_C.cpython-310-x86_64-linux-gnu.so"}
    ours = {f"{info}/{name}" for name in "LICENSE METADATA WHEEL RECORD top_level.txt".split()}
    assert set(contents) == kept | ours
    assert all(contents[name] == PUBLISHED[name] for name in kept)
    metadata = contents[f"{info}/METADATA"].splitlines()
    assert {"Name: detectron2", "Version: 0.6+a59f056"} <= set(metadata)
    assert not [line for line in metadata if line.startswith("Requires-Dist")]
    assert "Tag: py3-none-any" in contents[f"{info}/WHEEL"]


def test_its_record_is_right(repacked):
    with zipfile.ZipFile(repacked) as wheel:
        (record,) = (name for name in wheel.namelist() if name.endswith("/RECORD"))
        rows = list(csv.reader(wheel.read(record).decode().splitlines()))
        assert [row[0] for row in rows] == wheel.namelist()
        assert rows.pop() == [record, "", ""]
        for name, digest, size in rows:
            data = wheel.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            assert (digest, int(size)) == (f"sha256={expected}", len(data))


def test_pip_lists_replaces_and_removes_it(repacked, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    venv.create(tmp_path / "venv", with_pip=False)

    def pip(*words):
        command = [sys.executable, "-m", "pip", "--python", str(python), *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def files():
        return [path for path in (tmp_path / "venv" / "lib").rglob("*") if path.is_file()]

    assert files() == []
    for option in ("--no-deps", "--upgrade", "--force-reinstall"):
        pip("install", "--no-index", option, str(repacked))
    assert pip("list", "--format", "freeze").splitlines() == ["detectron2==0.6+a59f056"]
    assert any(path.name == "a, b.yaml" for path in files())
    assert "Successfully uninstalled detectron2-0.6" in pip("uninstall", "--yes", "detectron2")
    assert files() == []


def test_another_wheel_is_refused(script, tmp_path):
    path = tmp_path / "other.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("other/__init__.py", "")
    with pytest.raises(RuntimeError, match="other.whl has no detectron2 package"):
        script.repack(path, tmp_path)


def test_installs_with_pip_what_it_repacked(script, pip, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    digest = hashlib.sha256(publish(tmp_path).read_bytes()).hexdigest()
    monkeypatch.setattr(script, "SHA256", digest)
    assert script.main() == 0, capsys.readouterr().err
    downloaded, installed, imported = pip
    assert "install" in installed and {"--no-deps", "--no-index"} <= set(installed)
    assert installed[-1].endswith("detectron2-0.6+a59f056-py3-none-any.whl")
    assert imported[-1] == "import detectron2.model_zoo"


def test_a_failed_install_is_an_error(script, monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "run", lambda command: types.SimpleNamespace(returncode=1))
    with pytest.raises(RuntimeError, match="pip could not install a.whl"):
        script.install(tmp_path / "a.whl")


def test_pip_failure_is_said(script, monkeypatch, tmp_path):
    failed = types.SimpleNamespace(returncode=1)
    monkeypatch.setattr(subprocess, "run", lambda command: failed)
    with pytest.raises(RuntimeError, match="could not download sal-detectron2"):
        script.download(tmp_path)
