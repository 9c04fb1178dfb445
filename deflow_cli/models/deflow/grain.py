"""Grain: noise whose strength follows brightness and texture, and whose pattern has no blocks.

A shift u = mu + M e has one covariance at all positions of a latent, independent from one position to the
next. Cameras' noise is neither. Where the couplings rest, the flow is linear in x given h, so that noise in
the latents is noise in the image; the grain is drawn there:

    y = y_0 + T s O^T (g(b, t) * O n),    y_0 = f^-1(A z_x + mu; h(x))

n is a pattern, either that of the latents, f^-1(A z_x + u; h) - y_0, or a stationary Gaussian field K * e
with the channels' cross-spectrum at each frequency. O turns red, green and blue into opponent channels:
luminance and two colour differences. g is a table for each of them over local brightness b and texture t of a
small noisy version of the image, and s one log-normal number per sample, the level of an image. Given b and t
the noise is Gaussian. Strength by brightness follows Foi et al., IEEE TIP 2008, and Abdelhamed et al., Noise
Flow, ICCV 2019.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNEL_SIDE = 64  # px; of the filter of a stationary pattern
UNMATCHED = "unmatched"  # in the place of a pattern's name: samples stay as the training left them
BRIGHTNESS_KNOTS, TEXTURE_KNOTS = 6, 8
GUIDE_SCALE = 2  # the guide is the image, made so many times smaller
GUIDE_NOISE = 0.01  # standard deviation of the noise on the guide's channels, [0, 1] scale
_WINDOW = 5  # px of the guide; side of the window that brightness and texture are averaged over
_GREY_LEVELS = 255.0


class Grain(nn.Module):
    """What a fit has matched to the degraded images; without effect until ``set`` is called.

    kernel_oiyx: 3 x 3 x 64 x 64 filter of the stationary pattern, centred at index 32; zero where the pattern
    is that of the latents. gain_cbt: g of each opponent channel at the knots of brightness and texture.
    spread: standard deviation of log s.
    """

    kernel_oiyx: Tensor
    gain_cbt: Tensor
    brightness: Tensor
    texture: Tensor
    spread: Tensor
    matched: Tensor
    stationary: Tensor
    basis: Tensor

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.register_buffer("kernel_oiyx", torch.zeros(channels, channels, KERNEL_SIDE, KERNEL_SIDE))
        self.register_buffer("gain_cbt", torch.ones(channels, BRIGHTNESS_KNOTS, TEXTURE_KNOTS))
        self.register_buffer("brightness", torch.linspace(0, 255, BRIGHTNESS_KNOTS))
        self.register_buffer("texture", torch.linspace(-2, 6, TEXTURE_KNOTS))
        self.register_buffer("spread", torch.zeros(()))
        self.register_buffer("matched", torch.zeros((), dtype=torch.bool))
        self.register_buffer("stationary", torch.zeros((), dtype=torch.bool))
        self.register_buffer("basis", opponent_basis(channels), persistent=False)

    @torch.no_grad()
    def set(
        self,
        gain_cbt: Tensor,
        brightness: Tensor,
        texture: Tensor,
        spread: float,
        kernel_oiyx: Tensor | None,
    ) -> None:
        """Take tables, their knots and a pattern; kernel None: the pattern of the latents."""
        self.gain_cbt.copy_(gain_cbt)
        self.brightness.copy_(brightness)
        self.texture.copy_(texture)
        self.spread.fill_(spread)
        self.stationary.fill_(kernel_oiyx is not None)
        self.kernel_oiyx.zero_()
        if kernel_oiyx is not None:
            self.kernel_oiyx.copy_(kernel_oiyx)
        self.matched.fill_(True)

    def gain(self, image_bchw: Tensor, noise_bhw: Tensor) -> Tensor:
        """g of the opponent channels at each pixel of whole images in [0, 1]: B C H W.

        noise: standard normals of the guide's size, ceil(H / 2) x ceil(W / 2).
        """
        brightness, texture = guide_features(image_bchw, noise_bhw)
        gain = look_up(self.gain_cbt, places(brightness, self.brightness), places(texture, self.texture))
        return full_size(gain.movedim(0, 1), image_bchw.shape[-2], image_bchw.shape[-1])


def bring_up_to_date(tensors: dict[str, Tensor]) -> None:
    """Give a model's tensors from before, which had one table for all opponent channels, one for each."""
    table, kernel = tensors.get("grain.gain_bt"), tensors.get("grain.kernel_oiyx")
    if table is not None and kernel is not None:
        del tensors["grain.gain_bt"]
        tensors["grain.gain_cbt"] = table.expand(len(kernel), *table.shape).clone()


def opponent_basis(channels: int) -> Tensor:
    """O: luminance and colour differences of equal deviation, orthonormal rows (the DCT of the channels).

    Of three: (r + g + b) / sqrt 3, (r - b) / sqrt 2, (r - 2 g + b) / sqrt 6.
    """
    row, column = torch.arange(channels, dtype=torch.float64)[:, None], torch.arange(channels) + 0.5
    basis = torch.cos(math.pi / channels * row * column)
    return (basis / basis.square().sum(1, keepdim=True).sqrt()).float()


