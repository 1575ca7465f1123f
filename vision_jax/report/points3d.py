"""Points in space that the reader of a page turns with the mouse; under the pointer a point shows its image."""

import base64
import html
import io
import json
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from vision_jax.report import page

_SCRIPT = pathlib.Path(__file__).with_suffix(".js")
_STYLE = """
.points3d { position: relative; padding: .5rem; background: var(--figure); color: var(--text);
  border: 1px solid var(--line); border-radius: .4rem; margin: .75rem 0; max-width: 46rem; }
.points3d > canvas { display: block; width: 100%; height: 30rem; touch-action: none; cursor: grab; }
.points3d > canvas:active { cursor: grabbing; }
.points3d .card { position: absolute; pointer-events: none; padding: .35rem; background: var(--figure);
  font-size: .85rem; border: 1px solid var(--soft); border-radius: .3rem; white-space: pre-line; max-width: 16rem;
  line-height: 1.3; }
.points3d .card[hidden] { display: none; }
.points3d .card canvas { display: block; margin-bottom: .25rem; }
.points3d .legend { display: flex; flex-wrap: wrap; gap: .25rem; max-height: 9rem; overflow-y: auto;
  padding: .35rem 0; }
.points3d button { font: inherit; font-size: .8rem; color: inherit; background: none; border: 1px solid var(--line);
  border-radius: .3rem; padding: .05rem .4rem; cursor: pointer; }
.points3d button[aria-pressed=true] { border-color: var(--text); background: var(--line); }
.points3d i { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .35em; }
"""


def block(
    points: np.ndarray,
    groups: np.ndarray,
    names: Sequence[str],
    colors: Sequence[str],
    wrong: np.ndarray,
    texts: Sequence[str],
    images: np.ndarray,
    *,
    label: str,
) -> page.Embedded:
    """Returns the view as a block of a page, in which nothing is fetched: images are one sheet within the page.

    Args:
        points: float [N, 3], of any scale.
        groups: of each point, int [N].
        names: of the groups; a click on one in the legend lets the others pale.
        colors: of the groups, '#rrggbb'.
        wrong: which points are crosses, bool [N]; the others are dots.
        texts: what stands below the image of a point, N.
        images: uint8 [N, h, w, C], C = 1 or 3, all small.
        label: says in words what there is to see.
    """
    centered = points - points.mean(0)
    scaled = np.round(1000 * centered / max(float(np.abs(centered).max()), 1e-12)).astype(int)
    columns = math.ceil(math.sqrt(len(images)))
    values = {
        "points": scaled.ravel().tolist(),
        "group": np.asarray(groups).tolist(),
        "wrong": np.asarray(wrong).astype(int).tolist(),
        "colors": list(colors),
        "texts": list(texts),
        "tile": [images.shape[2], images.shape[1]],
        "columns": columns,
        "sprites": f"data:image/webp;base64,{base64.b64encode(_sheet(images, columns)).decode()}",
    }
    buttons = "".join(
        f'<button type="button" aria-pressed="false"><i style="background: {html.escape(color)}"></i>'
        f"{html.escape(name)}</button>"
        for name, color in zip(names, colors, strict=True)
    )
    return page.Embedded(
        f'<div class="points3d">\n<canvas tabindex="0" role="img" aria-label="{html.escape(label)}"></canvas>\n'
        f'<div class="card" hidden><canvas></canvas><span></span></div>\n<div class="legend">{buttons}</div>\n'
        f'<script type="application/json">{_json(values)}</script>\n</div>',
        script=_SCRIPT.read_text(),
        style=_STYLE,
    )


def _json(values: object) -> str:
    """Returns JSON that ends no script element and opens no comment in one."""
    return json.dumps(values, separators=(",", ":")).replace("<", "\\u003c")


def _sheet(images: np.ndarray, columns: int) -> bytes:
    """Returns all images in rows of `columns` as one WebP file."""
    from PIL import Image

    count, height, width = images.shape[:3]
    rows = math.ceil(count / columns)
    tiles = np.full((rows * columns, height, width, 3), 255, np.uint8)
    tiles[:count] = images  # Gray ones are repeated in all three channels.
    sheet = tiles.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "WEBP", quality=85, method=2)
    return file.getvalue()
