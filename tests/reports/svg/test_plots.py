"""Plots are sound SVG, say what they were given, and survive what nobody should plot."""

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from deflow_cli.errors import ShapeError
from deflow_cli.reports.svg.axes import (
    Scale,
    linear_ticks,
    log_ticks,
    shortened,
    text_width,
    tick_text,
    wrapped,
)
from deflow_cli.reports.svg.categorical_plots import mean_interval
from deflow_cli.reports.svg.heatmap import MOST_CELLS
from deflow_cli.reports.svg.markup import escaped
from deflow_cli.reports.svg.palette import SERIES, diverging, series_colour, series_pattern
from deflow_cli.reports.svg.plots import Series, bar_plot, heatmap, histogram_plot, line_plot, strip_plot

SVG = "{http://www.w3.org/2000/svg}"
NAN, INF = math.nan, math.inf
HOSTILE = "<b>&\"'</svg>]]>\x00\udcff\u202e"


def parsed(svg):
    """The root, after the checks that hold for every plot."""
    root = ET.fromstring(svg)
    assert root.tag == SVG + "svg"
    assert root.get("role") == "img"
    assert root[0].tag == SVG + "title"
    assert root[0].text
    assert root[1].tag == SVG + "desc"
    assert root[1].text
    _, _, width, height = map(float, root.get("viewBox").split())
    assert width == 480
    assert 50 < height < 3000
    assert "id" not in {name for node in root.iter() for name in node.attrib}
    outside = re.sub(r'data:image/png;base64,[^"]*', "", svg).replace("http://www.w3.org/2000/svg", "")
    assert "//" not in outside
    assert "nan" not in outside.lower().replace("nanometre", "")
    assert not re.search(r"[\s\"(:]-?inf", outside)
    return root


def texts(root):
    return ["".join(node.itertext()) for node in root.iter(SVG + "text")]


def find(root, tag):
    return list(root.iter(SVG + tag))


def strokes(root):
    """The paths of data lines: (d, style, dash)."""
    return [
        (p.get("d"), p.get("style"), p.get("stroke-dasharray"))
        for p in find(root, "path")
        if "stroke:var(--s" in p.get("style", "")
    ]


def boxes(root):
    """(left, right, top, bottom) of each text, by the plot's own estimate."""
    for node in find(root, "text"):
        size = re.search(r"font-size:([\d.]+)px", node.get("style") or "")
        size = float(size.group(1)) if size else 15.0
        width = text_width("".join(node.itertext()), size)
        x, y = float(node.get("x")), float(node.get("y"))
        left = {"middle": x - width / 2, "end": x - width, None: x}[node.get("text-anchor")]
        yield left, left + width, y - size * 0.7, y


EVERY = [
    line_plot([Series("a", [0, 1, 2], [1, 3, 2])], x_label="x", y_label="y", title="t"),
    histogram_plot([0, 1, 2], [("a", [1, 3])], x_label="x", title="t"),
    strip_plot([("a", [1, 2, 3]), ("b", [2.0])], x_label="x", title="t"),
    heatmap([[1.0, -1.0], [0.5, 0.0]], title="t", x_label="x", y_label="y", cells=True),
    bar_plot([("a", 1.0, 0.5, 1.5), ("b", -1.0, None, None)], x_label="x", title="t"),
]
EMPTY = [
    line_plot([], x_label="x", y_label="y"),
    line_plot([Series("a", [], [])], x_label="x", y_label="y", title="t"),
    line_plot([Series("a", [1, 2], [NAN, INF])], x_label="x", y_label="y"),
    line_plot([Series("a", [1, 2], [0, -1])], x_label="x", y_label="y", log_y=True),
    line_plot([Series("a", [0, -1], [1, 2])], x_label="x", y_label="y", log_x=True),
    histogram_plot([0, 1, 2], [("a", [0, 0])], x_label="x"),
    histogram_plot([], [], x_label="x"),
    histogram_plot([0, 1], [("a", [NAN])], x_label="x"),
    strip_plot([], x_label="x"),
    strip_plot([("a", []), ("b", [NAN, -INF])], x_label="x"),
    heatmap([], title="t"),
    heatmap(np.full((3, 3), NAN)),
    bar_plot([], x_label="x"),
    bar_plot([("a", None, None, None), ("b", NAN, 1.0, 2.0)], x_label="x"),
]


@pytest.mark.parametrize("svg", EVERY)
def test_every_plot_is_sound_and_keeps_its_words_inside(svg):
    root = parsed(svg)
    assert "t" in texts(root)
    assert "x" in texts(root)
    height = float(root.get("viewBox").split()[3])
    for left, right, top, bottom in boxes(root):
        assert left >= -1
        assert right <= 481
        assert top >= 0
        assert bottom <= height


