"""What a training leaves in its folder: the config, and the checkpoint to take."""

import os

RUN_WEIGHTS = ("model_best.pth", "model_final.pth")  # the first that is there


def find_run(folder: str) -> tuple[str, str | None]:
    """Config file of a run, and its best or else last checkpoint, if there is one.

    Raises:
        FileNotFoundError: the folder has no config.yaml.
    """
    config = os.path.join(folder, "config.yaml")
    if not os.path.isfile(config):
        raise FileNotFoundError(
            f"{folder} is a folder without config.yaml; give the OUTPUT_DIR of a run, a config "
            "file, or a name that `resnest-d2 list` shows."
        )
    files = (os.path.join(folder, name) for name in RUN_WEIGHTS)
    return config, next(filter(os.path.isfile, files), None)
