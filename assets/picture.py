#!/usr/bin/env python3
"""Makes a picture of a terminal from a capture with ANSI escapes.

    picture.py CAPTURE.ansi OUT.svg [--title TEXT] [--ground #0f141d] [--ink #e8ecf3]

A capture is what `tmux capture-pane -e -p > CAPTURE.ansi` writes, or the example `capture` of the crate mose-screen. The picture
is an SVG of text: small, sharp at any size, and it can be searched. Only Python's standard library is needed.

Understood: colours (16, 256, 24 bit), bold, dim, italic, underline, reverse. Other escapes are left out.
"""

import argparse
import re
import sys
import unicodedata
from html import escape

# One cell, in pixels, of a monospaced font of 14.
WIDTH, HEIGHT, SIZE = 8.4, 17, 14
MARGIN = 12
FONTS = "'DejaVu Sans Mono','JetBrains Mono',Menlo,Consolas,monospace"
# The sixteen colours, as terminals commonly show them.
NAMED = (
    "#1d1f21 #cc4c4c #5fa35a #c9a227 #4f7fd0 #a56bbf #3fa7b3 #c5c8c6 "
    "#6b7078 #ff6b6b #86d96a #ffd75f #74b0ff #d7a6ff #5fe0ee #ffffff"
).split()
SGR = re.compile(r"\x1b\[([0-9;:]*)m")
OTHER = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-ln-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-Za-z]|[=>78cDEHM])")


