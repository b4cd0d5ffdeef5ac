"""Small detectors that find something, and their images."""

import torch


def randomise(model):
    """Statistics of norms, and heads that find something."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            torch.nn.init.uniform_(tensor, 0.6, 1.4)
        elif name.endswith(("running_mean", "bias")):
            torch.nn.init.normal_(tensor, std=0.1)
        elif "predictor" in name and name.endswith("weight"):
            torch.nn.init.normal_(tensor, std=0.05)
    return model.eval()


def images():
    torch.manual_seed(3)
    sizes = ((64, 96), (80, 64))
    return [{"image": torch.rand(3, h, w) * 255, "height": h + 6, "width": w + 9} for h, w in sizes]
