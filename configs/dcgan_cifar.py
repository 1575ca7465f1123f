"""A DCGAN of at most 538,432 parameters on CIFAR-10 (25,000 steps), or on CIFAR-100 as `dcgan_cifar.py:cifar100`.

    python -m vision_jax.main --config=configs/dcgan_cifar.py --workdir=runs/dcgan_cifar

The networks are class-conditional, the generator's normalization too, and the discriminator also tells classes, for
which it has two residual 3×3 convolutions. Flips, translations of what the discriminator sees, minibatch deviation, a
moving average and a cosine schedule are the rest of what they have more than the authors'. `fd_resnet56_10k` is 2.39
against the test images (95 % interval 2.31 to 2.48), where their recipe has 5.61 after twice as many steps; a ResNet-56
finds all ten classes, the rarest in 7.2 % of 10,000 samples, and is 94 % sure of its answers. 1.9 hours on one core of
an AMD EPYC that did other work too. Record: configs/results/dcgan_cifar, step 15,000, the best of ten evaluations.

What does it, as the distance of evaluations, to training images:

- The residual convolutions: 6.8 at step 5,000 of 50,000, where 9.4 is reached without; 5.1, 2.9, 2.9, 3.1 and 3.0 at
  every 5,000th of 25,000 steps. In the end the discriminator tells nine of ten images right and teaches no more. What
  is left is variety: the covariance of the samples' features has a trace of 28, that of real images 39.5.
- Translations, in place of R1 (0.1 at every fourth step): without the convolutions 4.2 at step 15,000 and 3.2 at
  30,000, where R1 has 5.0 and, at 35,000, 4.4.
- Neither narrower or wider noise in sampling, nor a longer average of the parameters or statistics of the batch in
  place of running ones (all without the convolutions), nor filters against the grid or the color noise of samples:
  they make it longer, or change nothing.

What trials of 5,000 steps say: the classifier's weight is to stay small (at 2.0 the generator learns to deceive it, and
a ResNet-56 recognizes the class of a fifth of the samples), and a discriminator that is held back (R1 of 1.0, half the
rate) teaches nothing. One that tells the classes of generated images from those of real ones (Hou et al. 2022, arXiv
2107.10060) was behind, 12.1 to 10.0; so were residual blocks in the generator (13.7) and a last 3×3 convolution at
full size (16.5). After training, choosing among 16 samples by the discriminator's logit makes the distance longer.

`:cifar100` knows no classes: a hundred of them the discriminator cannot tell apart, and the generator learns to deceive
it (with a classifier 11.4 at step 5,000, where 5.4 is the authors' recipe). The translations begin after 60 % of
training. `fd_resnet56_10k` is 0.791 against the test images (95 % interval 0.75 to 0.83), where the authors' recipe
(`dcgan_cifar100.py`) has 0.995; 2.3 hours on one core. Record: configs/results/dcgan_cifar_cifar100, whose translations
began at step 30,299, not 30,000: `--config.gan.augment_start=0.60598`. What it and trials taught, as the distance of
evaluations:

- Without translations the discriminator knows the training images by heart in the end (of them it takes 96 % for real,
  of the test images 80 %), and the generator stands still: 1.53 at steps 20,000 and 25,000. Translations from 60 % on
  bring 0.83 at step 35,000, 0.79 at 40,000 and 0.84 at 45,000. With cutouts besides it is 0.82 and 0.81 at steps 35,000
  and 40,000, with color, too, 0.85 and 0.81: what augments matters less than that it begins late.
- Translations from the first step on: 3.6, 2.3, 1.6, 1.2, 1.1, 1.0 and 1.1 at every 5,000th step up to 35,000; with
  cutouts besides, 8.0, 3.2 and 2.5; at a constant half of the rate 6.8, 2.7 and 1.7.
- Classes told without a classifier (`gan.classifier` 0), with translations: 3.8, 1.8, 1.4, 1.1, 1.0 and 0.9 at every
  5,000th step up to 30,000, and 1.0 at 35,000, with cutouts from 30,000 on, too. A classifier whose loss is the
  discriminator's alone: 3.5 and 1.7 at steps 5,000 and 10,000; the 20 superclasses with the recipe of CIFAR-10: 4.5 at
  5,000.
- R1 holds the discriminator back without keeping it from that: 6.2 and 2.5 at steps 5,000 and 10,000 with 0.1, 4.8 and
  2.0 without; at half the rate 5.6 and 2.8.
- Residual convolutions make the discriminator too strong: 4.9, 1.9 and 1.6 at steps 5,000, 10,000 and 15,000 of 25,000,
  where it tells 92 % of images right; cutouts from there on bring 1.3 at 20,000. With spectral normalization in place
  of BatchNorm, and the hinge loss, it is too weak (52 % right): 13.4 at 2,500, and 12.4 with four times the rate, where
  9.0 is usual.
- Noise of deviation 1.2 makes samples that are more varied: 1.14 instead of 1.65 at step 20,000, where it was chosen,
  by test images; with translations, in the end, 0.84 instead of 1.04 by training images, of which 1.1 has 0.83.
- The features are as sensitive to pixels as to objects: noise of deviation 4 of 255 on real images is 1.04 away from
  them. Where samples and real images are blurred alike, by a deviation of one pixel, the distance is 0.27 instead of
  0.89 (between real ones 0.03 and 0.07), and their covariances have equal traces, 12.1 and 12.3, instead of 19.2 and
  23.5: fine detail is what is left. No filter, sharpening or denoising brings it nearer than 0.84.
- A generator with more of it: two residual 3×3 convolutions before the last layer and 24 channels at full size, which
  began at zero at step 30,299, bring 0.76 at steps 32,500 and 35,000, where it is 0.83 at step 35,000 without; one
  such convolution in the discriminator, too, 0.74 and 0.76. From the first step on these make 11.7 and 4.3 at steps
  2,500 and 5,000, with two in the discriminator 9.8 and 5.7, where 4.8 at 5,000 is usual.
- Batches of 512 from step 30,299 on bring 0.83 at 32,500. A discriminator that also sees the highest frequencies, four
  times as strong, soon tells 90 % right: 0.94 and 0.93 at steps 32,500 and 35,000.
- Weighing samples by what the discriminator says of them makes the distance longer.

`:authors` is the recipe of the CIFAR-100 experiment (`dcgan_cifar100.py`) on CIFAR-10, with as many parameters and
steps: `fd_resnet56_10k` 5.61 against the test images (95 % interval 5.51 to 5.72; the training images themselves are
0.07 away, noise 65.7), 2.6 hours on one core of an AMD EPYC that did other work too. Record:
configs/results/dcgan_cifar_authors. The distance is measured by

    --config.eval.gan.extractor=resnet56 --config.eval.gan.weights=FILE --config.eval.gan.every_steps=5000

with FILE the published weights of the CIFAR-10 ResNet-56 (third_party/weights.json); of 25,000 steps, every 2,500.

On photos of your own, with or without class folders:

    --config.data.name=folder --config.data.root=DIR --config.data.image_size=32
"""

