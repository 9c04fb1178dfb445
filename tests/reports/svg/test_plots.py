"""Plots are sound SVG, say what they were given, and survive what nobody should plot."""

import base64
import io
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from deflow_cli.errors import ShapeError
from deflow_cli.reports.svg.canvas import shortened, tick_text, with_unique_ids
from deflow_cli.reports.svg.categorical_plots import bar_plot, strip_plot
from deflow_cli.reports.svg.heatmap import heatmap
from deflow_cli.reports.svg.line_plots import Series, histogram_plot, line_plot
from deflow_cli.reports.svg.palette import SERIES, series_colour, series_pattern

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
    ids = [node.get("id") for node in root.iter() if "id" in node.attrib]
    assert len(ids) == len(set(ids))
    assert set(ids) == set(re.findall(r"#([a-z0-9]{8,})", re.sub(r"data:[^\"]*", "", svg)))
    outside = re.sub(r'data:image/png;base64,[^"]*', "", svg).replace("http://www.w3.org/2000/svg", "")
    assert "//" not in outside
    assert "nan" not in outside.lower().replace("nanometre", "")
    assert not re.search(r"[\s\"(:]-?inf", outside)
    return root


def texts(root):
    return ["".join(node.itertext()) for node in root.iter(SVG + "text")]


def find(root, tag):
    return list(root.iter(SVG + tag))


def lines(root):
    """The data lines that are drawn in the colour of a series: [(d, style)]."""
    return [
        (p.get("d"), p.get("style"))
        for p in find(root, "path")
        if "stroke: var(--s" in p.get("style", "") and "clip-path" in p.attrib
    ]


def dots(root):
    """Markers of the data, as (x, y)."""
    return [
        (float(u.get("x")), float(u.get("y")))
        for group in find(root, "g")
        if "clip-path" in group.attrib
        for u in group
    ]


def points(d):
    return [tuple(map(float, p)) for p in re.findall(r"[ML] (\S+) (\S+)", d)]


def ticks(root):
    """Where the labels stand: {text: (x, y)}."""
    return {"".join(t.itertext()): (float(t.get("x", 0)), float(t.get("y", 0))) for t in find(root, "text")}


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
    for node in find(root, "text"):
        if "x" in node.attrib:
            assert 0 <= float(node.get("x")) <= 480
            assert 0 <= float(node.get("y")) <= height


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


@pytest.mark.parametrize("exponent", [-12, -3, 0, 4, 9])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.37, 0.92), (13, 97), (-8, -7.2), (0.1, 0.10001)])
def test_ticks_are_few_and_unlike(low, high, exponent):
    low, high = low * 10.0**exponent, high * 10.0**exponent
    svg = line_plot([Series("", [0, 1], [low, high])], x_label="", y_label="", y_range=(low, high))
    labels = [t for t in texts(parsed(svg)) if t]
    vertical = labels[6:]
    assert 2 <= len(vertical) <= 8
    assert len(set(vertical)) == len(vertical)


def test_tick_labels():
    assert [tick_text(v) for v in (0, 0.2, -0.04, 1000, 2e6, 1e6)] == [
        "0",
        "0.2",
        "−0.04",
        "1000",
        "2·10⁶",
        "10⁶",
    ]
    assert [tick_text(v) for v in (-2e-6, -1e-6, 1e-4)] == ["−2·10⁻⁶", "−10⁻⁶", "10⁻⁴"]

    def labels(low, high):
        svg = line_plot(
            [Series("", [0, 1], [low, high])], x_label="", y_label="", log_y=True, y_range=(low, high)
        )
        return set(texts(parsed(svg)))

    assert {"0.1", "1", "10", "100", "1000"} <= labels(0.1, 1000)
    assert {"2", "5", "10", "20"} <= labels(2, 30)
    assert {"10⁻⁶"} & labels(1e-6, 1)


