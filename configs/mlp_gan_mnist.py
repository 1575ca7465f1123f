"""The fully connected GAN on MNIST: 1,486,352 and 533,505 parameters, BCE, Adam of 2e-4 on both, 50 epochs.

    python -m vision_jax.main --config=configs/mlp_gan_mnist.py --workdir=runs/mlp_gan_mnist

Its authors show a 4x4 grid of digits and the loss of both networks per batch; dropout in the discriminator, the moving
average and the falling rate are ours. In the features of `mnist_cnn.py`'s network, 10,000 samples are 1.85 from the
test images (the training images 0.01, noise 23.6); that network finds all ten digits, the rarest in 5.5 % of the
samples, and is 83.5 % sure of its answers, of real digits 4 % less than it is right: it was trained with smoothed
labels. The network of `mnist_ann.py` (99.28 % right, 0.2 % from being as sure) finds the rarest in 5.2 % and is 93.7 %
sure. 76 minutes on one core of an AMD EPYC that did other work too. Best by the distance was epoch 40; 20 epochs with
R1 of 2.0 instead of dropout ended at 5.7. Record: configs/results/mlp_gan_mnist, measured with

    python -m vision_jax.tools.port_weights --workdir=runs/mnist_cnn --out=mnist_cnn.safetensors
    --config.eval.gan.extractor=cnn --config.eval.gan.weights=mnist_cnn.safetensors --config.eval.gan.every_epochs=10

and, for the other network, once more by `--mode=eval --allow_config_change` with `mnist_ann.safetensors` and
`--config.eval.gan.extractor=mlp`.

Other images of one size, also photos (`--config.data.name=folder --config.data.root=DIR --config.data.image_size=28`),
work alike.
"""

from vision_jax import config as config_lib


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on digits."""
    if variant not in ("", "smoke"):
        raise ValueError(f"mlp_gan_mnist has no variant {variant!r}; it has 'smoke'.")
    config = config_lib.default("gan")
    config.data.name = "mnist"
    config.data.train_crop = "center"
    config.data.crop_fraction = 1.0
    config.data.val_fraction = 0.02
    config.data.batch_size = 128
    config.data.eval_batch_size = 500

    config.model.name = "mlp_gan"
    # Without it the discriminator knows its training images after ten epochs, and the generator stops learning.
    config.model.mlp_gan_discriminator = dict(dropout=0.3)
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-4
    config.optimizer.b1 = 0.5
    config.optimizer.ema_decay = 0.999
    config.schedule.name = "cosine"
    config.train.epochs = 50.0
    config.train.steps_per_dispatch = 10
    config.log.every_steps = 100
    config.eval.every_epochs = 5.0

    if variant == "smoke":
        config.data.name = "digits"
        config.data.limit = 200
        config.data.val_fraction = 0.1
        config.data.batch_size = 32
        config.train.epochs = 4.0
        config.log.every_steps = 5
        config.eval.every_epochs = 2.0
    return config
