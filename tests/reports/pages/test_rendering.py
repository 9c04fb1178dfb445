"""Pages are whole, safe and self-contained, and their pictures are the pixels given."""

import base64
import io
import math
import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from deflow_cli.errors import ConfigError, ShapeError
from deflow_cli.reports.pages import rendering
from deflow_cli.reports.pages.pictures import data_uri, difference_picture
from deflow_cli.reports.pages.rendering import render_page
from deflow_cli.reports.pages.tables import Table, Undefined, cell_text
from deflow_cli.reports.svg.line_plots import Series, line_plot

VOID_TAGS = {"meta", "link", "img"}
HOSTILE = "</script><img src=x onerror=alert(1)>&\"'\x00\udcff.png"
SHOWN = HOSTILE.replace("\x00", "\ufffd").replace("\udcff", "\ufffd")


EVERY_COMPONENT = """
{% extends "page.html" %}
{% import "components.html" as components with context %}
{% block content %}
{% for name, values, named in parts %}{{ components[name](*values, **named) }}{% endfor %}
{% endblock %}
"""


class Page:
    """A page of components, in the order of the calls."""

    def __init__(self, title, subtitle=""):
        self.title, self.subtitle, self.parts = title, subtitle, []

    def __getattr__(self, component):
        return lambda *values, **named: self.add(component, *values, **named)

    def add(self, component, *values, **named):
        self.parts.append((component, values, named))
        self.render()  # refuses what the component refuses

    def table(self, *values, **named):
        self.add("table", Table(*values, **named))

    def render(self):
        template = rendering._environment().from_string(EVERY_COMPONENT)
        return render_page(template, self.title, self.subtitle, {"parts": self.parts})


