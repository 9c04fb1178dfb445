"""History: what is kept, what is shown again, and what a step that does not count changes."""

from __future__ import annotations

import torch

from deflow_cli.models.translation.history import ImageHistory

YES, NO = torch.tensor(True), torch.tensor(False)


def picture(value: float) -> torch.Tensor:
    return torch.full((1, 3, 4, 4), value)


def shown(history: ImageHistory, value: float, random: torch.Generator) -> float:
    image, kept = history.exchange(picture(value), random)
    history.commit(kept, YES)
    return image.mean().item()


def test_pictures_are_shown_themselves_until_it_is_full_and_then_half_of_the_time():
    history, random = ImageHistory(50, 4), torch.Generator().manual_seed(0)
    assert [shown(history, float(value), random) for value in range(50)] == list(range(50))
    assert history.count.item() == 50
    held = set(range(50))
    again = 0
    for value in range(50, 450):
        seen = shown(history, float(value), random)
        if seen != value:
            assert seen in held
            held = held - {int(seen)} | {value}
            again += 1
    assert {int(image.mean()) for image in history.images} == held
    assert 170 < again < 230  # 200 of 400, standard deviation 10


def test_a_step_that_does_not_count_changes_nothing():
    history, random = ImageHistory(2, 4), torch.Generator().manual_seed(0)
    _, kept = history.exchange(picture(0.5), random)
    history.commit(kept, NO)
    assert (history.count.item(), history.images.abs().sum().item()) == (0, 0)
    history.commit(kept, YES)
    assert (history.count.item(), history.images[0].mean().item()) == (1, 0.5)


def test_none_are_kept_without_room():
    history, random = ImageHistory(0, 4), torch.Generator().manual_seed(0)
    assert [shown(history, value, random) for value in (1.0, 2.0, 3.0)] == [1.0, 2.0, 3.0]


def test_its_pictures_belong_to_the_state():
    history = ImageHistory(3, 4)
    assert set(history.state_dict()) == {"images", "count"}
