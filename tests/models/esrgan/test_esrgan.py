"""ESRGAN's networks and losses: sizes, starts, golden losses and gradients, torch's own as reference."""

from __future__ import annotations

import copy
import csv
import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError, ConfigError, ShapeError
from deflow_cli.models.esrgan.discriminators import (
    PatchDiscriminator,
    SpectralConv2d,
    UnetDiscriminator,
    VggDiscriminator,
    build_discriminator,
)
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.models.esrgan.losses import (
    VGG19_PLAN,
    Vgg19Features,
    pixel_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)

GENERATOR = 5


def seeded(seed: int = GENERATOR) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image(*shape: int, seed: int = 2) -> Tensor:
    return torch.rand(shape, generator=seeded(seed))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(**sizes: int) -> RRDBNet:
    config = RestorerConfig(**{"channels": 4, "blocks": 1, "growth_channels": 2} | sizes)
    return RRDBNet(config, seeded()).eval()


# -- generator ----------------------------------------------------------------------------------------


def test_sizes_of_the_published_networks() -> None:
    with torch.device("meta"):
        assert parameters(RRDBNet(RestorerConfig())) == 16_697_987
        assert parameters(VggDiscriminator(128)) == 14_499_401
        assert parameters(PatchDiscriminator()) == 2_765_633
        assert parameters(UnetDiscriminator()) == 4_376_897


