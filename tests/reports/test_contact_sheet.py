"""Contact sheets put the right pixels in the right place."""

import numpy as np
import pytest

from deflow_cli.errors import DataError, ShapeError
from deflow_cli.reports.contact_sheet import contact_sheet, residual_view, side_by_side


def picture(value, height=40, width=60):
    """One colour that no grey text has."""
    return np.full((height, width, 3), (value, 255 - value, 7), dtype=np.uint8)


def find(sheet, value):
    """Top, left, height and width of the block of one picture's colour."""
    rows, columns = np.nonzero((sheet == (value, 255 - value, 7)).all(axis=2))
    return rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1


def test_grid_keeps_every_picture_whole_and_in_order():
    sheet = contact_sheet(
        [[picture(10), picture(20)], [picture(30, 20), picture(40, 20, 30)]], ["left", "right"]
    )
    boxes = {value: find(sheet, value) for value in (10, 20, 30, 40)}
    assert boxes[10][2:] == (40, 60)
    assert boxes[40][2:] == (20, 30)
    assert boxes[10][0] == boxes[20][0] < boxes[30][0] == boxes[40][0]
    assert boxes[10][1] == boxes[30][1] < boxes[20][1] == boxes[40][1]


def test_labels_are_drawn_and_take_their_room():
    pictures = [[picture(100)], [picture(120)]]
    plain = contact_sheet(pictures, [""])
    labelled = contact_sheet(pictures, ["real"], ["first", "second"])
    assert (plain[:16] == 255).all()
    assert (labelled[:16] < 128).any()
    assert labelled.shape[1] > plain.shape[1]
    left = find(labelled, 100)[1]
    assert (labelled[20:60, :left] < 128).any()


def test_long_label_stays_in_its_column():
    sheet = contact_sheet([[picture(100), picture(120)]], ["a label far too long for sixty pixels", ""])
    second = find(sheet, 120)[1]
    assert (sheet[:16, second:] == 255).all()
    assert (sheet[:16, :second] < 128).any()


def test_a_long_row_label_leaves_room_for_the_pictures():
    sheet = contact_sheet([[picture(100)]], [""], ["a name of " + 200 * "n"])
    assert sheet.shape[1] < 350


@pytest.mark.parametrize("letters", ["σλ", "йж", "éß", "…–"])
def test_letters_beyond_ascii_are_drawn(letters: str):
    """Not each as the same box, which a font draws in place of what it lacks."""
    one, other = (contact_sheet([[picture(100)]], [letter]) for letter in letters)
    assert not np.array_equal(one, other)


def test_scale_repeats_pixels():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
    sheet = contact_sheet([[pixels]], [""], scale=3)
    assert (sheet == pixels[1, 1]).all(axis=2).sum() == 9


def test_grey_and_alpha_pictures_become_rgb():
    sheet = contact_sheet([[np.full((8, 8), 50, np.uint8), np.full((8, 8, 4), 60, np.uint8)]], ["", ""])
    assert [(sheet == value).all(axis=2).sum() for value in (50, 60)] == [64, 64]


def test_residual_view_is_grey_at_zero_and_amplifies():
    residual = np.zeros((1, 3, 3))
    residual[0, 1] = 5 / 255
    residual[0, 2] = -50 / 255
    assert residual_view(residual, gain=8)[0, :, 0].tolist() == [128, 168, 0]


def test_side_by_side_aligns_on_top():
    row = side_by_side([picture(10, 20, 8), picture(20, 10, 6)], gap=2)
    assert row.shape == (20, 16, 3)
    assert (row[:10, 10:] == (20, 235, 7)).all()
    assert (row[10:, 8:] == 255).all()


def test_bad_grids_say_what_is_wrong():
    with pytest.raises(DataError, match="row 2 has 1 pictures for 2"):
        contact_sheet([[picture(1), picture(2)], [picture(3)]], ["a", "b"])
    with pytest.raises(DataError, match="1 row labels for 2 rows"):
        contact_sheet([[picture(1)], [picture(2)]], ["a"], ["one"])
    with pytest.raises(DataError, match="at least one row"):
        contact_sheet([], ["a"])
    with pytest.raises(DataError, match="no picture"):
        side_by_side([])
    with pytest.raises(ShapeError, match="float64"):
        contact_sheet([[np.zeros((4, 4, 3))]], ["a"])