def strengthened(pattern_bchw: Tensor, gain_bchw: Tensor, basis_oc: Tensor) -> Tensor:
    """O^T (g * O n): a pattern's opponent channels times their gains. basis: O, ``opponent_basis``."""
    luminance, colour = gain_bchw[:, :1], basis_oc[1:].to(pattern_bchw)
    differences = torch.einsum("ij,bjhw->bihw", colour, pattern_bchw)
    more = torch.einsum("ij,bihw->bjhw", colour, (gain_bchw[:, 1:] - luminance) * differences)
    return luminance * pattern_bchw + more


def guide_features(image_bchw: Tensor, noise_bhw: Tensor) -> tuple[Tensor, Tensor]:
    """Brightness and texture of the guide, each B x ceil(H / 2) x ceil(W / 2).

    The guide is the mean of the channels in grey levels (0 to 255), averaged over 2 x 2 pixels, plus noise.
    Brightness is its mean over 5 x 5, texture the logarithm of its squared gradient's mean over 5 x 5. The
    noise is stronger than what differs in fine detail between images with and without a weak degradation.
    """
    height, width = image_bchw.shape[-2:]
    grey = image_bchw.mean(1, keepdim=True) * _GREY_LEVELS
    grey = F.pad(grey, (0, width % GUIDE_SCALE, 0, height % GUIDE_SCALE), mode="replicate")
    guide = F.avg_pool2d(grey, GUIDE_SCALE)
    deviation = GUIDE_NOISE * _GREY_LEVELS / math.sqrt(image_bchw.shape[1])
    guide = guide + deviation * noise_bhw[:, None].to(guide)
    dx = F.pad(guide[..., 1:] - guide[..., :-1], (0, 1))
    dy = F.pad(guide[..., 1:, :] - guide[..., :-1, :], (0, 0, 0, 1))
    energy = _smooth(dx.square() + dy.square())
    return _smooth(guide)[:, 0], energy.clamp_min(1e-6).log()[:, 0]


def _smooth(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)


def places(values: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the knot below each value, and the share of the way to the next; ends are held."""
    values = torch.minimum(torch.maximum(values, knots[0]), knots[-1])
    below = (torch.searchsorted(knots, values.contiguous()) - 1).clamp(0, len(knots) - 2)
    return below, (values - knots[below]) / (knots[below + 1] - knots[below])


Places = tuple[Tensor, Tensor]


def look_up(table_xbt: Tensor, brightness: Places, texture: Places) -> Tensor:
    """Bilinear interpolation of tables at ``places`` of both axes; tables' leading axes come first."""
    (i, f), (j, g) = brightness, texture
    low = table_xbt[..., i, j] * (1 - g) + table_xbt[..., i, j + 1] * g
    high = table_xbt[..., i + 1, j] * (1 - g) + table_xbt[..., i + 1, j + 1] * g
    return low * (1 - f) + high * f


def spread_over(values: Tensor, brightness: Places, texture: Places, shape: tuple[int, int]) -> Tensor:
    """The transpose of ``look_up``: sums of values at the knots they lie between, with the same weights."""
    (i, f), (j, g) = brightness, texture
    total = torch.zeros(shape[0] * shape[1], dtype=torch.float64)
    for down, row in ((0, 1 - f), (1, f)):
        for right, column in ((0, 1 - g), (1, g)):
            index = ((i + down) * shape[1] + j + right).flatten()
            total.index_add_(0, index, (values * row * column).flatten().double())
    return total.view(shape)


def full_size(map_bchw: Tensor, height: int, width: int) -> Tensor:
    """Maps of the guide's size at the image's, bilinear."""
    # each alone: PyTorch rounds several channels otherwise than the single one of older models
    alone = map_bchw.flatten(0, 1)[:, None]
    large = F.interpolate(alone, scale_factor=GUIDE_SCALE, mode="bilinear", align_corners=False)
    return large.view(*map_bchw.shape[:2], *large.shape[-2:])[..., :height, :width]


def correlated(kernel_oiyx: Tensor, white_bchw: Tensor) -> Tensor:
    """White noise B x 3 x H x W under a filter of side S: B x 3 x (H - S + 1) x (W - S + 1)."""
    side = kernel_oiyx.shape[-1]
    size = (white_bchw.shape[-2], white_bchw.shape[-1])
    response = torch.fft.rfft2(kernel_oiyx.to(white_bchw), s=size)
    product = torch.einsum("oiyx,biyx->boyx", response, torch.fft.rfft2(white_bchw))
    # The FFT convolves circularly. Before the filter's last tap its support wraps around the border.
    return torch.fft.irfft2(product, s=size)[..., side - 1 :, side - 1 :]


def kernel_of(spectrum_yxab: Tensor) -> Tensor:
    """The filter (3 x 3 x S x S, centred) that gives white noise a spectrum: its Hermitian root.

    spectrum: Hermitian matrices S x S x 3 x 3 in FFT order; v times the identity is white, of variance v.
    Negative eigenvalues become zero.
    """
    values, vectors = torch.linalg.eigh(spectrum_yxab)
    root = torch.einsum(
        "yxab,yxb,yxcb->yxac", vectors, values.clamp_min(0).sqrt().to(vectors), vectors.conj()
    )
    kernel = torch.fft.ifft2(root, dim=(0, 1)).real
    return torch.fft.fftshift(kernel, dim=(0, 1)).permute(2, 3, 0, 1).contiguous()