def plain_rrdbnet(model: RRDBNet, x: Tensor) -> Tensor:
    """The definition, written out a second time with nothing but tensors and convolutions."""
    state, config = model.state_dict(), model.config

    def conv(name: str, value: Tensor) -> Tensor:
        return F.conv2d(value, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def act(value: Tensor) -> Tensor:
        return torch.where(value > 0, value, 0.2 * value)

    x = conv("conv_first", x)
    trunk = x
    for block in range(config.blocks):
        outer = trunk
        for rdb in (1, 2, 3):
            dense = [trunk]
            for index in (1, 2, 3, 4):
                dense.append(act(conv(f"body.{block}.rdb{rdb}.conv{index}", torch.cat(dense, 1))))
            trunk = trunk + 0.2 * conv(f"body.{block}.rdb{rdb}.conv5", torch.cat(dense, 1))
        trunk = outer + 0.2 * trunk
    x = x + conv("conv_body", trunk)
    for index in range(1, config.doublings + 1):
        x = act(conv(f"conv_up{index}", x.repeat_interleave(2, 2).repeat_interleave(2, 3)))
    return conv("conv_last", act(conv("conv_hr", x)))


@torch.no_grad()
def louder(model: RRDBNet) -> RRDBNet:
    """Dense convolutions start at a tenth; here they must count."""
    for name, parameter in model.named_parameters():
        if name.startswith("body."):
            parameter.normal_(0, 0.2, generator=seeded(len(name)))
    return model


@torch.no_grad()
def test_generator_against_the_definition_written_out() -> None:
    model = louder(small(blocks=2))
    x = image(2, 3, 6, 5)
    torch.testing.assert_close(model(x), plain_rrdbnet(model, x), rtol=1e-5, atol=1e-6)
    model = louder(small(scale=1))  # unshuffle 4: channel c 16 + dy 4 + dx of a cell
    cells = x[..., :4, :4]
    channels = torch.stack([cells[:, c, dy, dx] for c in range(3) for dy in range(4) for dx in range(4)], 1)
    torch.testing.assert_close(
        model(cells), plain_rrdbnet(model, channels[..., None, None]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("scale", "unshuffle", "inputs", "doublings"),
    [(4, 0, 3, 2), (2, 0, 12, 2), (1, 0, 48, 2), (2, 1, 3, 1), (1, 1, 3, 0), (8, 0, 3, 3), (1, 2, 12, 1)],
)
@torch.no_grad()
def test_every_scale_and_form(scale: int, unshuffle: int, inputs: int, doublings: int) -> None:
    model = small(scale=scale, unshuffle=unshuffle)
    assert model.conv_first.in_channels == inputs
    assert sum(name.startswith("conv_up") for name, _ in model.named_children()) == doublings
    assert model(image(2, 3, 8, 4)).shape == (2, 3, 8 * scale, 4 * scale)
    # sides that are no multiple, down to one pixel
    for height, width in ((7, 5), (2, 9), (3, 3), (1, 1)):
        out = model(image(1, 3, height, width))
        assert out.shape == (1, 3, height * scale, width * scale)
        assert out.isfinite().all()


@torch.no_grad()
def test_odd_sides_are_mirrored_up_and_cropped() -> None:
    model = small(scale=2)
    x = image(1, 3, 7, 9)
    mirrored = torch.cat([x, x[..., -2:-1, :]], 2)
    mirrored = torch.cat([mirrored, mirrored[..., -2:-1]], 3)
    assert model.multiple == 2
    assert torch.equal(model(x), model(mirrored)[..., :14, :18])


def test_start_is_a_tenth_of_kaiming_in_dense_convolutions_alone() -> None:
    model = RRDBNet(RestorerConfig(channels=32, blocks=2), seeded())
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        weight, fan_in = module.weight, module.weight[0].numel()
        assert module.bias is not None
        if name.startswith("body."):
            expected = 0.1 * math.sqrt(2 / fan_in)
            assert not module.bias.any()
            assert weight.abs().max() > 3 * expected, name  # normal, not uniform
        else:
            expected = math.sqrt(1 / (3 * fan_in))
            assert weight.abs().max() <= math.sqrt(1 / fan_in)
            assert module.bias.any()
            assert module.bias.abs().max() <= math.sqrt(1 / fan_in)
        assert weight.std().item() == pytest.approx(expected, rel=0.06), name


def test_the_start_depends_on_the_generator_alone() -> None:
    for build in (
        lambda g: RRDBNet(RestorerConfig(channels=4, blocks=1), g),
        lambda g: VggDiscriminator(32, 4, g),
        lambda g: PatchDiscriminator(4, generator=g),
        lambda g: UnetDiscriminator(4, g),
    ):
        torch.manual_seed(1)
        first = build(seeded()).state_dict()
        torch.manual_seed(2)
        second, third = build(seeded()).state_dict(), build(seeded(6)).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert any(not torch.equal(first[key], third[key]) for key in first)


@torch.no_grad()
def test_channels_last_is_kept_and_changes_nothing() -> None:
    model, x = small(), image(2, 3, 6, 6)
    expected = model(x)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    out = model(x.to(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "sizes", [{"scale": 3}, {"scale": 0}, {"unshuffle": 3}, {"blocks": 0}, {"growth_channels": 0}], ids=str
)
def test_sizes_that_no_network_has(sizes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(sizes))):
        RestorerConfig(**sizes)


# -- discriminators -----------------------------------------------------------------------------------


def test_discriminators_give_logits_of_the_published_shapes() -> None:
    x = image(2, 3, 128, 128)
    assert build_discriminator("vgg", 128, 4)(x).shape == (2, 1)
    assert build_discriminator("patch", 128, 4)(x).shape == (2, 1, 14, 14)
    assert build_discriminator("unet", 128, 4)(x).shape == (2, 1, 128, 128)
    with pytest.raises(ConfigError, match="wgan"):
        build_discriminator("wgan", 128)


def test_tensor_names_are_those_of_published_discriminators() -> None:
    vgg = VggDiscriminator(128, 4).state_dict()
    assert {"conv0_0.bias", "bn0_1.running_mean", "conv4_1.weight", "bn4_0.bias", "linear2.weight"} <= set(
        vgg
    )
    assert not {"bn0_0.weight", "conv0_1.bias", "conv1_0.bias", "conv5_0.weight"} & set(vgg)
    assert vgg["linear1.weight"].shape == (100, 32 * 4 * 4)
    assert "conv5_1.weight" in VggDiscriminator(256, 4).state_dict()
    patch = PatchDiscriminator(4).state_dict()
    convs = [key for key, value in patch.items() if value.ndim == 4]
    assert convs == [f"model.{i}.weight" for i in (0, 2, 5, 8, 11)]
    assert [key for key in patch if key.endswith("bias")] == [f"model.{i}.bias" for i in (0, 3, 6, 9, 11)]
    unet = UnetDiscriminator(4).state_dict()
    expected = {f"conv{i}.{part}" for i in (0, 9) for part in ("weight", "bias")}
    expected |= {f"conv{i}.weight_{part}" for i in range(1, 9) for part in ("orig", "u", "v")}
    assert set(unet) == expected


@pytest.mark.parametrize(("size", "stages"), [(16, 2), (32, 3), (48, 4), (64, 4), (96, 5), (192, 6)])
def test_other_sizes_of_the_vgg_discriminator(size: int, stages: int) -> None:
    model = VggDiscriminator(size, 2)
    assert model.stages == stages
    assert model(image(2, 3, size, size)).shape == (2, 1)
    with pytest.raises(ShapeError, match=f"{size}x{size}"):
        model(image(2, 3, size, size + 2))


@pytest.mark.parametrize("size", [4, 100, 130, 7])
def test_sizes_that_cannot_be_halved(size: int) -> None:
    with pytest.raises(ConfigError, match=f"{size} px"):
        VggDiscriminator(size, 2)


def test_unet_wants_multiples_of_eight() -> None:
    with pytest.raises(ShapeError, match="12x16"):
        UnetDiscriminator(2)(image(1, 3, 16, 12))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (4, 2)])
