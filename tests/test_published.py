"""The names written down in published.py are those of the reference systems."""

import published
import pytest


@pytest.mark.parametrize(
    ("oracle", "shapes"),
    [
        *(
            (f"mmdet/{kind}_s50", published.detector(f"{kind}_s50"))
            for kind in ("faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn")
        ),
        *(
            (f"authors/{name}", published.detector(name))
            for name in (
                "faster_rcnn_ResNeSt_50_FPN_syncbn_range-scale_1x",
                "faster_rcnn_ResNeSt_50_FPN_dcn_syncbn_range-scale_1x",
                "faster_cascade_rcnn_ResNeSt_50_FPN_syncbn_range-scale-1x",
                "mask_cascade_rcnn_ResNeSt_50_FPN_syncBN_1x",
            )
        ),
        *((f"timm/resnest{depth}d", published.imagenet(depth)) for depth in (14, 26, 50)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_and_shapes(oracle, shapes, oracles):
    there = {k: tuple(v.shape) for k, v in oracles.weights(oracles.load(oracle), 0).items()}
    assert shapes == there