def test_a_line_goes_where_its_points_are():
    root = parsed(line_plot([Series("", [0, 10], [0, 4])], x_label="", y_label="", y_range=(0, 8)))
    ((d, style),) = lines(root)
    assert "dasharray" not in style
    (x0, y0), (x1, y1) = points(d)
    at = ticks(root)
    assert x0 < x1
    assert x1 == pytest.approx(at["10"][0], abs=0.02)
    # A label stands a constant below the height of its value.
    assert y0 - y1 == pytest.approx(at["2"][1] * 2 - at["6"][1] * 2 - (at["2"][1] - at["6"][1]), abs=0.02)
    assert y1 - (at["4"][1] - 5) == pytest.approx(0, abs=1.5)


def test_gaps_break_a_line_and_lonely_points_are_dots():
    x = list(range(40))
    y = [1.0] * 10 + [NAN] + [2.0] + [INF] + [3.0] * 27
    root = parsed(line_plot([Series("a", x, y)], x_label="x", y_label="y"))
    ((d, _),) = lines(root)
    assert len(re.findall("M[^M]*L", d)) == 2
    assert len(dots(root)) == 1


def test_zeros_break_a_logarithmic_line():
    log = {"log_x": True, "log_y": True}
    svg = line_plot([Series("a", [0, 1, 10, 100, 1000], [1, 1, 0, 10, 100])], x_label="x", y_label="y", **log)
    root = parsed(svg)
    ((d, _),) = lines(root)
    assert d.count("L") == 1
    assert len(dots(root)) == 3


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_thousands_of_points_keep_their_extremes(noise):
    y = noise * np.random.default_rng(0).standard_normal(50_000)
    y[31_234], y[777] = 5.0, -3.0
    svg = line_plot([Series("a", np.arange(y.size), y)], x_label="x", y_label="y")
    assert len(svg) < 60_000
    heights = [y for _, y in points(lines(parsed(svg))[0][0])]
    due = [
        y
        for _, y in points(
            lines(parsed(line_plot([Series("a", [0, 1, 2], [5, -3, 0])], x_label="x", y_label="y")))[0][0]
        )
    ]
    assert min(heights) == pytest.approx(due[0], abs=0.02)
    assert max(heights) == pytest.approx(due[1], abs=0.02)


def test_series_are_told_apart_and_dashes_kept():
    series = [Series(f"s{k}", range(20), [k] * 20) for k in range(12)]
    root = parsed(line_plot(series, x_label="x", y_label="y"))
    assert len({style for _, style in lines(root)}) == 12
    assert {series_pattern(k) for k in range(3)} == {()}
    assert series_pattern(0, dashed=True) not in {series_pattern(k) for k in range(12)}
    assert series_colour(0) == SERIES[0]
    dashed = parsed(line_plot([Series("a", [0, 1], [0, 1], dashed=True)], x_label="x", y_label="y"))
    assert all("stroke-dasharray: 7,5" in style for _, style in lines(dashed))
    assert f"var(--s1,{SERIES[0]})" in lines(dashed)[0][1]


def test_the_legend_stands_above_the_frame():
    names = [f"a rather long name of series {k}" for k in range(7)]
    root = parsed(line_plot([Series(n, [0, 1], [0, 1]) for n in names], x_label="x", y_label="loss"))
    (box,) = find(find(root, "clipPath")[0], "rect")
    at = ticks(root)
    assert all(at[name][1] < float(box.get("y")) for name in names)
    assert len({at[name] for name in names}) == 7


@pytest.mark.parametrize("most", [5, 20, 40])
def test_words_are_cut_in_the_middle(most):
    name = "a_very_long_file_name_without_a_single_break_0001_x4.png"
    cut = shortened(name, most)
    assert len(cut) == most
    assert "…" in cut
    assert name.endswith(cut.split("…")[1])
    assert shortened("short", 5) == "short"


def test_ranges_are_kept_and_extremes_stay_sane():
    svg = line_plot(
        [Series("a", [0, 1, 2], [1e9, -1e9, 0.5])], x_label="x", y_label="y", y_range=(0, 1), x_range=(0, 2)
    )
    assert "1.0" in texts(parsed(svg))
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
    root = parsed(svg)
    (box,) = find(find(root, "clipPath")[0], "rect")
    floor = float(box.get("y")) + float(box.get("height"))
    heights = [y for _, y in points(lines(root)[0][0])]
    assert heights[0] == heights[-1] == pytest.approx(floor, abs=0.02)
    assert min(heights) < sorted(set(heights))[1] < floor