@pytest.mark.parametrize("svg", EMPTY)
def test_nothing_to_draw_is_said(svg):
    assert "no data" in texts(parsed(svg))


def test_hostile_names_come_back_as_text():
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\udcff", "\ufffd")
    label = {"x_label": HOSTILE, "title": HOSTILE}
    plots = [
        line_plot([Series(HOSTILE, [0, 1], [0, 1])], y_label=HOSTILE, **label),
        histogram_plot([0, 1], [(HOSTILE, [1])], y_label=HOSTILE, **label),
        strip_plot([(HOSTILE, [0, 1])], **label),
        bar_plot([(HOSTILE, 1, 0, 2)], **label),
        heatmap([[1, 2]], y_label=HOSTILE, x_ticks=[HOSTILE, "b"], **label),
    ]
    for svg in plots:
        root = parsed(svg)
        assert shown in texts(root)
        assert root[0].text == shown
        assert not find(root, "b")
        svg.encode("utf-8")


def test_escaped_leaves_honest_text_alone():
    assert escaped("größe 寸法 ≤ 3\n") == "größe 寸法 ≤ 3\n"
    assert escaped("<&>\"'") == "&lt;&amp;&gt;&quot;&#x27;"


@pytest.mark.parametrize("exponent", [-12, -3, 0, 4, 9])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.37, 0.92), (13, 97), (-8, -7.2), (0.1, 0.10001)])
def test_ticks_are_nice_and_inside(low, high, exponent):
    low, high = low * 10.0**exponent, high * 10.0**exponent
    ticks = linear_ticks(low, high, 6)
    assert 2 <= len(ticks) <= 7
    step = ticks[1] - ticks[0]
    mantissa = step / 10.0 ** math.floor(math.log10(step) + 1e-6)
    assert min(abs(mantissa - nice) for nice in (1, 2, 5)) < 1e-3
    slack = 1e-5 * (high - low)
    assert low - slack <= ticks[0]
    assert ticks[-1] <= high + slack
    assert np.allclose(np.diff(ticks), step, rtol=1e-3)
    labels = [label for _, label in Scale(low, high, 0, 100).ticks(6)]
    assert len(set(labels)) == len(labels)


def test_tick_labels():
    def labels(low, high, count=5, log=False):
        return [label for _, label in Scale(low, high, 0, 1, log).ticks(count)]

    assert labels(0, 1) == ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert labels(-0.04, 0.04, 4) == ["−0.04", "−0.02", "0", "0.02", "0.04"]
    assert labels(0, 4e6, 4) == ["0", "10⁶", "2·10⁶", "3·10⁶", "4·10⁶"]
    assert labels(-2e-6, 0, 2) == ["−2·10⁻⁶", "−10⁻⁶", "0"]
    assert labels(0.1, 1000, log=True) == ["0.1", "1", "10", "100", "1000"]
    assert labels(1e-6, 1, 7, log=True) == ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "0.1", "1"]
    assert labels(2, 30, log=True) == ["2", "5", "10", "20"]
    assert log_ticks(2.1, 4.5) == linear_ticks(2.1, 4.5)
    assert tick_text(-0.0, 0.5) == "0"
    assert len(log_ticks(1e-30, 1e30)) <= 6


def test_a_line_goes_where_its_points_are():
    root = parsed(line_plot([Series("a", [0, 10], [0, 4])], x_label="x", y_label="y", y_range=(0, 8)))
    ((d, _, dash),) = [s for s in strokes(root) if "L" in s[0]]
    assert dash is None
    (x0, y0), (x1, y1) = ([float(v) for v in p.split()] for p in d[1:].split("L"))
    at = {"".join(t.itertext()): (float(t.get("x")), float(t.get("y"))) for t in find(root, "text")}
    assert x0 < x1
    assert x0 == pytest.approx(at["4"][0] + 8, abs=0.02)
    # The label of a tick stands 5 below its line; 0 is the name of a tick on both axes.
    assert y1 == pytest.approx(at["4"][1] - 5, abs=0.02)
    assert y0 - y1 == pytest.approx(2 * ((at["2"][1]) - at["4"][1]), abs=0.02)


def test_gaps_break_a_line_and_lonely_points_are_dots():
    x = list(range(40))
    y = [1.0] * 10 + [NAN] + [2.0] + [INF] + [3.0] * 27
    root = parsed(line_plot([Series("a", x, y)], x_label="x", y_label="y"))
    (d, _, _) = next(s for s in strokes(root) if "L" in s[0])
    assert d.count("M") == 2
    assert len(find(root, "circle")) == 1
    assert find(root, "circle")[0][0].text == "a: 2 at 11"


