import subprocess
import sys


def test_import_without_detectron2_says_what_to_run():
    code = (
        "import importlib.util as u; real = u.find_spec; "
        "u.find_spec = lambda n, *a: None if n == 'detectron2' else real(n, *a); import resnest_d2"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "ImportError: resnest_d2 needs detectron2" in result.stderr
    assert "resnest-d2-install-detectron2" in result.stderr