def test_overflow_bins_count_without_being_drawn():
    svg = histogram_plot([-INF, 0, 1, INF], [("a", [5, 5, 10])], x_label="x")
    alone = histogram_plot([0, 1], [("a", [5])], x_label="x")
    assert len(set(points(lines(parsed(svg))[0][0]))) == 4
    for plot, top in ((svg, "0.25"), (alone, "1.0")):
        assert any(t.startswith(top) for t in texts(parsed(plot)))


def test_strips_show_each_value_once_and_the_same_again():
    values = [1.0, 2.0, 4.0, NAN, INF]
    svg = strip_plot([("a", values), ("b", [3.0])], x_label="x")
    assert svg == strip_plot([("a", values), ("b", [3.0])], x_label="x")
    root = parsed(svg)
    assert len(dots(root)) == 4
    assert "n = 3 of 5" in texts(root)
    assert "n = 1" in texts(root)
    assert "a: median 2, mean 2.333, from 1 to 4" in root[1].text
    many = strip_plot([("a", np.arange(5000))], x_label="x")
    assert 500 <= len(dots(parsed(many))) <= 600


def test_an_interval_is_drawn_where_it_is_given():
    without, given = (
        parsed(strip_plot([("a", [1, 2, 3])], x_label="x", intervals=bars)) for bars in (None, [(1.5, 2.25)])
    )
    assert len(find(given, "path")) == len(find(without, "path")) + 1


def test_bars_start_at_zero_and_reach_their_value():
    root = parsed(bar_plot([("a", 2.0, 1.0, 3.0), ("b", -1.0, NAN, None), ("c", INF, 1, 2)], x_label="x"))
    first, second = (
        sorted({x for x, _ in points(p.get("d"))})
        for p in find(root, "path")
        if f"fill: var(--s1,{SERIES[0]})" in p.get("style", "")
    )
    assert second[-1] == pytest.approx(first[0], abs=0.02)
    assert first[-1] - first[0] == pytest.approx(2 * (second[-1] - second[0]), abs=0.05)
    assert {"2 [1, 3]", "−1", "∞ [1, 2]"} <= set(texts(root))


def picture_of(svg):
    """The pixels of the matrix, the first picture in a heatmap."""
    uri = re.search(r"data:image/png;base64,([^\"]*)", svg)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))).convert("RGB"))


def test_heatmaps_tell_values_and_are_neutral_at_zero():
    svg = heatmap([[1.0, 0.0], [-1.0, NAN]], cells=True, x_ticks=["−1", "0"], y_ticks=["p", "q"])
    root = parsed(svg)
    (red, zero), (blue, void) = picture_of(svg).astype(int)
    assert max(zero) - min(zero) <= 1
    assert red[0] > red[2]
    assert blue[0] < blue[2]
    assert void.tolist() == [150, 157, 165]
    assert {"1.00", ".00", "−1.00", "–", "p", "q", "−1", "0"} <= set(texts(root))
    assert "−.00" not in texts(parsed(heatmap([[-0.001, 1]], cells=True)))


def test_limits_set_the_colours():
    narrow, wide = (picture_of(heatmap([[1.0]], limits=(-v, v)))[0, 0].tolist() for v in (1, 10))
    assert narrow != wide


def test_large_heatmaps_become_one_picture():
    root = parsed(heatmap(np.random.default_rng(0).normal(size=(40, 40))))
    assert find(root, "image")[0].get("href").startswith("data:image/png;base64,")
    assert len(find(root, "path")) < 100


def test_a_plot_can_stand_twice_in_a_page():
    svg = line_plot([Series('id="x" url(#y)', [0, 1], [0, 1])], x_label="x", y_label="y")
    first, second = (parsed(with_unique_ids(svg, prefix)) for prefix in ("p", "q"))
    ids = [{node.get("id") for node in root.iter() if "id" in node.attrib} for root in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert 'id="x" url(#y)' in texts(first)


def test_plots_wait_with_matplotlib_until_they_are_drawn():
    code = (
        "import sys; from deflow_cli.reports.pages import fit_page, realism_page, score_page; "
        "print({'matplotlib', 'jinja2'} & {*sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


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
