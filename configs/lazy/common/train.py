"""Settings of the training program, detectron2's tools/lazyconfig_train_net.py or one like it."""

import torch

import resnest_d2.model_zoo  # makes resnest:// known

train = {
    "output_dir": "./output",
    "init_checkpoint": "resnest://imagenet/resnest50_detectron",
    "max_iter": 87960,
    "amp": {"enabled": False},
    "ddp": {"broadcast_buffers": False, "find_unused_parameters": False, "fp16_compression": False},
    "checkpointer": {"period": 7330},
    "eval_period": 7330,
    "log_period": 20,
    "device": "cuda" if torch.cuda.is_available() else "cpu",
}
