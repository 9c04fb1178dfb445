"""The table of goals: targets are read, medians are right, and what is real beats what is not."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def goals(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import realism_goals

    return realism_goals


def scene(seed, side=96):
    """A ramp of brightness, its lower half with texture."""
    generator = np.random.default_rng(seed)
    picture = np.linspace(50, 200, side)[None, :, None] * np.ones((side, 1, 3))
    picture[side // 2 :] += 15 * generator.standard_normal((side // 2, side, 1))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def camera(clean, seed):
    """Noise that is coarse along rows and stronger where the picture is bright."""
    white = np.random.default_rng([seed, 7]).standard_normal(clean.shape)
    coarse = (white + np.roll(white, 1, axis=1)) / np.sqrt(2)
    noisy = clean + (2 + clean / 25) * coarse
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def pairs_of(count=2):
    from realism_data import Pair

    return [Pair(f"scene{n}", scene(n), camera(scene(n), n)) for n in range(count)]


@pytest.fixture
def folders(tmp_path):
    """A small domain as the benches read one, of the name of a domain with targets."""
    for name, first, count in (("train", 10, 3), ("test", 0, 2)):
        for side in ("clean", "noisy"):
            folder = tmp_path / "polyu_camera" / name / side
            folder.mkdir(parents=True)
            for n in range(first, first + count):
                picture = scene(n) if side == "clean" else camera(scene(n), n)
                Image.fromarray(picture).save(folder / f"scene{n}.png")
    return tmp_path


def test_true_noise_drawn_again_beats_white_noise(goals):
    truth = goals.Truth(pairs_of())
    again = truth.measure([camera(pair.clean, 50 + n) for n, pair in enumerate(truth.pairs)], seed=0)
    sigmas = goals.white_sigmas(truth.pairs, truth.statistics)
    white = goals.best_white_run(truth, sigmas, seed=0)
    real = truth.values
    for column in goals.COLUMNS:
        if column.key in ("kl", "acf_rms", "psd_db", "std_dark", "std_bright"):
            wanted = real[column.key]
            assert column.miss(again[column.key], wanted) < column.miss(white[column.key], wanted)
    assert 0.95 < again["std_dark"] < 1.05
    assert white["std_dark"] > 1.2 > 0.9 > white["std_bright"]
    assert math.isnan(again["cnn"])  # two pictures are too few


def test_a_copy_of_the_real_noise_is_perfect(goals):
    truth = goals.Truth(pairs_of())
    run = truth.measure([pair.noisy for pair in truth.pairs], seed=0)
    for column in goals.COLUMNS:
        if column.key != "cnn":
            assert column.miss(run[column.key], truth.values[column.key]) == pytest.approx(0, abs=1e-9)


def test_thirds_make_up_the_whole(goals):
    truth = goals.Truth(pairs_of())
    count, energy = truth.regions.sum(axis=0).T
    assert count[:3].sum() == sum(pair.clean.size for pair in truth.pairs)
    shares = count / count[:3].sum()
    assert shares[[0, 1, 2, 4]] == pytest.approx(1 / 3, abs=0.02)
    assert shares[3] >= 1 / 3 - 1e-6  # pixels as flat as the boundary belong to the flat ones
    assert energy[:3].sum() / count[:3].sum() == pytest.approx(truth.statistics.std**2)
    assert truth.values["std_dark"] < truth.values["std_middle"] < truth.values["std_bright"]


def test_cells_are_medians_with_their_spread(goals):
    row = goals.Row("ours", "model", [{"kl": value} for value in (0.5, 0.1, 0.2)])
    column = goals.COLUMNS[0]
    assert row.median("kl") == 0.2
    assert row.cell(column) == "0.2000 (0.1000..0.5000)"
    assert goals.Row("ours", "model", row.runs[:1]).cell(column) == "0.5000"
    assert goals.Row("ours", "model", [{"kl": math.nan}]).cell(column) == "–"


def test_rows_that_print_alike_are_equally_good(goals):
    rows = [
        goals.Row(name, "model", [figures(goals, kl=kl)]) for name, kl in (("a", 0.00312), ("b", 0.00309))
    ]
    real = {column.key: 0.9 for column in goals.COLUMNS}
    assert goals.verdicts(rows[0], rows, real, "isp")[0].best == ["a", "b"]


def figures(goals, **changes):
    """A run that meets all targets of polyu_camera, but for the changes."""
    good = {column.key: 1.0 if column.rule == "ratio" else 0.0 for column in goals.COLUMNS}
    return {**good, "cnn": 0.6, "low_pass_psnr": 50.0, "finest_kept": 0.9, **changes}


def test_verdicts_read_the_targets_and_find_the_best_row(goals):
    runs = [figures(goals, kl=0.007, std_dark=0.91), figures(goals, kl=0.005, std_flat=0.8)]
    ours = goals.Row("ours", "model", [*runs, figures(goals, kl=0.0065, colour_shift=0.2)])
    rival = goals.Row("rival", "rival", [figures(goals, kl=0.004, std_dark=1.3, cnn=0.45)])
    floor = goals.Row("floor", "floor", [figures(goals, kl=0.001)])
    real = {column.key: 49.0 if column.rule == "kept" else 0.9 for column in goals.COLUMNS}
    found = {one.column.key: one for one in goals.verdicts(ours, [ours, rival, floor], real, "polyu_camera")}
    assert (found["kl"].target, found["kl"].meets, found["kl"].met) == (0.006, False, 1)
    assert found["kl"].best == ["rival"]
    assert (found["std_dark"].meets, found["std_dark"].met, found["std_dark"].best) == (True, 3, ["ours"])
    assert (found["std_flat"].meets, found["std_flat"].met) == (True, 2)
    assert (found["cnn"].target, found["cnn"].best) == (0.70, ["rival"])
    assert (found["low_pass_psnr"].target, found["low_pass_psnr"].best) == (48, ["ours", "rival"])
    assert (found["finest_kept"].target, found["finest_kept"].meets) == (None, None)
    lines = goals.verdict_table(ours, list(found.values())).splitlines()
    assert lines[2] == "| KL, pooled | ≤ 0.0060 | 0.0065 (0.0050..0.0070) | no (1 of 3) | no: rival |"
    assert "| std dark | within 10 % | 1.00 (0.91..1.00) | yes (3 of 3) | yes |" in lines


def test_domains_have_the_targets_of_their_own(goals):
    targets = goals.TARGETS
    assert {name: row["kl"] for name, row in targets.items()} == {
        "polyu_camera": 0.006, "isp": 0.004, "scan-like": 0.004, "ntire-like": 0.0004,
    }  # fmt: skip
    for row in targets.values():
        assert set(row) == {column.key for column in goals.COLUMNS} - {"finest_kept"}


def white_of(path, temperature):
    sigma = float(Path(path).stem) / 255
    return lambda image, generator: image + sigma * torch.randn(image.shape, generator=generator)


def test_the_script_writes_the_table_of_fits_with_other_seeds(goals, folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(goals, "model_degrader", white_of)
    out = tmp_path / "out"
    command = f"--data {folders} --domain polyu_camera --seeds 2 --threads 1 --out {out}"
    goals.main([*command.split(), "--models", "ours=4,12,5", "--null-model", "1"])
    text = (out / "realism-goals-polyu_camera.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == text.strip()
    assert "| ours (3 fits) |" in text
    assert "it adds 1.0" in text
    facts = json.loads((out / "realism-goals-polyu_camera.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in facts["rows"]}
    assert [row["kind"] for row in facts["rows"]] == ["floor", *["rival"] * 4, "model"]
    assert {len(row["runs"]) for name, row in rows.items() if name != "ours (3 fits)"} == {2}
    ours = rows["ours (3 fits)"]
    assert [run["std_fake"] for run in ours["runs"]] == pytest.approx([4, 12, 5], rel=0.05)
    assert ours["median"]["std_flat"] == ours["runs"][2]["std_flat"]
    assert facts["verdicts"]["ours (3 fits)"]["std_dark"]["target"] == 0.10
    assert facts["null_std"] == pytest.approx([1.0], abs=0.1)


def test_each_of_several_models_can_be_drawn_several_times(goals, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(goals, "model_degrader", white_of)
    command = f"--data {folders} --domain polyu_camera --out {tmp_path} --seeds 1 --threads 1 --samples 2"
    goals.main([*command.split(), "--models", "ours=4,12,5"])
    rows = json.loads((tmp_path / "realism-goals-polyu_camera.json").read_text(encoding="utf-8"))["rows"]
    assert [run["std_fake"] for run in rows[-1]["runs"]] == pytest.approx([4, 12, 5, 4, 12, 5], rel=0.05)
    assert rows[-1]["name"] == "ours (3 fits, 6 draws)"


def test_null_folders_are_alternate_clean_files(goals, folders, tmp_path):
    null = tmp_path / "null"
    goals.main(["--data", str(folders), "--domain", "polyu_camera", "--write-null-folders", str(null)])
    names = {side: sorted(path.name for path in (null / side).iterdir()) for side in "ab"}
    assert names == {"a": ["scene10.png", "scene12.png"], "b": ["scene11.png"]}
    source = folders / "polyu_camera/train/clean/scene11.png"
    assert (null / "b/scene11.png").read_bytes() == source.read_bytes()


def test_models_need_a_name(goals):
    assert goals.named_files(["tiny=a,b", "base=c", "tiny=d"]) == {"tiny": ["a", "b", "d"], "base": ["c"]}
    with pytest.raises(SystemExit, match="NAME=FILE"):
        goals.named_files(["model.safetensors"])