def test_zeros_break_a_logarithmic_line():
    log = {"log_x": True, "log_y": True}
    svg = line_plot([Series("a", [0, 1, 10, 100, 1000], [1, 1, 0, 10, 100])], x_label="x", y_label="y", **log)
    root = parsed(svg)
    (d, _, _) = next(s for s in strokes(root) if "L" in s[0])
    assert d.count("M") == 1
    assert d.count("L") == 1
    assert len(find(root, "circle")) == 3


def test_thousands_of_points_keep_their_extremes():
    y = np.zeros(50_000)
    y[31_234], y[777] = 5.0, -3.0
    svg = line_plot([Series("a", np.arange(y.size), y)], x_label="x", y_label="y")
    parsed(svg)
    assert len(svg) < 60_000
    (d, _, _) = next(s for s in strokes(ET.fromstring(svg)) if "L" in s[0])
    heights = [float(p.split()[1]) for p in d[1:].split("L")]
    full = parsed(line_plot([Series("a", [0, 1, 2], [5, -3, 0])], x_label="x", y_label="y"))
    (e, _, _) = next(s for s in strokes(full) if "L" in s[0])
    due = [float(p.split()[1]) for p in e[1:].split("L")]
    assert min(heights) == due[0]
    assert max(heights) == due[1]


def test_series_are_told_apart_and_dashes_kept():
    lines = [Series(f"s{k}", range(20), [k] * 20) for k in range(12)]
    root = parsed(line_plot(lines, x_label="x", y_label="y"))
    kinds = {(style, dash) for d, style, dash in strokes(root) if "L" in d}
    assert len(kinds) == 12
    assert {series_pattern(k) for k in range(3)} == {None}
    assert series_pattern(0, dashed=True) not in {series_pattern(k) for k in range(12)}
    assert series_colour(0) == f"var(--s1,{SERIES[0]})"
    dashed = parsed(line_plot([Series("a", [0, 1], [0, 1], dashed=True)], x_label="x", y_label="y"))
    assert {dash for _, _, dash in strokes(dashed)} == {"7 5"}


def test_the_legend_stands_above_the_frame():
    names = [f"a rather long name of series {k}" for k in range(7)]
    root = parsed(line_plot([Series(n, [0, 1], [0, 1]) for n in names], x_label="x", y_label="loss"))
    frame = float(find(root, "svg")[1].get("y"))
    words = {"".join(t.itertext()): t for t in find(root, "text")}
    assert all(float(words[name].get("y")) < frame for name in names)
    rows = [(float(words[n].get("x")), float(words[n].get("y"))) for n in names]
    assert len(set(rows)) == 7


@pytest.mark.parametrize("width", [30, 100, 300])
def test_words_are_cut_in_the_middle_and_wrapped(width):
    name = "a_very_long_file_name_without_a_single_break_0001_x4.png"
    cut = shortened(name, width)
    assert text_width(cut) <= width
    assert "…" in cut
    assert name.endswith(cut.split("…")[1])
    lines = wrapped("several words " * 8 + name, width)
    assert all(text_width(line) <= width for line in lines)


def test_ranges_are_kept_and_extremes_stay_sane():
    svg = line_plot(
        [Series("a", [0, 1, 2], [1e9, -1e9, 0.5])], x_label="x", y_label="y", y_range=(0, 1), x_range=(0, 2)
    )
    (d, _, _) = next(s for s in strokes(parsed(svg)) if "L" in s[0])
    assert all(abs(float(v)) < 1e4 for p in d[1:].split("L") for v in p.split())
    for values in ([1e308, -1e308], [5e-324, 0], [1e300, 1e-300], [7, 7], [1e9, 1e9 + 1e-6]):
        parsed(line_plot([Series("a", [0, 1], values)], x_label="x", y_label="y"))
        parsed(line_plot([Series("a", [0, 1], values)], x_label="x", y_label="y", log_y=True))
        parsed(strip_plot([("a", values)], x_label="x"))
        parsed(bar_plot([("a", values[0], *values)], x_label="x"))
        parsed(heatmap([values]))


def test_histograms_are_shares_whatever_their_sizes():
    few = histogram_plot([0, 1, 2], [("a", [1, 3])], x_label="x")
    many = histogram_plot([0, 1, 2], [("a", [100, 300])], x_label="x")
    assert few == many
    assert "share" in texts(parsed(few))


@pytest.mark.parametrize("log_y", [False, True])
def test_histogram_steps_stand_on_the_floor(log_y):
    svg = histogram_plot([0, 1, 2, 3], [("a", [1, 0, 4])], x_label="x", log_y=log_y)
    frame = find(parsed(svg), "svg")[1]
    floor = float(frame.get("y")) + float(frame.get("height")) - 3
    (d, _, _) = next(s for s in strokes(parsed(svg)) if "H" in s[0])
    heights = [float(v) for v in re.findall(r"V([\d.]+)", d)]
    assert heights[1] == pytest.approx(floor, abs=0.01)
    assert heights[-1] == pytest.approx(floor, abs=0.01)
    assert heights[2] < heights[0] < floor