def test_spectral_norm_is_torchs(kernel: int, stride: int) -> None:
    ours = SpectralConv2d(3, 5, kernel, stride)
    theirs = nn.utils.spectral_norm(nn.Conv2d(3, 5, kernel, stride, 1, bias=False))
    theirs.load_state_dict(ours.state_dict())
    x = image(2, 3, 8, 8)
    for _ in range(3):  # in training the vectors move, and two passes share one backward
        gradients = []
        for module in (ours, theirs):
            module.zero_grad()
            loss = module(x).square().mean() + module(1 - x).square().mean()
            loss.backward()
            gradients.append(module.weight_orig.grad)
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)
        for name in ("weight_u", "weight_v"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-7)
    before = ours.weight_u.clone()
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(ours.weight_u, before)
    for _ in range(200):
        ours.train().weight()
    largest = torch.linalg.svdvals(ours.eval().weight().flatten(1))[0]
    assert largest.item() == pytest.approx(1, abs=1e-4)
    copy.deepcopy(ours)  # what torch's hook cannot do after a pass


# -- losses -------------------------------------------------------------------------------------------

REAL, FAKE = (0.3, -1.2, 2.0, 0.5), (-0.5, 0.7, 0.1, -2.0)
G_LOSS, D_LOSS = 1.300543851798786, 0.4755438517987859
G_FAKE = (-0.1708649164, -0.1351909139, -0.1538015431, -0.1965996415)
D_REAL = (-0.08366858738, -0.1284571623, -0.05304273476, -0.07837450058)
D_FAKE = (0.07913508363, 0.1148090861, 0.09619845686, 0.05340035852)


def logits(*shape: int) -> tuple[Tensor, Tensor]:
    return tuple(torch.tensor(v).view(shape).requires_grad_() for v in (REAL, FAKE))  # type: ignore[return-value]


@pytest.mark.parametrize("shape", [(4, 1), (2, 1, 2, 1), (1, 1, 2, 2)], ids=str)
def test_relativistic_losses_and_gradients(shape: tuple[int, ...]) -> None:
    real, fake = logits(*shape)
    loss = relativistic_generator_loss(real, fake)
    loss.backward()
    assert loss.item() == pytest.approx(G_LOSS, rel=1e-6)
    assert real.grad is None
    assert fake.grad is not None
    assert fake.grad.flatten().tolist() == pytest.approx(G_FAKE, rel=1e-5)
    real, fake = logits(*shape)
    loss = relativistic_discriminator_loss(real, fake)
    loss.backward()
    assert loss.item() == pytest.approx(D_LOSS, rel=1e-6)
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.flatten().tolist() == pytest.approx(D_REAL, rel=1e-5)
    assert fake.grad.flatten().tolist() == pytest.approx(D_FAKE, rel=1e-5)


