"""The report of a run: its numbers are the evaluator's, Chromium shows its page."""

import base64
import html
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
from browser import needs_chromium, use
from detectron2.data import DatasetCatalog, MetadataCatalog
from typer.testing import CliRunner

from resnest_d2 import get_cfg
from resnest_d2.cli.main import app
from resnest_d2.data import register_coco
from resnest_d2.data.categories import match_dataset
from resnest_d2.engine.evaluation import CocoEvaluator
from resnest_d2.engine.reporting import report
from resnest_d2.errors import UserError
from resnest_d2.report import DataSet, write_comparison, write_report
from resnest_d2.report.analysis import analyse
from resnest_d2.report.figures import Line, draw_bars, draw_lines, draw_matrix
from resnest_d2.report.gather import read_annotations, read_detections, read_run
from resnest_d2.report.images import outline_found, thumbnail
from resnest_d2.report.matching import NONE, match_images
from resnest_d2.report.mistakes import judge
from resnest_d2.report.sections import dataset_figures


def detection(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


CAT = [10, 5, 20, 30]
FOUND = [
    detection(1, 7, [40, 5, 15, 20], 0.97),  # false
    detection(2, 3, [10, 5, 20, 29], 0.95),  # a dog where a cat is
    detection(1, 7, CAT, 0.9),  # right
    detection(2, 7, [0, 0, 4, 4], 0.1),  # false, below the best score
]


@pytest.fixture
def run(coco_files, tmp_path):
    """A function that scores detections as the evaluator does and leaves a run's folder."""
    names = []

    def make(found=FOUND, change=lambda data: None, name="run", classes=None):
        data = DataSet(f"set_{name}", *coco_files(change, name=name))
        register_coco(*data)
        names.append(data.name)
        if classes:
            match_dataset(data.name, classes)
        folder = tmp_path / name
        evaluator = CocoEvaluator(
            data.name, tasks=("bbox",), output_dir=str(folder / "inference" / data.name)
        )
        evaluator.reset()
        contiguous = evaluator._metadata.thing_dataset_id_to_contiguous_id
        evaluator._predictions = [
            {
                "image_id": i,
                "instances": [
                    {**d, "category_id": contiguous[d["category_id"]]}
                    for d in found
                    if d["image_id"] == i
                ],
            }
            for i in (1, 2)
        ]
        results = {data.name: evaluator.evaluate()}
        (folder / "results.json").write_text(json.dumps(results))
        return str(folder), data, results[data.name]

    yield make
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def link(name, number):
    return f'<a href="#worst-1" data-of="{number}">{name}</a>'


def cells(page, css_class):
    """Rows of a table as lists of text."""
    table = re.search(f'<table class="{css_class}">(.*?)</table>', page, re.S)[1]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.S)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]


def figure_titles(page):
    alts = re.findall('<img src="data:[^"]*" alt="(.*?)"', page)
    return [html.unescape(alt).split(". ")[0] for alt in alts]


def image_names(page):
    """Of each panel."""
    labels = re.findall('aria-label="(.*?)"', page)
    return [re.split(r", (?:annotations|detections|\w+: )", label)[0] for label in labels]


def test_numbers_are_the_evaluators(run):
    folder, data, results = run()
    path = write_report(folder, datasets=[data], command="train_net.py --some <thing>")
    page = path.read_text()
    head, box, counts = cells(page, "ap")
    metrics = results["bbox"]
    shown = ["–" if np.isnan(metrics[n]) else f"{metrics[n]:.2f}" for n in head[1:]]
    assert box == ["box", *shown] and metrics["AP50"] > 0
    assert counts == ["annotations", "2", "2", "0", "0"]  # of all sizes, small, medium, large
    assert cells(page, "classes")[1:] == [
        [link("dog", 0), "0", "–", "0.00 <small>0 of 1</small>", "–"],
        [
            *(link("cat", 1), "2", f"{metrics['AP-cat']:.2f}"),
            *("50.00 <small>1 of 2</small>", "50.00 <small>1 of 2</small>"),
        ],
    ]
    cards = re.findall(r'<div class="card"><span>(.*?)</span>\s*<b>(.*?)</b>\s*<span>(.*?)<', page)
    assert cards[1:3] == [
        ("recall, score from 0.90", "50.00&nbsp;%", "1 of 2 annotations"),
        ("precision, score from 0.90", "33.33&nbsp;%", "1 of 3 detections"),
    ]
    assert "train_net.py --some &lt;thing&gt;" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # nothing from elsewhere
    assert figure_titles(page) == [
        "AP by class",
        "AP by size",
        "Precision and recall, box, IoU 0.5",
        "Precision and recall, box, IoU 0.75",
        "Confusion matrix",
        "Calibration",
    ]
    assert image_names(page) == ["1.png", "1.png", "2.png", "2.png"]
    assert page.count("data:image/jpeg") == 2  # both panels show the same pixels
    assert re.findall(r"</strong>(1 .*?)</figcaption>", page) == ["1 false", "1 confused"]
    assert re.findall('<path class="(.*?)"', page) == [
        *("right", "false", "right"),  # the first image's truth, then what was found
        *("confused", "confused"),
    ]


