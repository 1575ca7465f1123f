"""`small_filters_cnn` (57,332 parameters) on CIFAR-100, 10,000 steps without augmentation.

    python -m vision_jax.main --config=configs/cifar100_small_cnn.py --workdir=runs/cifar100_small_cnn

Accuracy on the 10,000 test images, of the checkpoint that is best on 5,000 images held out of training:

    published: 33.9 % (41.2 % on the training images)
    this, step 4,000, seed 0: 33.0 % (10 minutes of CPU time on a 2-core AMD EPYC VM)

Accuracy on the training batches reaches 54 % while the validation loss rises from step 3,000: it over-fits,
which is what augmentation (`--config.data.augment="('random_crop(padding=4)', 'horizontal_flip')"`) and
dropout are for.
"""

from vision_jax import config as config_lib


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on scikit-learn's digits."""
    config = config_lib.default("classification")
    config.data.name = "cifar100"
    config.data.batch_size = 128
    config.data.eval_batch_size = 500
    config.data.mean = (0.5071, 0.4865, 0.4409)
    config.data.std = (0.2673, 0.2564, 0.2762)

    config.model.name = "small_filters_cnn"

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.train.steps = 10_000
    config.train.steps_per_dispatch = 10
    config.log.every_steps = 100
    config.eval.every_steps = 1000

    if variant == "smoke":
        config.data.name = "digits"
        config.data.limit = 200
        config.data.mean = (0.3,)
        config.data.std = (0.4,)
        config.train.steps = 20
        config.log.every_steps = 5
        config.eval.every_steps = 10
    return config
