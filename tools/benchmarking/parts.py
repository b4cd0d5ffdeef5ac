"""Times of the parts of a detector, from hooks on its modules."""

import re
import time
from collections import defaultdict
from collections.abc import Callable

from torch import nn

_PARTS = {  # of a GeneralizedRCNN
    "backbone": "backbone and FPN",
    "proposal_generator": "RPN",
    "roi_heads.box_pooler": "pooling",
    "roi_heads.mask_pooler": "pooling",
    "roi_heads.box_head": "box head",
    "roi_heads.mask_head": "mask head",
}


def with_parts(
    run: Callable[[], object], model: nn.Module, parts: dict[str, list[float]]
) -> Callable[[], object]:
    """Wraps ``run`` so that it appends the seconds of each part of ``model`` to ``parts``."""
    spent, started = defaultdict(float), []

    def begin(*_):
        started.append(time.perf_counter())

    for name, module in model.named_modules():
        part = _PARTS.get(re.sub(r"\.\d+$", "", name))  # a cascade has one head per stage
        if part is None or isinstance(module, nn.ModuleList):
            continue

        def end(*_, part=part):
            spent[part] += time.perf_counter() - started.pop()

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end)

    def timed():
        spent.clear()
        result = run()
        for part, own in spent.items():
            parts.setdefault(part, []).append(own)
        return result

    return timed