def indexed(number):
    """The colour of that number in the palette of 256."""
    if number < 16:
        return NAMED[number]
    if number < 232:
        number -= 16
        steps = (0, 95, 135, 175, 215, 255)
        return "#%02x%02x%02x" % (steps[number // 36], steps[number // 6 % 6], steps[number % 6])
    grey = 8 + 10 * (number - 232)
    return "#%02x%02x%02x" % (grey, grey, grey)


class Style:
    """How the next cells are drawn."""

    def __init__(self):
        self.fg = self.bg = None
        self.flags = frozenset()

    def key(self):
        return (self.fg, self.bg, self.flags)

    def take(self, text):
        codes = [int(code or 0) for code in re.split("[;:]", text)]
        flags = set(self.flags)
        on = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "reverse"}
        off = {22: ("bold", "dim"), 23: ("italic",), 24: ("underline",), 27: ("reverse",)}
        while codes:
            code = codes.pop(0)
            if code == 0:
                self.fg = self.bg = None
                flags = set()
            elif code in on:
                flags.add(on[code])
            elif code in off:
                flags.difference_update(off[code])
            elif 30 <= code <= 37:
                self.fg = NAMED[code - 30]
            elif 90 <= code <= 97:
                self.fg = NAMED[code - 82]
            elif 40 <= code <= 47:
                self.bg = NAMED[code - 40]
            elif 100 <= code <= 107:
                self.bg = NAMED[code - 92]
            elif code == 39:
                self.fg = None
            elif code == 49:
                self.bg = None
            elif code in (38, 48) and codes:
                kind, colour = codes.pop(0), None
                if kind == 5 and codes:
                    colour = indexed(min(codes.pop(0), 255))
                elif kind == 2 and len(codes) >= 3:
                    colour = "#%02x%02x%02x" % tuple(min(codes.pop(0), 255) for _ in range(3))
                if colour:
                    setattr(self, "fg" if code == 38 else "bg", colour)
        self.flags = frozenset(flags)


def wide(char):
    """How many cells a character takes."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cells(capture):
    """The rows: for each cell its character and its style (fg, bg, flags)."""
    style, rows = Style(), []
    for line in capture.splitlines():
        row = []
        for place, part in enumerate(SGR.split(OTHER.sub("", line))):
            if place % 2:
                style.take(part)
                continue
            for char in part:
                if char >= " ":
                    row.append((char, style.key()))
                    row.extend([("", style.key())] * (wide(char) - 1))
        rows.append(row)
    while rows and not any(char.strip() or key[1] for char, key in rows[-1]):
        rows.pop()
    return rows


def colours(key, ground, ink):
    """What a style is drawn with: ink, ground, opacity."""
    fg, bg, flags = key[0] or ink, key[1] or ground, key[2]
    if "reverse" in flags:
        fg, bg = bg, fg
    return fg, bg, 0.65 if "dim" in flags else 1.0


def runs(row):
    """Neighbours of one style: column, width, text, style."""
    start = 0
    for place in range(1, len(row) + 1):
        if place == len(row) or row[place][1] != row[start][1]:
            yield start, place - start, "".join(char for char, _ in row[start:place]), row[start][1]
            start = place


def block(char):
    """A block element as the parts of a cell that it fills: x, y, width, height, opacity. Fonts leave gaps between those."""
    code = ord(char) if len(char) == 1 else 0
    if 0x2581 <= code <= 0x2588:
        part = (code - 0x2580) / 8
        return (0, 1 - part, 1, part, 1.0)
    if 0x2589 <= code <= 0x258F:
        return (0, 0, (0x2590 - code) / 8, 1, 1.0)
    return {"▀": (0, 0, 1, 0.5, 1.0), "▐": (0.5, 0, 0.5, 1, 1.0), "░": (0, 0, 1, 1, 0.25),
            "▒": (0, 0, 1, 1, 0.5), "▓": (0, 0, 1, 1, 0.75)}.get(char)


def dots(char):
    """A Braille pattern as the middles of its dots: many fonts have none."""
    bits = ord(char) - 0x2800
    places = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
    return [place for bit, place in enumerate(places) if bits >> bit & 1] if 0 <= bits < 256 else []


def svg(rows, title, ground, ink):
    """The picture."""
    columns = max((len(row) for row in rows), default=1)
    top = MARGIN + (HEIGHT if title else 0)
    width, height = columns * WIDTH + 2 * MARGIN, len(rows) * HEIGHT + top + MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" '
        f'font-family="{FONTS}" font-size="{SIZE}" role="img">',
        f"<title>{escape(title or 'A terminal')}</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{ground}"/>',
    ]
    if title:
        middle = width / 2
        out.append(f'<text x="{middle:.1f}" y="{MARGIN + 4}" text-anchor="middle" fill="{ink}" opacity="0.7">{escape(title)}</text>')
    for number, row in enumerate(rows):
        y = top + number * HEIGHT
        for column, length, text, key in runs(row):
            fg, bg, opacity = colours(key, ground, ink)
            x = MARGIN + column * WIDTH
            if bg != ground:
                # A little wider, so that neighbours leave no seam.
                out.append(f'<rect x="{x:.1f}" y="{y}" width="{length * WIDTH + 0.3:.1f}" height="{HEIGHT}.3" fill="{bg}"/>')
            letters, filled = [], None
            for place, char in enumerate(text):
                part, points = block(char), dots(char) if char else []
                letters.append(" " if part or points else char)
                for across, down in points:
                    px, py = x + (place + 0.25 + across / 2) * WIDTH, y + (down + 0.5) * HEIGHT / 4
                    out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="1.1" fill="{fg}"/>')
                if part:
                    # Neighbours that are filled alike are one rectangle.
                    if filled and filled[0] == part and filled[1] + filled[2] == place:
                        filled[2] += 1
                    else:
                        filled = [part, place, 1]
                        out.append(filled)
                        filled.append((x, y, fg, opacity))
            words = "".join(letters)
            if words.strip():
                marks = ""
                if "bold" in key[2]:
                    marks += ' font-weight="bold"'
                if "italic" in key[2]:
                    marks += ' font-style="italic"'
                if "underline" in key[2]:
                    marks += ' text-decoration="underline"'
                if opacity < 1:
                    marks += f' opacity="{opacity}"'
                lead = len(words) - len(words.lstrip())
                words = words.strip()
                out.append(
                    f'<text x="{x + lead * WIDTH:.1f}" y="{y + 13}" fill="{fg}" textLength="{len(words) * WIDTH:.1f}" '
                    f'lengthAdjust="spacing" xml:space="preserve"{marks}>{escape(words)}</text>'
                )
    out.append("</svg>")
    return "\n".join(rectangle(part) if isinstance(part, list) else part for part in out) + "\n"


def rectangle(filled):
    """Cells that a block element fills."""
    (left, down, share, tall, strength), place, length, (x, y, fg, opacity) = filled
    if share < 1:
        # Each for itself.
        return "".join(
            f'<rect x="{x + (place + n + left) * WIDTH:.1f}" y="{y + down * HEIGHT:.1f}" width="{share * WIDTH:.1f}" '
            f'height="{tall * HEIGHT:.1f}" fill="{fg}" opacity="{strength * opacity:.2f}"/>'
            for n in range(length)
        )
    return (
        f'<rect x="{x + place * WIDTH:.1f}" y="{y + down * HEIGHT:.1f}" width="{length * WIDTH + 0.3:.1f}" '
        f'height="{tall * HEIGHT + 0.3:.1f}" fill="{fg}" opacity="{strength * opacity:.2f}"/>'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("capture", help="a text with ANSI escapes; - reads it from the standard input")
    parser.add_argument("out", help="the picture, an SVG")
    parser.add_argument("--title", default="", help="a line above the picture")
    parser.add_argument("--ground", default="#0f141d", help="the colour of what has none behind it")
    parser.add_argument("--ink", default="#e8ecf3", help="the colour of text that has none")
    options = parser.parse_args()
    if not options.out.endswith(".svg"):
        parser.error(f"{options.out}: only SVG is written, so the name must end with .svg")
    try:
        if options.capture == "-":
            text = sys.stdin.buffer.read()
        else:
            with open(options.capture, "rb") as file:
                text = file.read()
        rows = cells(text.decode("utf-8", "replace"))
        if not rows:
            sys.exit(f"{options.capture} is empty: capture with `tmux capture-pane -e -p`")
        with open(options.out, "w", encoding="utf-8") as file:
            file.write(svg(rows, options.title, options.ground, options.ink))
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
