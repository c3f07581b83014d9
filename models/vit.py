"""ViT, the small vision transformer of S2: patches as tokens, one class token, ten encoder blocks."""

import torch
from torch import nn

from models.checks import check_arguments, check_batch

PATCH = 16  # pixels of its side


class ViT(nn.Module):
    """Vision transformer; 21,459,460 parameters at 3×128×128 and 4 classes.

    Source: S2's code, after Dosovitskiy et al. 2021 (arXiv:2010.11929); patch 16, width 512, depth 10, 8 heads, MLP
    1024. It differs from the paper: its blocks normalise last (torch's `TransformerEncoderLayer` as it is, with ReLU),
    the input of a block is added to its output once more, one norm is shared by all blocks, and dropout follows the
    logits.

    Arguments and shapes as of `CustomCNN`; the patch's 16 pixels divide `image_size`.
    """

    def __init__(
        self, *, num_classes: int = 4, in_channels: int = 3, image_size: int = 128, dim: int = 512, depth: int = 10
    ):
        super().__init__()
        check_arguments(num_classes, in_channels, image_size, multiple=PATCH)
        self.in_channels, self.image_size = in_channels, image_size
        self.positions = nn.Parameter(torch.randn(1, (image_size // PATCH) ** 2 + 1, dim))
        self.class_token = nn.Parameter(torch.randn(1, 1, dim))
        self.embed = nn.Linear(in_channels * PATCH**2, dim)
        blocks = [nn.TransformerEncoderLayer(dim, 8, 2 * dim, 0.2, batch_first=True) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, num_classes), nn.Dropout(0.2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_batch(x, self.in_channels, self.image_size)
        x = x.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # B × channels × rows × columns × 16 × 16
        x = self.embed(x.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2))  # B × patches × dim
        # Not len(x), which would fix the number of images in an exported graph.
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for block in self.blocks:
            x = self.norm(block(x) + x)
        return self.head(x[:, 0])
