"""Weights & Biases: one run there per workdir, continued when the run is resumed."""

import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np

from vision_jax.utils.options import ConfigError

_ID = "wandb_id.txt"


class WeightsAndBiases:
    """A run in W&B, whose steps never decrease: what comes late is part of the run's summary."""

    def __init__(self, workdir: pathlib.Path, config: Any, *, resumed: bool):
        """Starts the run that `workdir` names or, unless `resumed`, a new one."""
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                f"config.wandb.project is {config.wandb.project!r}, but wandb cannot be imported ({error}). "
                "Type: pip install 'vision_jax[wandb]', or leave --config.wandb.project empty."
            ) from error
        self._wandb = wandb
        id_file = workdir / _ID
        if not (resumed and id_file.exists()):
            id_file.write_text(secrets.token_hex(4) + "\n")
        try:
            self._run = wandb.init(
                project=config.wandb.project,
                name=config.wandb.name or workdir.resolve().name,
                id=id_file.read_text().strip(),
                resume="allow",  # the server keeps what it has for the steps that a resumed run repeats
                dir=str(workdir),
            )
        except wandb.errors.Error as error:
            raise ConfigError(
                f"config.wandb.project is {config.wandb.project!r}, but Weights & Biases refuses: {error} "
                "WANDB_MODE=offline writes without an account."
            ) from error

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes numbers."""
        self._run.log(dict(scalars), step=step)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes batches of images."""
        self._run.log(self._pictures(images), step=step)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes the run's options."""
        self._run.config.update(dict(hparams), allow_val_change=True)

    def write_final(self, step: int, metrics: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Writes to the run's summary, because `step`, that of the best checkpoint, may be long past."""
        self._run.summary.update({**metrics, **self._pictures(images)})

    def flush(self) -> None:
        """Does nothing: wandb's own process sends what it was given."""

    def close(self) -> None:
        """Waits until everything is sent."""
        self._run.finish()

    def _pictures(self, images: Mapping[str, np.ndarray]) -> dict[str, Any]:
        def picture(image: np.ndarray) -> Any:
            return self._wandb.Image(image[..., 0] if image.shape[-1] == 1 else image)

        return {name: [picture(image) for image in batch] for name, batch in images.items()}
