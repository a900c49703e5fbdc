"""A policy on images that is small enough to be trained within a test."""

from resip_training.algorithms.bc import BCConfig
from resip_training.models.diffusion_policy import PolicyConfig
from resip_training.models.encoder import ViewConfig

SMALL = BCConfig(
    policy=PolicyConfig(
        front=ViewConfig(top=80, left=32, height=136, width=264, reduction=4),
        wrist=ViewConfig(top=0, left=0, height=240, width=320, reduction=8, margin=2),
        feature_dim=16,
        width=64,
        blocks=2,
    ),
    batch_size=16,
    held_out=0.5,
)