def test_the_figures_are_the_recorded_ones() -> None:
    folder = os.environ.get("DEFLOW_GOLDEN")
    if not folder:
        pytest.skip("DEFLOW_GOLDEN names no folder")
    with open(Path(folder) / "esrgan_golden.csv", newline="") as file:
        golden = {row["name"]: [float(v) for v in row["value"].split()] for row in csv.DictReader(file)}
    assert golden["ragan_real_logits"] == list(REAL)
    assert golden["ragan_fake_logits"] == list(FAKE)
    assert golden["ragan_G_loss"] == [G_LOSS]
    assert golden["ragan_D_loss_joint(RealSR)"] == [D_LOSS]
    assert golden["ragan_G_grad_fake"] == list(G_FAKE)
    assert golden["ragan_D_joint_grad_real"] == list(D_REAL)
    assert golden["ragan_D_joint_grad_fake"] == list(D_FAKE)


def test_losses_of_half_precision_logits_are_float32() -> None:
    real, fake = (x.detach().bfloat16() for x in logits(4, 1))
    loss = relativistic_discriminator_loss(real, fake)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(D_LOSS, rel=1e-2)


def test_pixel_loss_is_the_mean_absolute_difference() -> None:
    a, b = image(2, 3, 4, 4), image(2, 3, 4, 4, seed=3)
    assert pixel_loss(a, b).item() == pytest.approx((a - b).abs().mean().item())


# -- VGG19 --------------------------------------------------------------------------------------------


def vgg19_state() -> dict[str, Tensor]:
    """Random weights under torchvision's names, its classifier in token size."""
    state, inputs, place = {}, 3, 0
    for outputs in VGG19_PLAN:
        if outputs:
            std = math.sqrt(2 / (inputs * 9))
            state[f"features.{place}.weight"] = std * torch.randn(
                (outputs, inputs, 3, 3), generator=seeded(place)
            )
            state[f"features.{place}.bias"] = 0.1 * torch.randn(outputs, generator=seeded(place))
            inputs = outputs
        place += 2 if outputs else 1
    return state | {"classifier.6.bias": torch.zeros(1000)}


@pytest.fixture(scope="module")
def vgg19() -> dict[str, Tensor]:
    return vgg19_state()


def test_features_are_torchvisions_conv5_4(vgg19: dict[str, Tensor]) -> None:
    torchvision = pytest.importorskip("torchvision")
    features = Vgg19Features(vgg19)
    with torch.device("meta"):
        theirs = torchvision.models.vgg19(weights=None).features[:35]
    theirs.load_state_dict(
        {key[9:]: value for key, value in vgg19.items() if key.startswith("features.")}, assign=True
    )
    x = image(1, 3, 32, 40)
    normalize = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        out = features(x)
        assert out.shape == (1, 512, 2, 2)
        assert (out < 0).any()  # before activation
        assert torch.equal(out, theirs(normalize(x)))


def test_the_feature_loss_moves_the_images_alone(vgg19: dict[str, Tensor]) -> None:
    features = Vgg19Features(vgg19)
    assert not any(parameter.requires_grad for parameter in features.parameters())
    x, target = image(1, 3, 16, 16).requires_grad_(), image(1, 3, 16, 16, seed=3).requires_grad_()
    loss = features.loss(x, target)
    with torch.no_grad():
        assert loss.item() == pytest.approx((features(x) - features(target)).abs().mean().item(), rel=1e-6)
    loss.backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert target.grad is None
    assert features.loss(x, x).item() == 0


def test_vgg_weights_from_files_and_those_that_do_not_fit(vgg19: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "vgg19.pth"
    torch.save(vgg19, path)
    x = image(1, 3, 16, 16)
    assert torch.equal(Vgg19Features(path)(x), Vgg19Features(vgg19)(x))
    for key in ("features.0.weight", "features.34.bias"):
        torch.save({k: v for k, v in vgg19.items() if k != key}, path)
        with pytest.raises(CheckpointError, match=rf"vgg19\.pth: has no tensor {key}"):
            Vgg19Features(path)
    with pytest.raises(CheckpointError, match=r"features\.36\.weight has no place"):
        Vgg19Features(vgg19 | {"features.36.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"features\.2\.weight is \(1,\)"):
        Vgg19Features(vgg19 | {"features.2.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="no such file"):
        Vgg19Features(tmp_path / "absent.pth")
