"""ViT, a small vision transformer of S2's sizes: patches as tokens, one class token, ten encoder blocks."""

import torch
from torch import nn

from models.checks import check_arguments, check_batch

PATCH = 16  # pixels of its side


class ViT(nn.Module):
    """Vision transformer; 21,459,460 parameters at 3×128×128 and 4 classes.

    Source: Dosovitskiy et al. 2021 (arXiv:2010.11929); patch 16, width 512, depth 10, 8 heads, MLP 1024 from S2.
    The parameter count fixes two layer norms beside those of the blocks: one on the embedded patches, one
    before the head. Blocks normalise first (pre-norm), as the paper does.

    Arguments and shapes as of `CustomCNN`; the patch's 16 pixels divide `image_size`.
    """

    def __init__(
        self, *, num_classes: int = 4, in_channels: int = 3, image_size: int = 128, dim: int = 512, depth: int = 10
    ):
        super().__init__()
        check_arguments(num_classes, in_channels, image_size, multiple=PATCH)
        self.in_channels, self.image_size = in_channels, image_size
        patches = (image_size // PATCH) ** 2
        self.embed = nn.Conv2d(in_channels, dim, PATCH, stride=PATCH)
        self.embed_norm = nn.LayerNorm(dim)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, patches + 1, dim) * 0.02)
        self.dropout = nn.Dropout(0.2)
        args = {"activation": "gelu", "batch_first": True, "norm_first": True}
        block = nn.TransformerEncoderLayer(dim, 8, 2 * dim, 0.2, **args)
        # Nested tensors speed up padded sequences; every image here has the same number of patches.
        self.encoder = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_batch(x, self.in_channels, self.image_size)
        x = self.embed(x).flatten(2).transpose(1, 2)  # B × patches × dim
        # Not len(x), which would fix the number of images in an exported graph.
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), self.embed_norm(x)], dim=1)  # B × (1+patches) × dim
        x = self.encoder(self.dropout(x + self.positions))
        return self.head(self.norm(x[:, 0]))