class Tree(HTMLParser):
    """Every element with its attributes and text; refuses tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.found = [], []

    def handle_starttag(self, tag, attrs):
        node = {"tag": tag, "text": "", "within": [n["tag"] for n in self.open], **dict(attrs)}
        self.found.append(node)
        if tag not in VOID_TAGS:
            self.open.append(node)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for node in self.open:
            node["text"] += data

    def all(self, tag, class_=None):
        return [
            n
            for n in self.found
            if n["tag"] == tag and (class_ is None or class_ in (n.get("class") or "").split())
        ]


def tree(page):
    """The parsed page, after the checks that hold for every page."""
    text = page.render()
    text.encode("utf-8")
    found = Tree()
    found.feed(text)
    found.close()
    assert not found.open
    ids = [n["id"] for n in found.found if "id" in n]
    assert len(ids) == len(set(ids))
    outside = re.sub(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]*", "", text)
    outside = outside.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "//" not in outside
    assert "@import" not in outside
    assert "url(" not in outside.replace("url(#", "")
    for node in found.found:
        assert not any(name.startswith("on") for name in node)
        for name in ("src", "href"):
            assert node.get(name, "data:")[:5] in ("data:",) or node[name].startswith("#")
    return found


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pixels_of(uri):
    head, body = uri.split(",", 1)
    image = Image.open(io.BytesIO(base64.b64decode(body, validate=True)))
    assert head == f"data:image/{image.format.lower()};base64"
    return np.asarray(image)


def full_page(word):
    page = Page(word, word)
    for level in (2, 3, 4, 2):
        page.heading(word, level)
    page.text(word)
    page.callout(word, "bad")
    page.table([word, "b"], [[word, 1.0], ["x", Undefined(word)]], caption=word, notes=[word])
    plot = line_plot([Series(word, [0, 1], [0, 1])], x_label="x", y_label="y")
    page.figure(plot, word)
    page.figures([(plot, word), (plot, "")])
    page.pictures([(word, noise((4, 5, 3)))], caption=word, scale=2)
    page.compare(word, noise((4, 5, 3)), "b", noise((4, 5, 3), 1), caption=word)
    page.facts({word: word})
    page.details(word, word)
    return page


def test_a_page_is_a_whole_document():
    found = tree(full_page("plain"))
    assert found.all("html")[0]["lang"] == "en"
    assert [n["text"] for n in found.all("title") if "head" in n["within"]] == ["plain"]
    assert any(n.get("name") == "viewport" for n in found.all("meta"))
    assert any("default-src 'none'" in (n.get("content") or "") for n in found.all("meta"))
    assert [n["text"] for n in found.all("h1")] == ["plain"]
    assert len(found.all("script")) == len(found.all("style")) == 1
    assert "prefers-color-scheme: dark" in found.all("style")[0]["text"]
    assert "@media print" in found.all("style")[0]["text"]


def test_hostile_text_stays_text():
    found = tree(full_page(HOSTILE))
    assert len(found.all("script")) == 1
    assert len(found.all("img")) == 4
    assert found.all("h1")[0]["text"] == SHOWN
    assert found.all("h2")[0]["text"] == SHOWN
    assert found.all("caption")[0]["text"] == SHOWN
    assert found.all("th")[0]["text"] == SHOWN
    assert found.all("dt")[0]["text"] == found.all("dd")[0]["text"] == SHOWN
    assert found.all("summary")[0]["text"] == SHOWN
    assert found.all("img")[0]["alt"] == SHOWN
    assert any(n["text"] == f"1 {SHOWN}" for n in found.all("p"))


def test_an_empty_page_renders():
    assert not tree(Page("")).all("nav")


def test_contents_appear_with_the_fourth_heading_and_lead_there():
    page = Page("t")
    for _ in range(3):
        page.heading("Same name")
    assert not tree(page).all("nav")
    page.heading("寸法", 3)
    found = tree(page)
    links = [n["href"][1:] for n in found.all("a")]
    assert links == [n["id"] for n in found.found if n["tag"] in ("h2", "h3")]
    assert [n["text"] for n in found.all("a")] == ["Same name"] * 3 + ["寸法"]
    with pytest.raises(ConfigError, match="level 1"):
        page.heading("x", 1)


def test_callouts_say_their_kind_in_words():
    page = Page("t")
    for kind in ("good", "note", "warn", "bad"):
        page.callout("words", kind)
    assert [n["text"] for n in tree(page).all("strong")] == ["Good", "Note", "Caution", "Problem"]
    with pytest.raises(ConfigError, match="terrible"):
        page.callout("x", "terrible")


def test_paragraphs_break_at_blank_lines():
    page = Page("t")
    page.text("one\nstill one\n\n \n two")
    assert [n["text"] for n in tree(page).all("p")] == ["one\nstill one", "two"]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1.23456, 2, "1.23"),
        (1.23456, None, "1.235"),
        (-0.5, 1, "−0.5"),
        (7, None, "7"),
        (7, 2, "7.00"),
        (123456, None, "123456"),
        (math.inf, 2, "∞"),
        (-math.inf, None, "−∞"),
        (math.nan, 3, "–"),
        (None, 3, "–"),
        (Undefined("why"), 3, "–"),
        ("-text", 3, "-text"),
        (np.float32(0.25), 3, "0.250"),
        (np.int64(-3), None, "−3"),
    ],
)
def test_cells_are_formatted(value, digits, text):
    assert cell_text(value, digits) == text


def test_tables_keep_order_and_explain_dashes():
    page = Page("t")
    rows = [
        ["b", 2.0, math.nan, 1],
        ["a", math.inf, Undefined("constant image"), None],
        ["c", 1.0, Undefined("too small"), 3],
        ["d", 1.0, Undefined("constant image"), 3],
    ]
    page.table(["name", "PSNR", "NIQE", "n"], rows, notes=["PSNR on RGB"], digits=[None, 2, 3, None])
    found = tree(page)
    body = [n for n in found.found if n["tag"] in ("td", "th") and "tbody" in n["within"]]
    assert [n["text"] for n in body] == [
        *("b", "2.00", "–", "1"),
        *("a", "∞", "–1", "–"),
        *("c", "1.00", "–2", "3"),
        *("d", "1.00", "–1", "3"),
    ]
    assert [n.get("data-v") for n in body[:8]] == [None, "2.0", None, "1.0", None, "inf", None, None]
    assert body[6]["title"] == "constant image"
    assert [n.get("scope") for n in body[:2]] == ["row", None]
    assert all(n.get("class") == "number" for k, n in enumerate(body) if k % 4)
    heads = [n.get("class") for n in found.all("th") if "thead" in n["within"]]
    assert heads == [None, "number", "number", "number"]
    notes = [n["text"] for n in found.all("p", "remark")]
    assert notes == ["1 constant image", "2 too small", "– the value is not defined there", "PSNR on RGB"]
    assert "scroll" in [n.get("class") for n in found.all("div")]


def test_ragged_tables_are_refused():
    with pytest.raises(ShapeError, match="row 2 has 1 cells for 2 columns"):
        Page("t").table(["a", "b"], [[1, 2], [1]])
    with pytest.raises(ShapeError, match="1 digits"):
        Page("t").table(["a", "b"], [], digits=[2])


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7), (1, 1, 3)])
def test_pictures_are_exactly_the_pixels(shape):
    pixels = noise(shape)
    assert np.array_equal(pixels_of(data_uri(pixels)), pixels)
    assert np.array_equal(pixels_of(data_uri(pixels[::-1, ::-1])), pixels[::-1, ::-1])


def test_large_pictures_become_jpeg_where_asked():
    smooth = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8)[:, None, None], (64, 64, 3)).copy()
    assert data_uri(smooth, jpeg_above=64 * 64).startswith("data:image/png")
    decoded = pixels_of(data_uri(smooth, jpeg_above=64 * 64 - 1))
    assert data_uri(smooth, jpeg_above=0).startswith("data:image/jpeg")
    assert np.abs(decoded.astype(int) - smooth).max() <= 4


def test_pictures_carry_their_size_and_labels():
    page = Page("t")
    page.pictures([("a", noise((6, 4, 3))), ("b", noise((6, 4)))], caption="two", scale=3)
    page.pictures([("c", noise((6, 4, 3)))])
    found = tree(page)
    first, second, third = found.all("img")
    assert (first["width"], first["height"], first["class"]) == ("12", "18", "pixelated")
    assert (third["width"], third["height"], third.get("class")) == ("4", "6", None)
    assert np.array_equal(pixels_of(second["src"]), noise((6, 4)))
    assert [n["text"] for n in found.all("figcaption")] == ["a", "b", "two", "c"]
    with pytest.raises(ConfigError, match="scale 0"):
        page.pictures([("a", noise((6, 4, 3)))], scale=0)


def test_the_difference_is_signed_around_mid_grey():
    a = np.array([[[10, 100, 255]]], dtype=np.uint8)
    b = np.array([[[13, 100, 0]]], dtype=np.uint8)
    assert difference_picture(a, b, 4).tolist() == [[[116, 128, 255]]]
    assert difference_picture(b, a, 4).tolist() == [[[140, 128, 0]]]
    assert difference_picture(a, b, 0.5).tolist() == [[[126, 128, 255]]]
    grey = np.array([[100]], dtype=np.uint8)
    assert difference_picture(a, grey, 1).tolist() == [[[38, 128, 255]]]
    with pytest.raises(ShapeError, match="1x1 and 2x1"):
        difference_picture(grey, np.zeros((1, 2), np.uint8))


def test_a_comparison_holds_both_pictures_and_their_difference():
    a, b = noise((6, 9, 3)), noise((6, 9, 3), 1)
    page = Page("t")
    page.compare("ours", a, "truth", b, caption="worst", gain=2)
    found = tree(page)
    shown = [pixels_of(n["src"]) for n in found.all("img")]
    for picture, due in zip(shown, (a, b, difference_picture(a, b, 2)), strict=True):
        assert np.array_equal(picture, due)
    words = [n["text"] for n in found.all("figcaption")]
    assert words[:2] == ["ours", "truth"]
    assert "ours − truth" in words[2]
    assert "2 times" in words[2]
    assert words[3] == "worst"
    assert found.all("figure", "compare")[0]["data-width"] == "9"
    with pytest.raises(ShapeError):
        page.compare("a", a, "b", b[:, :5])


@pytest.mark.parametrize(
    ("shape", "kind"), [((4, 4, 3), np.float32), ((4, 4, 4), np.uint8), ((0, 4), np.uint8)]
)
def test_other_arrays_are_refused(shape, kind):
    with pytest.raises(ShapeError, match="uint8 H x W x 3"):
        data_uri(np.zeros(shape, kind))


def test_the_style_defines_every_colour_in_light_and_dark():
    css = files("deflow_cli.reports").joinpath("templates", "page.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    names = [set(re.findall(r"(--[a-z0-9]+):", block)) for block in blocks]
    assert len(names) == 3
    assert names[0] == names[1] == names[2]
    used = set(re.findall(r"var\((--[a-z0-9]+)\)", css)) - {"--ratio"}
    assert used <= names[0]


def contrast(one, other):
    def luminance(colour):
        rgb = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_stand_out_in_light_dark_and_print():
    css = files("deflow_cli.reports").joinpath("templates", "page.css").read_text(encoding="utf-8")
    for block in re.findall(r":root \{(.*?)\}", css, re.S):
        colour = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6})", block))
        for text in ("ink", "muted", "link", "good", "note", "warn", "bad"):
            for ground in ("paper", "raised"):
                assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
        for line in ("s1", "s2", "s3", "s4", "s5", "s6", "axis"):
            assert contrast(colour[line], colour["paper"]) >= 3.0, line
