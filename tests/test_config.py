"""Options: defaults, overrides, and sentences for everything that is wrong with them."""

import pytest

from vision_jax import command_line, models, run
from vision_jax import config as config_lib
from vision_jax.option_table import OPTIONS, TASKS
from vision_jax.tasks import registry


def check(config):
    config_lib.validate(config)
    run.validate(config)


def valid(task="classification"):
    config = config_lib.default(task)
    config.train.steps = 10
    if task == "gan":
        config.model.name = "dcgan"
    elif task == "super_resolution":
        config.model.name = "srcnn"
    return config


@pytest.mark.parametrize("task", TASKS)
def test_defaults_are_valid_and_hold_the_task_s_own_section_alone(task):
    config = valid(task)
    config_lib.validate(config)
    sections = [name for name in TASKS if name in config]
    assert sections == [name for name in (task,) if name in OPTIONS]


def test_every_option_has_a_meaning_that_is_a_sentence():
    for name, option in config_lib.walk(OPTIONS):
        assert option.meaning[0].isalnum() or option.meaning[0] == "'", name
        assert option.meaning.endswith("."), name
        assert option.problem(option.default) is None, name


def test_a_misspelt_option_is_refused_when_set():
    with pytest.raises(AttributeError, match="learning_rate"):
        valid().optimizer.learning_rat = 0.1


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("data.batch_size", 0, "is 0, allowed is from 1 upwards"),
        ("optimizer.b1", 1.5, "is 1.5, allowed is from 0 to 1"),
        ("optimizer.name", "adm", "expected one of sgd, adam, adamw, lion, muon, muon_sgd; did you mean 'adam'?"),
        ("optimizer.learning_rate", float("nan"), "expected a finite number"),
        ("data.std", (0.5, 0.0), "expected numbers above 0"),
        ("data.mean", ("0",), "expected a tuple of numbers"),
        ("model.name", "resnet19", "did you mean 'resnet1"),
        ("model.weigths", "x", "config.model.weigths does not exist; did you mean 'model.weights'?"),
        ("model.cnn.width", 4, "config.model.cnn.width does not exist; cnn has activation"),
        ("model.cnn.dropot", 0.5, "did you mean 'dropout'?"),
        ("model.cn.dropout", 0.5, "config.model.cn is no network's section; did you mean 'cnn'?"),
        ("model.cnn.dropout", 0.99, "is 0.99, allowed is from 0 to 0.95"),
        ("model.cnn.channels", (8, 0), "is (8, 0), allowed is from 1 upwards"),
        ("model.cnn.channels", 8, "is 8 (int), expected tuple[int, ...]"),
        ("model.cnn.pool", "maxx", "expected one of max, avg, stride; did you mean 'max'?"),
        ("model.srcnn.channels", 3, "config.model.srcnn.channels does not exist; srcnn has features"),
        ("model.dcgan_generator.latent", 3, "config.model.dcgan_generator.latent does not exist"),
        ("train.epochs", 3.0, "config.train.steps=10 and config.train.epochs=3.0 contradict each other"),
        ("train.steps", 0, "must be above 0"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_allowed(name, value, words):
    config = valid()
    with config.unlocked():
        config_lib.assign(config, name, value)
    with pytest.raises(config_lib.ConfigError) as error:
        check(config)
    assert words in str(error.value) and name.split(".")[0] in str(error.value)


def test_all_problems_are_reported_at_once():
    config = valid()
    config.data.batch_size, config.train.dtype = -1, "float16"
    with pytest.raises(config_lib.ConfigError) as error:
        config_lib.validate(config)
    assert "config.data.batch_size" in str(error.value) and "config.train.dtype" in str(error.value)


def test_wrong_types_are_refused():
    with pytest.raises(TypeError):
        valid().data.batch_size = "many"
    config = valid()
    with config.unlocked(), config.ignore_type():
        config.data.batch_size = 1.5
    with pytest.raises(config_lib.ConfigError, match=r"is 1\.5 \(float\), expected int"):
        config_lib.validate(config)


def test_networks_of_a_gan_have_sections_of_their_own():
    config = valid("gan")
    config.model.dcgan_generator = dict(width=3)
    check(config)
    config.model.dcgan_discriminator = dict(hidden=(3,))
    with pytest.raises(config_lib.ConfigError, match=r"dcgan_discriminator\.hidden does not exist"):
        check(config)


def test_switching_the_network_leaves_the_options_of_the_other_without_effect(tmp_path):
    config = valid()
    config.model.cnn = dict(dropout=0.5)
    config.model.name = "mlp"
    config.model.mlp = dict(hidden=(4,))
    config.lock()  # As the command line's is.
    check(config)
    with run.build(config, tmp_path) as built:
        assert "cnn" not in built.config.model and built.config.model.mlp.hidden == (4,)
        assert built.task.model.hidden == (4,) and built.task.model.dropout == 0.0
    assert config.model.cnn.dropout == 0.5  # The caller's own is as it was.


def test_none_unsets_an_option_of_a_network(tmp_path):
    config = valid()
    config.model.name, config.model.cifar10_cnn = "cifar10_cnn", dict(dropout=0.25)
    config_lib.assign(config, "model.cifar10_cnn.dropout", None)
    config_lib.assign(config, "data.name", "digits")
    check(config)
    with run.build(config, tmp_path) as built:
        assert built.task.model.dropout == 0.5  # The network's own.


def test_options_are_taken_from_the_command_line():
    arguments = ["--config.model.cnn.dropout=None", "-config.model.cnn.norm=batch", "--config.seed", "3"]
    others = ["main", "--config=a.py", "config.model.a.b=1", "--mode", "eval"]
    rest, found = command_line.take_options([*others, *arguments, "--config.log.tensorboard"])
    assert rest == others
    assert found == {
        "model.cnn.dropout": "None",
        "model.cnn.norm": "batch",
        "seed": "3",
        "log.tensorboard": "True",
    }


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "3", 3),
        ("optimizer.learning_rate", "1", 1.0),
        ("data.root", "2024", "2024"),
        ("log.tensorboard", "false", False),
        ("data.augment", "('horizontal_flip',)", ("horizontal_flip",)),
        ("model.freeze", "['stem']", ("stem",)),
        ("model.mlp.hidden", "(3, 4)", (3, 4)),
        ("model.mlp.dropout", "None", None),
    ],
)
def test_texts_become_values_of_the_option_s_type(name, text, value):
    config = valid()
    config_lib.assign_text(config, name, text)
    found = config_lib.flatten(config.to_dict())[name]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("optimizer.learning_rat", "1", "does not exist; did you mean 'optimizer.learning_rate'"),
        ("optimizer.learning_rate", "fast", r"is 'fast' \(str\), expected float"),
        ("data.batch_size", "0.5", "expected int"),
        ("optimizer", "1", "config.optimizer does not exist"),
        ("gan.latent_dim", "10", "is of the task gan; this config's task is classification"),
    ],
)
def test_wrong_texts_are_sentences(name, text, words):
    with pytest.raises(config_lib.ConfigError, match=words):
        config_lib.assign_text(valid(), name, text)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_option_of_a_network_has_a_meaning_and_a_valid_default(name):
    for option, described in models.options(name).items():
        assert described.meaning.endswith("."), option
        assert described.problem(described.default) is None, option


