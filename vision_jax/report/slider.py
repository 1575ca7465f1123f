"""Two versions of a picture on top of each other: what lies left of a bar that the reader moves is of the first."""

import html

import numpy as np

from vision_jax.report import embedded, page

_SCRIPT = """
for (const box of document.querySelectorAll('.slider')) {
  const bar = box.querySelector('input'), top = box.querySelector('.over');
  const move = () => { top.style.clipPath = `inset(0 ${100 - bar.value}% 0 0)`; };
  bar.addEventListener('input', move);
  move();
}
"""
_STYLE = """
.slider { display: inline-block; padding: .5rem; background: var(--figure); border: 1px solid var(--line);
  border-radius: .4rem; margin: .75rem 0; max-width: 100%; }
.slider > div { position: relative; }
.slider img { display: block; max-width: 100%; image-rendering: pixelated; }
.slider .over { position: absolute; inset: 0; }
.slider input { display: block; width: 100%; margin: .5rem 0 0; }
.slider .names { display: flex; justify-content: space-between; font-size: .9rem; }
"""


def block(before: np.ndarray, after: np.ndarray, names: tuple[str, str], *, label: str, width: int) -> page.Embedded:
    """Returns the slider as a block of a page, in which nothing is fetched.

    Args:
        before: uint8 [H, W, C], C = 1 or 3.
        after: the same.
        names: of the two.
        label: says in words what there is to see.
        width: in pixels of the page.
    """
    if before.shape != after.shape:
        raise ValueError(f"The two versions have different shapes, {list(before.shape)} and {list(after.shape)}.")
    height = round(before.shape[0] * width / before.shape[1])

    def image(pixels: np.ndarray, name: str, place: str) -> str:
        size = f'width="{width}" height="{height}"'
        return f'<img class="{place}" src="{embedded.of_pixels(pixels)}" alt="{html.escape(name)}" {size}>'

    first, second = map(html.escape, names)
    return page.Embedded(
        f'<div class="slider"><div>{image(after, names[1], "under")}{image(before, names[0], "over")}</div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="{html.escape(label)}">'
        f'<div class="names"><span>{first}</span><span>{second}</span></div></div>',
        script=_SCRIPT,
        style=_STYLE,
    )
