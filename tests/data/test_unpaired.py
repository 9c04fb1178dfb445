"""Unpaired patches: stateless batches, honest crops, broken files, threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from deflow_cli.data.images.files import Image, write_image
from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.data.unpaired import Prefetcher, UnpairedSampler, eval_crops, split_held_out
from deflow_cli.errors import DataError

HEIGHT, WIDTH = 40, 52


def coded(index: int) -> np.ndarray:
    """Every pixel tells its image (blue), column (green) and row (red)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([y, x, np.full_like(x, index)], -1).astype(np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    sides: tuple[list[Path], list[Path]] = ([], [])
    for side, start in ((0, 0), (1, 100)):
        for i in range(6):
            path = tmp_path / f"{'clean' if side == 0 else 'noisy'}/{i}.png"
            write_image(path, Image(coded(start + i)))
            sides[side].append(path)
    return sides


def sampler(folders: tuple[list[Path], list[Path]], **options: object) -> UnpairedSampler:
    settings = {"patch_size": 16, "align": 4, "flips": True, "seed": 3, **options}
    return UnpairedSampler(ImageCache(folders[0]), ImageCache(folders[1]), **settings)  # type: ignore[arg-type]


def test_batches_are_what_they_say(folders: tuple[list[Path], list[Path]]) -> None:
    made = sampler(folders)
    flips, corners, seen = set(), set(), set()
    for step in range(40):
        batch = made.batch(step, 4)
        assert batch.images_bchw.shape == (4, 3, 16, 16)
        assert batch.images_bchw.dtype == torch.uint8
        assert batch.labels_b.tolist() == [0, 1, 0, 1]
        for patch, label, key in zip(batch.images_bchw, batch.labels_b, batch.keys, strict=True):
            rows, columns, index = patch[0, :, 0].int(), patch[1, 0].int(), int(patch[2, 0, 0])
            assert bool(index >= 100) == bool(label)
            assert key.endswith(f"{'noisy' if label else 'clean'}/{index % 100}.png")
            assert (rows.diff().abs() == 1).all()
            assert (columns.diff().abs() == 1).all()
            corner = (int(rows.min()), int(columns.min()))
            assert corner[0] % 4 == corner[1] % 4 == 0
            corners.add(corner)
            seen.add(index)
            flips.add((int(rows[0] > rows[1]), int(columns[0] > columns[1])))
    assert len(flips) == 4
    assert len(seen) == 12
    assert {y for y, _ in corners} == set(range(0, HEIGHT - 15, 4))
    assert {x for _, x in corners} == set(range(0, WIDTH - 15, 4))


def test_batches_depend_on_seed_and_step_only(folders: tuple[list[Path], list[Path]]) -> None:
    one, two = sampler(folders), sampler(folders)
    later = two.batch(7, 4)
    for step in range(7):
        one.batch(step, 4)
    assert torch.equal(one.batch(7, 4).images_bchw, later.images_bchw)
    assert not torch.equal(one.batch(8, 4).images_bchw, later.images_bchw)
    assert not torch.equal(sampler(folders, seed=4).batch(7, 4).images_bchw, later.images_bchw)
    flat = sampler(folders, flips=False).batch(0, 8).images_bchw.int()
    assert (flat[:, 0].diff(dim=1) == 1).all()


def test_prefetched_batches_are_the_same(folders: tuple[list[Path], list[Path]]) -> None:
    plain = sampler(folders)
    with Prefetcher(sampler(folders), 5, 4, depth=3, workers=3) as ahead:
        for step in range(5, 25):
            batch = next(ahead)
            assert torch.equal(batch.images_bchw, plain.batch(step, 4).images_bchw)
            assert batch.keys == plain.batch(step, 4).keys
    with pytest.raises(StopIteration):
        next(ahead)


def test_batches_are_pinned_by_the_threads_that_make_them(
    folders: tuple[list[Path], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without CUDA there is no pinned memory: what would be pinned, and where, is recorded."""
    pinned: list[tuple[tuple[int, ...], str]] = []

    def pin_memory(self: torch.Tensor) -> torch.Tensor:
        pinned.append((tuple(self.shape), threading.current_thread().name))
        return self.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    made = sampler(folders)
    with Prefetcher(made, 0, 4) as ahead:
        plain = next(ahead)
    assert not pinned

    def pairs(step: int, size: int) -> tuple[object, ...]:
        images = made.batch(step, size).images_bchw
        return made.batch(step, size), (images, images), None

    with Prefetcher(pairs, 0, 4, pin=True) as ahead:
        batch, (clean, _), nothing = next(ahead)
    assert torch.equal(batch.images_bchw, plain.images_bchw)
    assert torch.equal(batch.labels_b, plain.labels_b)
    assert torch.equal(clean, plain.images_bchw)
    assert (batch.keys, nothing) == (plain.keys, None)
    assert len(pinned) % 4 == 0  # images, labels, and both of the pair
    assert {shape for shape, _ in pinned} == {(4, 3, 16, 16), (4,)}
    assert all(name.startswith("batches") for _, name in pinned)


def test_broken_and_small_images_are_dropped_the_same_way_by_all(
    folders: tuple[list[Path], list[Path]],
) -> None:
    folders[0][2].write_bytes(folders[0][2].read_bytes()[:60])
    write_image(folders[1][4], Image(coded(0)[:12]))
    one = sampler(folders)
    batches = [one.batch(step, 8) for step in range(12)]
    assert {(path.name, path.parent.name) for path, _ in one.dropped} == {
        ("2.png", "clean"),
        ("4.png", "noisy"),
    }
    reasons = dict(one.dropped)
    assert "truncated" in reasons[folders[0][2]]
    assert "52x12 is smaller than the 16 px patch" in reasons[folders[1][4]]
    assert torch.equal(sampler(folders).batch(11, 8).images_bchw, batches[11].images_bchw)
    for path in folders[0]:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no image is left"):
        sampler(folders).batch(0, 2)


def test_pool_keeps_its_bound(folders: tuple[list[Path], list[Path]]) -> None:
    size = HEIGHT * WIDTH * 3
    pool = ImageCache(folders[0], cache_bytes=2 * size)
    with ThreadPoolExecutor(4) as threads:
        images = list(threads.map(pool.get, [i % 6 for i in range(120)]))
    assert all((image[..., 2] == i % 6).all() for i, image in enumerate(images))
    assert pool.used_bytes == 2 * size
    first = pool.get(0)
    assert pool.get(0) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    tiny = ImageCache(folders[0], cache_bytes=10)
    assert tiny.get(0).shape == (HEIGHT, WIDTH, 3)
    assert tiny.used_bytes == 0


def test_split_is_deterministic_and_moves_little(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i:02d}.png" for i in range(40)]
    train, held = split_held_out(paths, 0.1, 0)
    assert len(held) == 4
    assert sorted(train + held) == paths
    moved = [Path("/elsewhere") / path.name for path in paths]
    assert [p.name for p in split_held_out(moved, 0.1, 0)[1]] == [p.name for p in held]
    assert split_held_out(paths, 0.1, 1)[1] != held
    assert set(split_held_out(paths[:-1], 0.1, 0)[1]) >= set(held) - {paths[-1]}
    assert split_held_out(paths, 0, 0) == (paths, [])
    assert split_held_out(paths[:3], 0.1, 0) == (paths[:3], [])
    assert len(split_held_out(paths[:4], 0.01, 0)[1]) == 1


def test_copies_stay_on_one_side_of_the_split() -> None:
    paths = [Path(f"d/{number:02d}.png") for number in range(30)]
    copies = {path: paths[index - 1] for index, path in enumerate(paths) if index % 2}
    for seed in range(20):
        train, held = split_held_out(paths, 0.1, seed, copies)
        assert {path.stem for path in train} | {path.stem for path in held} == {path.stem for path in paths}
        assert len(held) in (3, 4)
        assert all((path in held) == (first in held) for path, first in copies.items())
    same = dict.fromkeys(paths[1:], paths[0])  # nothing would be left to train on
    assert split_held_out(paths, 0.1, 0, same) == (paths, [])


def test_eval_crops_are_fixed_and_spread(folders: tuple[list[Path], list[Path]]) -> None:
    folders[0][1].write_bytes(b"junk")
    crops = eval_crops(ImageCache(folders[0]), 16, 12, 0)
    assert crops.shape == (12, 3, 16, 16)
    assert crops.dtype == torch.uint8
    assert torch.equal(crops, eval_crops(ImageCache(folders[0], 0), 16, 12, 0))
    counts = torch.bincount(crops[:, 2, 0, 0].int(), minlength=6)
    assert counts[1] == 0
    assert counts[[0, 2, 3, 4, 5]].min() >= 2
    assert len({tuple(c.tolist()) for c in crops[:, :2, 0, 0]}) > 6
    with pytest.raises(DataError, match="41 px"):
        eval_crops(ImageCache(folders[0]), 41, 2, 0)