def test_analysis(run):
    folder, data, results = run()
    api = read_annotations(data.json_file)
    found = analyse(api, read_detections(read_run(folder), data.name, api), ["bbox"])
    assert found.classes == ["dog", "cat"] and found.threshold == 0.9
    np.testing.assert_array_equal(found.confusion, [[0, 0, 0], [1, 1, 0], [0, 1, 0]])
    for t, name in enumerate(("AP50", "AP75")):  # the curves are the evaluator's
        assert np.nanmean(found.curves["bbox"][t]) * 100 == pytest.approx(results["bbox"][name])
    np.testing.assert_allclose(found.calibration.score, [0.1, 0.94])
    np.testing.assert_allclose(found.calibration.right, [[0, 1 / 3]] * 2)
    assert found.calibration.error[0] == pytest.approx((0.1 + 3 * (0.94 - 1 / 3)) / 4)
    assert found.sizes == {"small": 2, "medium": 0, "large": 0}


def test_the_recommended_threshold_is_kept(run):
    folder, data, _ = run()
    assert "least 0.90, at IoU 0.5" in write_report(folder, datasets=[data]).read_text()
    kept = json.loads(open(f"{folder}/threshold.json").read())
    assert kept["thresholds"] == {data.name: 0.8999} and "weights" in kept
    bare, data, _ = run(change=lambda data: data["annotations"].clear(), name="bare")
    write_report(bare, datasets=[data])
    assert not os.path.exists(f"{bare}/threshold.json")


