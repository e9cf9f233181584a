"""A matplotlib figure as SVG that can stand inside a page: no clashing ids, no fixed colours, words for a screen reader.

Promise: the same figure gives the same bytes; text stays text, so that it can be searched, read aloud and selected.
Not promised: the same bytes under another version of matplotlib.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from audit_toolkit.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TONES = {
    style.INK: "var(--ink)",
    style.MUTED: "var(--muted)",
    style.RULE: "var(--rule)",
    style.ACCENT: "var(--accent)",
    style.BAD: "var(--bad)",
    **{tone: f"var(--s{k})" for k, tone in enumerate(style.SERIES, 1)},
}
_TONE = re.compile("|".join(map(re.escape, _TONES)))
_FONT = re.compile(r"(font: [^']*?)'DejaVu Sans'[^;]*|(font-family: )'DejaVu Sans'[^;]*")


def draw(figure: Figure) -> str:
    """The figure as a stand-alone SVG document, without date or creator."""
    out = io.StringIO()
    with style.styled(), warnings.catch_warnings():
        # The letters are drawn by the reader's fonts; that ours lacks some only matters for measuring widths.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(
            out,
            format="svg",
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return out.getvalue()


def inline(figure: Figure, *, prefix: str, title: str, description: str) -> str:
    """The figure as an ``<svg>`` element for a page.

    ``prefix`` makes the ids of this drawing its own; ``title`` and ``description`` are what a screen reader says.
    """
    root = ElementTree.fromstring(draw(figure))  # noqa: S314 - our own drawing, written a line above
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]
        for name in list(element.attrib):
            value = element.attrib.pop(name)
            bare = name.rpartition("}")[2]
            if bare == "id" and element.tag == "g":
                continue  # only names matplotlib's parts; nothing refers to it
            if bare == "id":
                value = f"{prefix}-{value}"
            elif bare == "href":
                value = value.replace("#", f"#{prefix}-", 1)
            elif bare == "style":
                value = _FONT.sub(r"\1\2var(--sans)", _TONE.sub(lambda m: _TONES[m[0]], value))
            element.attrib[bare] = value.replace("url(#", f"url(#{prefix}-")
    for parent in root.iter():
        for child in list(parent):
            if child.tag in ("metadata", "style"):
                parent.remove(child)
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "class": "drawing", "role": "img", "aria-labelledby": f"{prefix}-t {prefix}-d"})
    for at, (tag, mark, words) in enumerate((("title", "t", title), ("desc", "d", description))):
        element = ElementTree.Element(tag, {"id": f"{prefix}-{mark}"})
        element.text = words
        root.insert(at, element)
    return ElementTree.tostring(root, encoding="unicode")


def width(figure: Figure) -> int:
    """The figure's width in points, by which a page decides whether it may shrink or must scroll."""
    return round(float(figure.get_figwidth()) * 72)
