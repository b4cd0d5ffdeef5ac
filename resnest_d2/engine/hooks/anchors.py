"""Keeps the anchors that a training found in its config.yaml."""

import os

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from resnest_d2.engine.anchors import check_anchors_of_run
from resnest_d2.files import make_folder, whole_file


class FoundAnchorsFile(HookBase):
    """Writes OUTPUT_DIR/config.yaml, whose anchors predictions need.

    The command line writes it itself. A program may have written it before there were anchors.
    """

    def __init__(self, cfg: CfgNode):
        """
        Args:
            cfg: config of the training, with the anchors found.
        """
        self._cfg = cfg

    def before_train(self) -> None:
        """Writes the file; raises UserError if the run is resumed with other anchors."""
        if self.trainer.start_iter:
            check_anchors_of_run(self._cfg)
        comm.synchronize()  # read by every process before it is replaced
        if comm.is_main_process():
            make_folder(self._cfg.OUTPUT_DIR)
            with whole_file(os.path.join(self._cfg.OUTPUT_DIR, "config.yaml"), "w") as file:
                file.write(self._cfg.dump())
