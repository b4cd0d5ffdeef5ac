from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


PARAMETERS = {
    # Two iterations find nothing with confidence; draw what they found all the same.
    "quickstart": "RUN = 'none'\nITERATIONS = 2\nOUTPUT = {folder!r}\nTHRESHOLD = 0.0",
    "own_data": "DATA = None\nEPOCHS = 1\nOUTPUT = {folder!r}\nTHRESHOLD = 0.0",
}
PRINTED = {  # what of a notebook's own must have been printed
    "quickstart": "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml",
    "own_data": "60 images",
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_runs(name, tmp_path):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    (parameters,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    parameters.source = PARAMETERS[name].format(folder=str(tmp_path / "run"))
    for cell in notebook.cells:
        assert not cell.get("outputs"), "notebooks are committed without output"
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": NOTEBOOKS}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    printed = "".join(output.get("text", "") for output in outputs)
    assert PRINTED[name] in printed
    assert int(printed.split(" objects found")[0].split()[-1]) > 0
    assert (tmp_path / "run" / "model_final.pth").exists()
