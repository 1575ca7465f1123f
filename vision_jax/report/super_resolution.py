"""What the page of a super-resolution network shows: low resolution, bicubic, restored and original side by side."""

from vision_jax.analysis.record import Record
from vision_jax.report import image_plots, page
from vision_jax.report.images import ImagesOf

_VERSIONS = {"low_resolution": "low resolution", "bicubic": "bicubic", "restored": "network", "original": "original"}


def sections(record: Record, images_of: ImagesOf) -> list[page.Section]:
    """Draws the picture into `WORKDIR/report` and returns the section."""
    del images_of
    evaluator = record.best_test()
    pictures = record.pictures(evaluator)
    path = record.workdir / "report" / "comparison.png"
    rows = zip(*(pictures[version] for version in _VERSIONS), strict=True)
    image_plots.comparison(path, [dict(zip(_VERSIONS.values(), row, strict=True)) for row in rows])
    return [
        page.Section(
            "Pictures",
            [page.picture(path, f"Side by side ({evaluator})", "The first images of the split, not selected.")],
        )
    ]
