"""What the page of a GAN shows: generated images beside real ones."""

from vision_jax.analysis.record import Record
from vision_jax.report import page, plots
from vision_jax.report.images import ImagesOf


def sections(record: Record, images_of: ImagesOf) -> list[page.Section]:
    """Draws the pictures into `WORKDIR/report` and returns the section."""
    del images_of
    folder, evaluator = record.workdir / "report", record.best_test()
    pictures = record.pictures(evaluator)
    columns = max(1, int(len(pictures["real"]) ** 0.5))
    blocks = []
    for name, title, caption in (
        ("samples", "Generated images", "Noise drawn once, not selected."),
        ("real", f"Real images ({evaluator})", "The first images of the split, for comparison."),
    ):
        plots.image_grid(folder / f"{name}.png", pictures[name], columns=columns)
        blocks.append(page.picture(folder / f"{name}.png", title, caption))
    return [page.Section("Pictures", blocks)]
