"""Every option of a run by section: default, meaning, unit, range. A network's are the fields of its module."""

from typing import Any

from vision_jax.utils.options import Option

TASKS = ("classification", "gan", "super_resolution")
DURATION_UNITS = ("steps", "epochs", "examples")


def _duration(meaning: str, prefix: str = "", neutral: bool = False) -> dict[str, Option]:
    """The same duration in three units, of which at most one may be set."""
    return {
        prefix + unit: Option(
            0.0 if unit == "epochs" else 0, f"{meaning}, in {unit}; 0 is unset.", low=0, neutral=neutral
        )
        for unit in DURATION_UNITS
    }


OPTIONS: dict[str, Any] = {
    "task": Option("classification", "What is trained.", choices=TASKS),
    "seed": Option(0, "Seed of the initialization, the order of the examples and all randomness of a step.", low=0),
    "data": {
        "name": Option("digits", "The data set; `python -m vision_jax.main` lists the names in its help."),
        "root": Option("", "Folder of the images when `name` is 'folder'."),
        "data_dir": Option("", "Where prepared data sets lie; '' is $VISION_JAX_HOME/data.", neutral=True),
        "val_fraction": Option(
            0.1, "Part of the training split held out for validation (stratified).", low=0, high=0.9
        ),
        "test_fraction": Option(
            0.2, "Part held out for testing where the data has no test split; 0 is none.", low=0, high=0.9
        ),
        "split_seed": Option(0, "Seed of those splits; independent of `seed` so that runs share them.", low=0),
        "limit": Option(0, "At most this many examples per split, taken evenly; 0 takes all.", low=0),
        "on_broken": Option("error", "What a broken image file does.", choices=("error", "skip")),
        "batch_size": Option(128, "Examples per optimization step, over all devices and processes.", low=1),
        "eval_batch_size": Option(0, "Examples per evaluation step; 0 takes `batch_size`.", low=0),
        "image_size": Option(
            0, "Side in pixels that photos are resized to; 0 is the weights' or leaves them as they are.", low=0
        ),
        "train_crop": Option(
            "random_resized", "How photos become `image_size` in training.", choices=("random_resized", "center")
        ),
        "crop_fraction": Option(0.875, "In the center crop, crop side over resized short side.", low=0.1, high=1),
        "interpolation": Option(
            "bilinear", "Filter with which photos are resized.", choices=("nearest", "bilinear", "bicubic")
        ),
        "cache": Option(
            False, "Decode photos once into a memory-mapped file, shrunk to what evaluation resizes them to."
        ),
        "on_device": Option(
            "auto",
            "Keep the training split on the device: 'auto' up to 1 GiB.",
            choices=("auto", "always", "never"),
            neutral=True,
        ),
        "workers": Option(0, "Processes that load and decode; 0 loads in threads of this one.", low=0, neutral=True),
        "prefetch": Option(2, "Batches made ready ahead of the step.", low=1, neutral=True),
        "augment": Option((), "Augmentations of the training batch, on the device, in order (see data/augment.py)."),
        "mean": Option((), "Subtracted from images in [0, 1], one value or one per channel; () is the weights' or 0."),
        "std": Option((), "Divided by after `mean`, one value or one per channel; () is the weights' or 1."),
        "class_weights": Option(
            "none",
            "Weights of the classes in the loss, from the training split.",
            choices=("none", "balanced", "effective_number"),
        ),
    },
    "model": {
        # Besides these, a section of options for any network, named like it.
        "name": Option("cnn", "The network; one of `vision_jax.models.registry.MODELS`."),
        "weights": Option("", "'' starts from scratch, 'imagenet' from the cached file, else the path of a file."),
        "freeze": Option((), "Stages kept fixed, or ('all_but', …) before those that train; see finetune.py."),
        "freeze_statistics": Option(
            False, "BatchNorm uses and keeps the running statistics it starts with; scale and bias still train."
        ),
        "cache_features": Option(False, "With all but the head frozen, compute the frozen features once."),
    },
    "optimizer": {
        "name": Option("adam", "Update rule.", choices=("sgd", "adam", "adamw", "lion", "muon", "muon_sgd")),
        "learning_rate": Option(1e-3, "Peak learning rate.", low=0),
        "momentum": Option(0.9, "sgd, muon, muon_sgd: momentum.", low=0, high=1),
        "nesterov": Option(True, "sgd, muon, muon_sgd: Nesterov's form of the momentum."),
        "b1": Option(0.9, "adam, adamw, lion: decay of the first moment.", low=0, high=1),
        "b2": Option(0.999, "adam, adamw, lion: decay of the second moment.", low=0, high=1),
        "eps": Option(1e-8, "adam, adamw: added to the root of the second moment.", low=0),
        "weight_decay": Option(0.0, "Decay of kernels; by muon_sgd, of all but convolutions.", low=0),
        "clip_norm": Option(0.0, "Largest global norm of the gradients; 0 does not clip.", low=0),
        "accumulate": Option(1, "Steps whose gradients are averaged into one update.", low=1),
        "ema_decay": Option(
            0.0, "Decay per step of the averaged parameters and statistics used in evaluation; 0 is off.", low=0, high=1
        ),
        "average_last": Option(
            0.0,
            "Stochastic weight averaging: part of training, at its end, whose parameters and running statistics are "
            "averaged with equal weights for evaluation; 0 is off.",
            low=0,
            high=1,
        ),
        "bias_multiplier": Option(
            1.0, "Learning rate of biases and normalization parameters, but the head's, relative to kernels.", low=0
        ),
        "head_multiplier": Option(1.0, "Learning rate of the head relative to the rest.", low=0),
        "stage_decay": Option(1.0, "Learning rate of a stage relative to the next one, input to head.", low=0, high=1),
    },
    "schedule": {
        "name": Option(
            "constant",
            "Course of the learning rate over training.",
            choices=("constant", "step", "linear", "cosine", "one_cycle"),
        ),
        **_duration("Linear warm-up from zero", "warmup_"),
        "final_fraction": Option(0.0, "linear, cosine: learning rate at the end over the peak.", low=0, high=1),
        "boundaries": Option((0.5, 0.75), "step: fractions of training at which the rate is multiplied by `factor`."),
        "factor": Option(0.1, "step: the multiplier.", low=0, high=1),
        "peak_fraction": Option(0.3, "one_cycle: fraction of training at which the peak is reached.", low=0, high=1),
    },
    "train": {
        **_duration("Length of training"),
        "dtype": Option(
            "float32", "Type of the computation; parameters stay float32.", choices=("float32", "bfloat16")
        ),
        "label_smoothing": Option(0.0, "Probability spread evenly over all classes in the loss.", low=0, high=0.9),
        "rewinds": Option(
            0,
            "How often training goes back to the last good checkpoint, instead of ending, when a metric or the state "
            "becomes NaN or infinite.",
            low=0,
            neutral=True,
        ),
        "rewind_factor": Option(
            0.5,
            "What each of these times multiplies all learning rates by, from there on; 1 leaves them.",
            low=0,
            high=1,
            neutral=True,
        ),
        "rewind_skip": Option(
            False,
            "Each of these times also skips the batches that led there, up to that of the step that was not finite.",
            neutral=True,
        ),
        "steps_per_dispatch": Option(1, "Optimization steps per call into the device, for very small networks.", low=1),
        "compilation_cache": Option(True, "Keep compiled programs in $VISION_JAX_HOME/compilation.", neutral=True),
    },
    "log": {
        **_duration("Interval between rows of metrics (all unset: 50 steps)", "every_"),
        "tensorboard": Option(True, "Write TensorBoard files.", neutral=True),
    },
    "eval": {
        **_duration("Interval between evaluations on the validation split (all unset: one epoch)", "every_"),
        "best_metric": Option(
            "", "Metric that picks the best checkpoint: of 'val', or 'EVALUATOR/METRIC'; '' is the task's."
        ),
        "patience": Option(0, "Stop after this many evaluations without improvement; 0 never stops early.", low=0),
        "train": Option(False, "When training ends, evaluate the training split, too."),
        "limit": Option(
            0, "At most this many examples of 'val' and of 'train', spread evenly; 0 takes all. 'test' is whole.", low=0
        ),
        "features": Option(True, "Keep the penultimate features of the final evaluation in WORKDIR/outputs."),
        "gan": {
            "extractor": Option(
                "", "Network in whose features distances to real images are measured: 'fid_inception' or a classifier."
            ),
            "weights": Option("", "Its weights: '' takes the published ones, else the path of a file."),
            "mode": Option("pytorch_fid", "fid_inception: how images are resized and scaled; see tools/fid.py."),
            "samples": Option(5000, "Generated images, and images of 'train', compared during training.", low=2),
            **_duration("Interval between these comparisons (all unset: that of the evaluations)", "every_"),
        },
    },
    "checkpoint": {
        **_duration("Interval between checkpoints besides those of the evaluations", "every_", neutral=True),
        "keep": Option(2, "Newest checkpoints kept, besides the best.", low=1, neutral=True),
    },
    "profile": {
        "start": Option(10, "Step at which the profiler starts.", low=0, neutral=True),
        "steps": Option(0, "Steps to trace into WORKDIR/profile for TensorBoard; 0 is off.", low=0, neutral=True),
    },
    "wandb": {
        "project": Option("", "Project of Weights & Biases to write to; '' is off.", neutral=True),
        "name": Option("", "Name of the run there; '' is the folder's name.", neutral=True),
    },
    "classification": {
        "loss": Option(
            "cross_entropy",
            "What is minimized; focal counts examples less the better they are known.",
            choices=("cross_entropy", "focal"),
        ),
        "focal_gamma": Option(2.0, "focal: exponent; 0 is the cross-entropy.", low=0, high=10),
        "test_time_augmentation": Option(
            "none",
            "Views of an image whose mean logits make a further accuracy: 'flip' accuracy_tta2, 'flip_shift' (by one "
            "pixel) accuracy_tta6.",
            choices=("none", "flip", "flip_shift"),
        ),
        "train_sizes": Option(
            (),
            "Progressive resizing: sides in pixels to which training images are shrunk, each for an equal part of "
            "training, such as (20, 26, 32); () leaves them.",
            low=1,
        ),
        "distillation": {
            "teachers": Option(
                (),
                "Networks to learn from, averaged: folders of runs, 'NETWORK' (published weights) or 'NETWORK:FILE'; "
                "() is off.",
            ),
            "temperature": Option(4.0, "Divides the logits of teachers and student.", low=0.1, high=100),
            "weight": Option(0.9, "Of the teachers' loss; the labels' has the rest.", low=0, high=1),
            "precompute": Option(
                False,
                "Ask the teachers once, about each training image and its mirror image, and not at every step about "
                "what augmentation made of it: cheap where they are large.",
            ),
        },
    },
    "gan": {
        "loss": Option("bce", "What both networks minimize; one of `vision_jax.tasks.losses.ADVERSARIAL`."),
        "latent_dim": Option(100, "Size of the generator's noise.", low=1),
        "conditional": Option(False, "Both networks are told the class of an image, where the data has classes."),
        "classifier": Option(
            0.0,
            "Weight of the discriminator's cross-entropy on the classes of real images, in its loss, and of generated "
            "ones, in the generator's; needs conditional; 0 is off.",
            low=0,
        ),
        "discriminator_steps": Option(
            1, "Updates of the discriminator per step, each on an equal part of the batch.", low=1, high=16
        ),
        "discriminator_learning_rate": Option(0.0, "Peak rate of the discriminator; 0 takes the generator's.", low=0),
        "real_label": Option(
            1.0,
            "bce, minimax, least_squares: the discriminator's target on real images (one-sided smoothing below 1).",
            low=0.5,
            high=1,
        ),
        "r1": Option(0.0, "Weight of half the squared gradient norm on real images; 0 is off.", low=0),
        "r2": Option(0.0, "Weight of half the squared gradient norm on generated images; 0 is off.", low=0),
        "gradient_penalty": Option(
            0.0, "Weight of (gradient norm - 1)² between real and generated images; 0 is off.", low=0
        ),
        "penalty_every": Option(
            1, "Every how many steps the penalties are computed; their weight, and `penalty` logged, grow alike.", low=1
        ),
        "augment": Option((), "DiffAugment of what the discriminator sees: of 'color', 'translation', 'cutout'."),
        "augment_start": Option(0.0, "Fraction of training after which `augment` begins.", low=0, high=1),
        "samples": Option(64, "Images in the sample grid.", low=1, high=1024),
        "temperature": Option(
            1.0,
            "Deviation of the noise of samples and evaluations; training's is 1.",
            low=0.1,
            high=3,
        ),
        "collapse_below": Option(
            0.3, "Warn where generated images differ less than this share of what real ones do; 0 never.", low=0, high=1
        ),
    },
    "super_resolution": {
        "scale": Option(2, "Factor between low and high resolution.", low=2, high=8),
        "channels": Option(
            "rgb",
            "What is restored: 'rgb' (of gray pictures the gray), or 'y', the luma of ITU-R BT.601 in [16, 235].",
            choices=("rgb", "y"),
        ),
        "rounded": Option(
            True, "Low resolution is rounded to 8 bits, as in a file; False as in SRCNN's and FSRCNN's published code."
        ),
        "patch_size": Option(32, "Side of a high-resolution training patch in pixels.", low=8),
        "border": Option(
            0, "Pixels at each side of a restored patch that the loss leaves out: less is seen around them.", low=0
        ),
        "shrink": Option(
            (), "Sides over their own of further copies of the training pictures, such as (0.8, 0.6).", low=0.1, high=1
        ),
        "losses": {  # Weights of what is minimized, added up.
            "mse": Option(1.0, "Weight of the mean squared error.", low=0),
            "l1": Option(0.0, "Weight of the mean absolute error.", low=0),
            "charbonnier": Option(0.0, "Weight of the mean of √(error² + 0.001²).", low=0),
            "perceptual": Option(0.0, "Weight of the squared difference of a network's features.", low=0),
        },
        "perceptual": {
            "network": Option("vgg16", "Network whose features are compared; a VGG, or a classifier with such layers."),
            "weights": Option("", "Its weights: '' takes the published ones, else the path of a file."),
            "layers": Option(("relu2_2",), "Stages whose features are compared."),
            "layer_weights": Option((1.0,), "Weight of each of these.", low=0),
            "dtype": Option("float32", "Type of its computation.", choices=("float32", "bfloat16")),
            "measure": Option(False, "Evaluations measure the distance in its features, also where no loss has it."),
        },
    },
}