from vision_jax import config as config_lib

VARIANTS = ("", "cifar100", "authors", "smoke")


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on digits."""
    if variant not in VARIANTS:
        raise ValueError(f"dcgan_cifar has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}.")
    config = authors()
    if variant != "authors":
        improve(config)
    if variant == "cifar100":
        without_classes(config)
        config.data.name = "cifar100"
    if variant == "smoke":
        smoke(config)
    return config


def authors():
    """Returns the published recipe on CIFAR-10: BCE, Adam of 2e-4 with b1 = 0.5, nothing else."""
    config = config_lib.default("gan")
    config.data.name = "cifar10"
    # Of photos that are resized, all of the middle is seen, and nothing else.
    config.data.train_crop = "center"
    config.data.crop_fraction = 1.0
    # A GAN selects nothing on the validation split, which only feeds the cheap distance of its curve.
    config.data.val_fraction = 0.02
    config.data.batch_size = 128
    config.data.eval_batch_size = 500

    config.model.name = "dcgan"
    config.gan.latent_dim = 100

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-4
    config.optimizer.b1 = 0.5
    config.train.steps = 50_000
    config.log.every_steps = 100
    config.eval.every_steps = 2500
    return config


def improve(config):
    """Sets what makes the samples better."""
    config.data.augment = ("horizontal_flip",)
    config.gan.augment = ("translation",)
    # Both networks are told the class, for parameters that less noise frees.
    config.gan.conditional = True
    config.gan.classifier = 0.5
    config.gan.latent_dim = 32
    config.model.dcgan_generator = dict(width=36, embedding=12, modulation=True)
    config.model.dcgan_discriminator = dict(minibatch="stddev", residual=2)
    config.optimizer.learning_rate = 4e-4
    config.optimizer.ema_decay = 0.999
    config.schedule.name = "cosine"
    config.train.steps = 25_000


def without_classes(config):
    """Changes the recipe for data whose classes are too many for a small discriminator to tell apart."""
    config.gan.conditional = False
    config.gan.classifier = 0.0
    config.gan.latent_dim = 64
    config.gan.temperature = 1.2
    config.gan.augment_start = 0.6
    config.model.dcgan_generator = dict(width=36)
    config.model.dcgan_discriminator.residual = 0
    config.train.steps = 50_000


def smoke(config):
    """Makes it a matter of seconds, on digits."""
    config.data.name = "digits"
    config.data.limit = 200
    config.data.val_fraction = 0.1
    config.data.batch_size = 32
    config.train.steps = 20
    config.train.steps_per_dispatch = 5
    config.log.every_steps = 5
    config.eval.every_steps = 10