def test_the_table_of_tasks_is_the_config_s():
    assert tuple(registry.TASKS) == TASKS


@pytest.mark.parametrize(
    ("task", "option", "value"),
    [
        ("gan", "freeze", ("stem",)),
        ("gan", "weights", "imagenet"),
        ("super_resolution", "freeze_statistics", True),
        ("super_resolution", "cache_features", True),
    ],
)
def test_fine_tuning_is_for_classification(task, option, value):
    config = valid(task)
    config_lib.validate(config)
    config.model[option] = value
    with pytest.raises(config_lib.ConfigError, match=rf"config\.model\.{option} is for classification; {task} starts"):
        config_lib.validate(config)


def test_plain_json_and_back():
    config = valid()
    config.model.cnn = dict(channels=(8, 16))
    config.optimizer.learning_rate = 3e-4
    again = config_lib.from_dict(config_lib.to_dict(config))
    assert again.to_dict() == config.to_dict()
    with pytest.raises(config_lib.ConfigError, match=r"no option 'data\.batch_sise'; did you mean 'data\.batch_size'"):
        config_lib.from_dict({"task": "gan", "data": {"batch_sise": 3}})


def test_differences_name_options_that_matter():
    new = config_lib.to_dict(valid())
    old = config_lib.to_dict(valid())
    old["optimizer"]["learning_rate"] = 1.0
    old["data"]["workers"] = 8
    del old["seed"]
    assert config_lib.differences(old, new) == [
        "optimizer.learning_rate: 1.0 -> 0.001",
        "seed: '(absent)' -> 0",
    ]


@pytest.mark.parametrize(
    ("unit", "value", "steps"), [("steps", 7, 7), ("epochs", 2.0, 21), ("examples", 1000, 10), ("examples", 1001, 11)]
)
def test_durations_become_steps_rounded_up(unit, value, steps):
    section = {"steps": 0, "epochs": 0.0, "examples": 0} | {unit: value}
    assert config_lib.steps(section, "", batch_size=100, train_examples=1030) == steps
    assert config_lib.steps(dict.fromkeys(section, 0), "", batch_size=100, train_examples=1030) == 0


def test_averages_that_contradict_each_other_or_the_task_are_refused():
    config = config_lib.default("classification")
    config.train.steps = 10
    config.optimizer.average_last = 0.5
    config_lib.validate(config)
    config.optimizer.ema_decay = 0.9
    with pytest.raises(config_lib.ConfigError, match="are two averages"):
        config_lib.validate(config)
    gan = config_lib.default("gan")
    gan.train.steps, gan.optimizer.average_last = 10, 0.5
    with pytest.raises(config_lib.ConfigError, match="not for the task gan"):
        config_lib.validate(gan)


def test_options_of_classification_are_its_own():
    assert "classification" in config_lib.default("classification")
    assert "classification" not in config_lib.default("super_resolution")