def test_overflow_bins_count_without_being_drawn():
    svg = histogram_plot([-INF, 0, 1, INF], [("a", [5, 5, 10])], x_label="x")
    alone = histogram_plot([0, 1], [("a", [5])], x_label="x")
    frame = next(s[0] for s in strokes(parsed(svg)) if "H" in s[0])
    assert len(re.findall("H", frame)) == 1
    for plot, top in ((svg, "0.25"), (alone, "1.0")):
        ends = [t for t in find(parsed(plot), "text") if t.get("text-anchor") == "end"]
        assert max("".join(t.itertext()) for t in ends) == top


def test_strips_show_each_value_once_and_the_same_again():
    values = [1.0, 2.0, 4.0, NAN, INF]
    svg = strip_plot([("a", values), ("b", [3.0])], x_label="x")
    assert svg == strip_plot([("a", values), ("b", [3.0])], x_label="x")
    root = parsed(svg)
    assert len(find(root, "circle")) == 4
    assert "n = 3 of 5" in texts(root)
    assert "n = 1" in texts(root)
    tips = [node.text for node in find(root, "title")]
    assert "median 2, mean 2.333, from 1 to 4" in tips
    many = strip_plot([("a", np.arange(5000))], x_label="x")
    assert 500 <= len(find(parsed(many), "circle")) <= 600


def test_intervals_of_the_mean():
    # Student's t for four degrees of freedom: 2.776445.
    low, high = mean_interval([1, 2, 3, 4, 5, NAN])
    assert (low + high) / 2 == pytest.approx(3)
    assert (high - low) / 2 == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    assert mean_interval([1.0, 2.0]) is None
    given = strip_plot([("a", [1, 2, 3])], x_label="x", intervals=[(1.5, 2.25)])
    assert "mean: 1.5 to 2.25" in [node.text for node in find(parsed(given), "title")]


def test_bars_start_at_zero_and_reach_their_value():
    root = parsed(bar_plot([("a", 2.0, 1.0, 3.0), ("b", -1.0, NAN, None), ("c", INF, 1, 2)], x_label="x"))
    first, second = find(root, "rect")
    zero = float(first.get("x"))
    assert float(second.get("x")) + float(second.get("width")) == pytest.approx(zero, abs=0.02)
    assert float(first.get("width")) == pytest.approx(2 * float(second.get("width")), abs=0.05)
    assert {"2 [1, 3]", "−1", "∞ [1, 2]"} <= set(texts(root))


def test_heatmaps_tell_values_and_are_neutral_at_zero():
    svg = heatmap([[1.0, 0.0], [-1.0, NAN]], cells=True, x_ticks=["−1", "0"], y_ticks=["p", "q"])
    root = parsed(svg)
    rects = [r for r in find(root, "rect") if len(r)]
    assert [r[0].text for r in rects] == ["(−1, p): 1", "(0, p): 0", "(−1, q): −1", "(0, q): –"]
    red, zero, blue = (diverging(v) for v in (1, 0, -1))
    assert rects[0].get("style") == "fill:#{:02x}{:02x}{:02x}".format(*red)
    assert max(zero) - min(zero) == 0
    assert red[0] > red[2]
    assert blue[0] < blue[2]
    assert {"1.00", ".00", "−1.00", "–"} <= set(texts(root))
    assert "−.00" not in texts(parsed(heatmap([[-0.001, 1]], cells=True)))


def test_limits_set_the_colours():
    narrow, wide = (find(parsed(heatmap([[1.0]], limits=(-v, v))), "rect")[0].get("style") for v in (1, 10))
    assert narrow != wide


def test_large_heatmaps_become_one_picture():
    side = math.isqrt(MOST_CELLS) + 1
    root = parsed(heatmap(np.random.default_rng(0).normal(size=(side, side))))
    (image,) = find(root, "image")
    assert image.get("href").startswith("data:image/png;base64,")
    assert len(find(root, "rect")) < 100


@pytest.mark.parametrize(
    "plot",
    [
        lambda: line_plot([Series("a", [1, 2], [1])], x_label="x", y_label="y"),
        lambda: histogram_plot([0, 1], [("a", [1, 2])], x_label="x"),
        lambda: strip_plot([("a", [1])], x_label="x", intervals=[]),
        lambda: heatmap(np.zeros((2, 2, 2))),
        lambda: heatmap(np.zeros((2, 2)), x_ticks=["a"]),
    ],
)
def test_sizes_that_do_not_fit_are_refused(plot):
    with pytest.raises(ShapeError):
        plot()


def luminance(rgb):
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_series_stand_out_on_white():
    for colour in SERIES:
        rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
        assert 1.05 / (luminance(rgb) + 0.05) >= 3.0
