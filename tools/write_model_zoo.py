#!/usr/bin/env python3
"""Write MODEL_ZOO.md from the table of published models; --check only compares."""

import argparse
import sys
from pathlib import Path

from tabulate import tabulate

from resnest_d2.model_zoo import Model, models

TARGET = Path(__file__).parents[1] / "MODEL_ZOO.md"
HEAD = """# Model zoo

Every published ResNeSt detector and backbone, by the name that `resnest://` and
`resnest_d2.model_zoo` know it by. This file is written by `tools/write_model_zoo.py` from
`resnest_d2/model_zoo/models.yaml`; how to use it stands in [docs/weights.md](docs/weights.md).

Box and mask AP: percent, COCO 2017 val, as published. Memory: GB a GPU in training, 2 images of
up to 1333 px a side. Top-1: percent, ImageNet val.
"""
SOURCES = {
    "mmdetection": "From mmdetection: its cascades, its decoding and its resize.",
    "authors": "From the authors: detectron2's cascades, SyncBN in the FPN too.",
    "timm": "From timm, which fetches them: `pip install 'resnest-d2[timm]'`.",
}


def detectors(rows: list[Model]) -> str:
    """Table of the detectors of one source."""
    body = [
        [
            f"`{m.id}`",
            *(format(v, digits) if v else "" for v, digits in _figures(m)),
            f"[{Path(m.config).stem}](configs/{m.config})",
            f"[{m.sha256 or 'file'}]({m.weights})",
        ]
        for m in rows
    ]
    headers = ["id", "box AP", "mask AP", "PQ", "memory", "config", "weights"]
    return tabulate(body, headers=headers, tablefmt="pipe", disable_numparse=True)


def _figures(m: Model) -> list[tuple[float | None, str]]:
    digits = ".1f" if m.source == "mmdetection" else ".2f"
    return [(m.box_ap, digits), (m.mask_ap, digits), (m.pq, digits), (m.memory, ".1f")]


def backbones(rows: list[Model]) -> str:
    """Table of the backbones of one source."""
    body = [
        [
            f"`{m.id}`",
            format(m.top1, ".2f") if m.top1 else "",
            "`" + ", ".join(f"{key}: {value}" for key, value in m.config.items()) + "`",
            m.weights if m.source == "timm" else f"[{m.sha256}]({m.weights})",
        ]
        for m in rows
    ]
    headers = ["id", "top-1", "MODEL.RESNETS", "weights"]
    return tabulate(body, headers=headers, tablefmt="pipe", disable_numparse=True)


def document() -> str:
    """The whole file."""
    parts = [HEAD]
    for title, table, is_backbone in (
        ("Detectors", detectors, False),
        ("Backbones to start training from", backbones, True),
    ):
        parts.append(f"## {title}\n")
        for source, text in SOURCES.items():
            rows = [m for m in models() if m.source == source and m.is_backbone is is_backbone]
            if rows:
                parts.append(f"{text if not is_backbone or source == 'timm' else ''}\n".lstrip())
                parts.append(table(rows) + "\n")
    return "\n".join(part for part in parts if part)


def main() -> int:
    """1 if --check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    if parser.parse_args().check:
        same = TARGET.read_text() == document()
        print(f"{TARGET.name} is {'up to date' if same else 'out of date; run ' + __file__}.")
        return 0 if same else 1
    TARGET.write_text(document())
    return 0


if __name__ == "__main__":
    sys.exit(main())
