"""ResidualUNet: MONAI's U-Net, for comparison with `attention_unet.py`; as many parameters, but not S2's."""

from torch import Tensor, nn

from models.checks import check_batch, check_sizes


class ResidualUNet(nn.Module):
    """Strided convolutions down, transposed ones up, residual units, instance norm and PReLU.

    840,195 parameters with 4 channels in, 3 out and 16 filters, against AttentionUNet's 843,319.

    Source: Kerfoot et al. 2019 (STACOM 2018, LNCS 11395), as MONAI's `UNet` with four levels, each twice as
    wide as the one above. Arguments and shapes: `classic_unet.UNet`.
    """

    def __init__(self, *, in_channels: int = 4, out_channels: int = 3, n_filters: int = 16):
        check_sizes(in_channels=in_channels, out_channels=out_channels, n_filters=n_filters)
        from monai.networks.nets import UNet  # here, since MONAI's import takes seconds and this network alone needs it

        super().__init__()
        self.in_channels = in_channels
        widths = [n_filters * 2**level for level in range(5)]
        self.model = UNet(2, in_channels, out_channels, widths, strides=(2, 2, 2, 2), num_res_units=1).model

    def forward(self, x: Tensor) -> Tensor:
        check_batch(x, self.in_channels)
        return self.model(x)
