"""Pairs: matched by name, refused with a file's name, cut at the same place."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deflow_cli.data.images.files import Image, write_image
from deflow_cli.data.pairs.aligned import AlignedSampler, scan_aligned
from deflow_cli.errors import DataError


def coded(index: int, add: int = 0, height: int = 30) -> Image:
    y, x = np.mgrid[0:height, 0:40]
    return Image((np.stack([y, x, np.full_like(x, index)], -1) + add).astype(np.uint8))


def make(folder: Path, clean: str = "clean", noisy: str = "noisy") -> Path:
    for i in range(4):
        write_image(folder / clean / f"s/{i}.png", coded(i))
        write_image(folder / noisy / f"s/{i}.bmp", coded(i, add=100))
    return folder


@pytest.mark.parametrize("names", [("clean", "noisy"), ("gt", "lq")])
def test_pairs_are_cut_alike(tmp_path: Path, names: tuple[str, str]) -> None:
    pairs = scan_aligned(make(tmp_path, *names))
    assert [(a.name, b.name) for a, b in pairs] == [(f"{i}.png", f"{i}.bmp") for i in range(4)]
    sampler = AlignedSampler(pairs, patch_size=16, align=2, seed=1)
    for step in range(10):
        clean, noisy = sampler.batch(step, 4)
        assert clean.shape == noisy.shape == (4, 3, 16, 16)
        assert torch.equal(clean + 100, noisy)
        assert (clean[:, :2].flatten(2).amin(2) % 2 == 0).all()
    fresh = AlignedSampler(pairs, patch_size=16, align=2, seed=1).batch(9, 4)
    assert torch.equal(fresh[0], clean)
    assert len({int(v) for step in range(10) for v in sampler.batch(step, 4)[0][:, 2, 0, 0]}) == 4


def test_broken_partner_is_dropped_with_the_reason(tmp_path: Path) -> None:
    pairs = scan_aligned(make(tmp_path))
    pairs[0][1].write_bytes(pairs[0][1].read_bytes()[:100])
    write_image(pairs[1][1], coded(1, height=20))
    sampler = AlignedSampler(pairs, patch_size=16, seed=0)
    for step in range(10):
        assert set(sampler.batch(step, 4)[0][:, 2, 0, 0].tolist()) <= {2, 3}
    reasons = {path.name: reason for path, reason in sampler.dropped}
    assert "noisy partner" in reasons["0.png"]
    assert "another size" in reasons["1.png"]
    for _, noisy in pairs:
        noisy.write_bytes(b"")
    with pytest.raises(DataError, match="no image is left"):
        AlignedSampler(pairs, patch_size=16, seed=0).batch(0, 1)


def test_trouble_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither clean/ and noisy/ nor gt/ and lq/"):
        scan_aligned(tmp_path)
    make(tmp_path)
    write_image(tmp_path / "noisy/s/2.bmp", coded(2, height=31))
    with pytest.raises(DataError, match=r"2\.bmp: 40x31, but its clean partner is 40x30"):
        scan_aligned(tmp_path)
    write_image(tmp_path / "noisy/s/2.png", coded(2))
    with pytest.raises(DataError, match=r"2\.png: 2\.bmp in the same folder"):
        scan_aligned(tmp_path)
    (tmp_path / "noisy/s/2.png").unlink()
    (tmp_path / "noisy/s/2.bmp").unlink()
    with pytest.raises(DataError, match=r"clean/s/2\.png: has no partner named s/2"):
        scan_aligned(tmp_path)