def test_a_crowd_is_not_judged(run):
    def crowd(data):
        data["annotations"][1].update(iscrowd=1, segmentation=None)

    folder, data, _ = run([detection(1, 7, CAT, 0.9), detection(2, 7, CAT, 0.9)], crowd)
    api = read_annotations(data.json_file)
    found = analyse(api, read_detections(read_run(folder), data.name, api), ["bbox"])
    np.testing.assert_array_equal(found.confusion, [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert not any(image.mistakes for image in found.images)


def test_overlaps_are_of_masks_where_there_are_any(coco_files):
    mask = np.zeros((40, 60), np.uint8, order="F")
    mask[5:15, 10:30] = 1  # a third of the cat, in the cat's box
    found = [{**detection(1, 7, CAT, 0.9), "segmentation": mask_util.encode(mask)}]
    json_file, images = coco_files()
    api = read_annotations(json_file)
    by_box, by_mask = (next(match_images(api, {1: found}, task)) for task in ("bbox", "segm"))
    assert by_box.matches.tolist() == [[0], [0]] and by_mask.matches.tolist() == [[NONE], [NONE]]
    assert by_mask.iou.item() == pytest.approx(1 / 3)
    size = thumbnail(by_mask, f"{images}/1.png")
    (drawn,) = outline_found(judge(by_mask, 0.5), size, {7: "cat"})
    assert (drawn.kind, drawn.label) == ("poor", "cat 0.90, poorly located, IoU 0.33")
    assert drawn.path.count("L") == 3 and "14.5" in drawn.path  # the mask's corners, not the box's
    analysis = analyse(api, found, ["bbox", "segm"])
    assert analysis.task == "segm" and analysis.confusion[1].tolist() == [0, 0, 2]  # both missed


def test_two_data_sets_and_test_time_augmentation(run):
    folder, first, results = run(name="one")
    other, second, others = run(FOUND[2:], name="two")
    shutil.copytree(f"{other}/inference", f"{folder}/inference", dirs_exist_ok=True)
    augmented = {**results["bbox"], "AP": 12.25}
    both = {first.name: {**results, "bbox_TTA": augmented}, second.name: others}
    with open(f"{folder}/results.json", "w") as file:
        json.dump(both, file)
    page = write_report(folder).read_text()  # found by their registered names
    head, *sections = page.split("<section>")
    assert re.findall("<p>(set_.*?)</p>", head) == [first.name, second.name]
    tables = [[row[:2] for row in cells(section, "ap")[1:-1]] for section in sections]
    assert tables == [
        [["box", f"{results['bbox']['AP']:.2f}"], ["box, TTA", "12.25"]],
        [["box", f"{others['bbox']['AP']:.2f}"]],
    ]
    assert results["bbox"]["AP"] != others["bbox"]["AP"]
    wrong = [re.findall("</strong>(1 .*?)</figcaption>", section) for section in sections]
    assert wrong == [["1 false", "1 confused"], ["1 missed"]]


def test_the_command_that_repeats_it(run, monkeypatch):
    folder, data, _ = run(name="a run")
    path, given = f"{folder}/config.yaml", []

    def repeat():
        page = write_report(folder, datasets=[data]).read_text()
        return shlex.split(html.unescape(re.search("<pre>(.*?)</pre>", page)[1]))

    with open(path, "w") as file:
        file.write("VERSION: 2\n")
    monkeypatch.setattr("resnest_d2.engine.launch", given.append)
    command, *args = repeat()
    done = CliRunner().invoke(app, args)
    assert command == "resnest-d2" and done.exit_code == 0, done.output
    assert given[0].config_file == path and given[0].opts == ["OUTPUT_DIR", "'output/again'"]
    with open(f"{folder}/metrics.json", "w") as file:
        file.write('{"iteration": 19, "total_loss": 1.0, "bbox/AP": 2.0}\n')
    command, *args = repeat()
    done = CliRunner().invoke(app, args)
    assert (command, args[0]) == ("resnest-d2", "train") and done.exit_code == 0, done.output
    assert given[1].config_file == path and given[1].opts == ["OUTPUT_DIR", "'output/again'"]
    assert not given[1].eval_only
    assert "AP by iteration" not in open(f"{folder}/report.html").read()  # of a single point


def test_nothing_found_and_nothing_annotated(run):
    folder, data, _ = run([], name="none")
    page = write_report(folder, datasets=[data]).read_text()
    assert "found no objects" in page and page.count("1 missed") == 2
    folder, data, _ = run(change=lambda data: data["annotations"].clear(), name="bare")
    page = write_report(folder, datasets=[data]).read_text()
    assert "has no objects" in page and "<svg" not in page


@pytest.mark.parametrize("table, key", [("images", "image_id"), ("categories", "category_id")])
def test_annotations_that_changed_since_the_evaluation_are_refused(run, table, key):
    folder, data, _ = run()
    content = json.loads(Path(data.json_file).read_text())
    last = content[table].pop()["id"]
    content["annotations"] = [a for a in content["annotations"] if a[key] != last]
    Path(data.json_file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"results.json has detections with {key} {last}, .*again"):
        write_report(folder, datasets=[data])


def test_many_classes_are_cut_to_the_readable(run):
    folder, data, _ = run()
    api = read_annotations(data.json_file)
    api.cats.update({i: {"id": i, "name": f"c{i}"} for i in range(100, 178)})
    api.dataset["categories"] = list(api.cats.values())
    found = analyse(api, read_detections(read_run(folder), data.name, api), ["bbox"])
    figures = {f.title: f for f in dataset_figures(found, {"bbox": {"AP": 1.0, "AP-cat": 1.0}})}
    assert "The 30 lowest of 80 classes" in figures["AP by class"].note
    assert "The 20 of 80 classes" in figures["Confusion matrix"].note


def test_comparison(run, tmp_path):
    first, data, before = run()
    second = tmp_path / "second"
    shutil.copytree(first, second)
    results = json.loads((second / "results.json").read_text())
    results[data.name]["bbox"]["AP"] += 1.5
    (second / "results.json").write_text(json.dumps(results))
    kept = [d for d in FOUND if d["score"] != 0.97]
    (second / "inference" / data.name / "coco_instances_results.json").write_text(json.dumps(kept))
    for folder, rate in ((first, 0.1), (second, 0.2)):
        with open(f"{folder}/config.yaml", "w") as file:
            file.write(f"SOLVER: {{BASE_LR: {rate}, GAMMA: 1}}\nDATASETS: {{COCO: []}}\n")
        with open(f"{folder}/metrics.json", "w") as file:
            file.write('{"iteration": 19, "total_loss": 1.0}\n{"iteration": 39, "tot')
    page = write_comparison(first, str(second), str(tmp_path / "both.html")).read_text()
    ap = before["bbox"]["AP"]
    assert cells(page, "ap")[1] == ["box AP", f"{ap:.2f}", f"{ap + 1.5:.2f}", "+1.50"]
    assert re.findall("<th>(SOLVER.*?)</th><td.*?>(.*?)</td><td.*?>(.*?)</td>", page) == [
        ("SOLVER.BASE_LR", "0.1", "0.2")
    ]
    assert "1 fewer mistakes with second" in page
    assert figure_titles(page) == [
        "box AP by class, second minus run",
        "Precision and recall, box, IoU 0.5",
        "Precision and recall, box, IoU 0.75",
        "Total loss",
    ]
    assert image_names(page) == ["1.png", "1.png"]
    (second / "results.json").write_text('{"other": {}}')
    with pytest.raises(ValueError, match="nothing to compare"):
        write_comparison(first, str(second), str(tmp_path / "both.html"))


def test_only_the_classes_of_the_detector_are_shown(run, tmp_path):
    def more(data):
        data["categories"].append({"id": 1, "name": "wolf"})
        data["categories"][0]["name"] = "Cat"

    folders, pages = [], []
    for name, classes in (("both", ["dog", "cat", "ox"]), ("one", ["cat"])):
        kept = [d for d in FOUND if d["category_id"] == 7 or len(classes) > 1]
        folder, data, results = run(kept, change=more, name=name, classes=classes)
        folders.append(folder)
        os.rename(f"{folder}/inference/{data.name}", f"{folder}/inference/val")
        (tmp_path / name / "results.json").write_text(json.dumps({"val": results}))
        keys = f"{{COCO: [[val, {tmp_path}/both.json, {data.image_root}]], CLASSES: {classes}}}"
        (tmp_path / name / "config.yaml").write_text(f"DATASETS: {keys}\n")
        pages.append(write_report(folder).read_text())
    assert [row[0] for row in cells(pages[0], "classes")[1:]] == [link("dog", 0), link("cat", 1)]
    assert [row[0] for row in cells(pages[1], "classes")[1:]] == [link("cat", 0)]
    assert cells(pages[0], "classes")[2][2] == f"{run_ap(folders[0], 'AP-cat'):.2f}"
    assert "get no AP: ox." in pages[0] and "get no AP" not in pages[1]
    assert all("unknown to the detector, are left out: " in page for page in pages)
    page = write_comparison(*folders, str(tmp_path / "page.html")).read_text()
    assert "AP are means of different classes: dog." in " ".join(page.split())


def test_ids_of_any_kind_give_the_same_report(run):
    folder, data, _ = run()
    pages = [write_report(folder, datasets=[data]).read_text()]
    detections = f"{folder}/inference/{data.name}/coco_instances_results.json"
    content, found = (json.loads(Path(p).read_text()) for p in (data.json_file, detections))
    for entry in (*content["images"], *content["annotations"], *found):
        for key in ("id", "image_id"):
            if entry.get(key) == 1:
                entry[key] = "one"
    for path, value in ((data.json_file, content), (detections, found)):
        Path(path).write_text(json.dumps(value))
    pages.append(write_report(folder, datasets=[data]).read_text())
    classes, areas = (
        [f(page) for page in pages]
        for f in (lambda p: cells(p, "classes"), lambda p: re.findall(r"AP(?:50|75): [\d.]+", p))
    )
    assert classes[0] == classes[1] and areas[0] == areas[1] != []


def run_ap(folder, metric):
    with open(f"{folder}/results.json") as file:
        return json.load(file)["val"]["bbox"][metric]


@pytest.mark.parametrize(("limit", "ap50"), [(100, 0.50495), (300, 1.0), (-1, 1.0)])
def test_the_curves_have_the_limit_of_the_evaluation(limit, ap50, run, tmp_path):
    def more(data):
        boxes = [[x, y, 1, 1] for x in range(20) for y in range(10)]
        objects = [dict(data["annotations"][0], id=i, bbox=b) for i, b in enumerate(boxes, 1)]
        data["annotations"] = [{**a, "segmentation": [], "area": 1} for a in objects]

    found = [detection(1, 7, [x, y, 1, 1], 0.9) for x in range(20) for y in range(10)]
    folder, data, _ = run(found, change=more)
    (tmp_path / "run/config.yaml").write_text(f"TEST: {{DETECTIONS_PER_IMAGE: {limit}}}\n")
    page = " ".join(write_report(folder, datasets=[data]).read_text().split())
    words = "with all detections of an image" if limit < 0 else f"at up to {limit} detections per"
    assert f"Average precision in percent, {words}" in page
    assert f"AP50: {100 * ap50:.2f}" in html.unescape(page)


def test_one_name_for_two_data_sets_is_not_compared(run, tmp_path):
    def other(data):
        data["categories"][0]["name"] = "wolf"

    folders, sets = [], []
    for name, change in (("first", lambda data: None), ("same", lambda data: None), ("new", other)):
        folder, data, results = run(change=change, name=name)
        shutil.copytree(f"{folder}/inference/{data.name}", f"{folder}/inference/one")
        keys = f"DATASETS: {{COCO: [[one, {data.json_file}, {data.image_root}]]}}\n"
        with open(f"{folder}/config.yaml", "w") as file:
            file.write(keys)
        with open(f"{folder}/results.json", "w") as file:
            json.dump({"one": results}, file)
        folders.append(folder)
        sets.append(data.json_file)
    page = str(tmp_path / "both.html")
    write_comparison(folders[0], folders[1], page)
    with pytest.raises(ValueError, match=f"one is {sets[0]} in one run and {sets[2]} in the"):
        write_comparison(folders[0], folders[2], page)


@pytest.mark.parametrize("draw", ["lines", "bars"])
def test_names_are_drawn_as_they_are(draw):
    names = ("$x", "_y", "$\\a$")
    if draw == "lines":
        lines = [Line(name, [0, 1], [0, 1]) for name in names]
        figure = draw_lines("", lines, xlabel="", ylabel="")
    else:
        figure = draw_bars("", ["$b_$"], {name: [1] for name in names}, xlabel="")
    svg = base64.b64decode(figure.uri.split(",")[1]).decode()
    assert all(f">{name}</text>" in svg for name in names)


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("x" * 60, "x" * 27 + "…"),
        ("a\x00\u202e\ud800", r"a\x00\u202e\ud800"),
        ("<&>", "&lt;&amp;&gt;"),
    ],
)
def test_figures_hold_any_name(name, drawn):
    figures = [
        draw_bars("", [name], {name: [1], "b": [1]}, xlabel=""),
        draw_matrix("", np.eye(2, dtype=int), [name, "b"], labels=("", "")),
    ]
    for figure in figures:
        svg = base64.b64decode(figure.uri.split(",")[1]).decode()
        assert f">{drawn}</text>" in svg


def test_an_image_that_is_gone_is_named(run):
    folder, data, _ = run()
    os.remove(f"{data.image_root}/2.png")
    page = write_report(folder, datasets=[data]).read_text()
    assert page.count("The image cannot be read.") == 2  # in both panels
    assert page.count("<image ") == page.count("<use ") == 1 and page.count("<svg ") == 4


def test_a_folder_without_results(tmp_path):
    with pytest.raises(FileNotFoundError, match="no results.json"):
        write_report(str(tmp_path))


def test_the_engine_writes_it_and_outlives_its_failure(run, caplog):
    folder, data, _ = run()
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.DATASETS.TEST = folder, (data.name,)
    cfg.TEST.REPORT = False
    with caplog.at_level("INFO", logger="resnest_d2"):
        page = f"{folder}/report.html"
        report(cfg)
        assert not os.path.exists(page)
        cfg.TEST.REPORT = True
        report(cfg)
        assert os.path.getsize(page) > 10_000 and "ERROR" not in caplog.text
        shutil.rmtree(f"{folder}/inference")
        report(cfg)
        assert "no new report (MissingFileError" in caplog.text
        MetadataCatalog.get(data.name).__dict__["evaluator_type"] = "coco_panoptic_seg"
        report(cfg)
    assert f"No report of {data.name}" in caplog.text


@needs_chromium
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize(("kind", "number"), [("report", 8), ("comparison", 3)])
def test_chromium_shows_it(kind, number, width, run, tmp_path):
    folder, data, _ = run()
    page = write_report(folder, datasets=[data])
    if kind == "comparison":
        page = write_comparison(folder, folder, str(tmp_path / "both.html"))
    shown, fits, images, broken = use(
        page,
        """return [view.innerWidth, page.documentElement.scrollWidth <= view.innerWidth,
        all("img, image").length, all("img").filter(i => !i.naturalWidth).length];""",
        width=width,
    )
    assert (shown, fits, broken) == (width, True, 0) and images >= number
