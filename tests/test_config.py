"""Options: defaults, overrides, and sentences for everything that is wrong with them."""

import pytest

from vision_jax import config as config_lib


def valid(task="classification"):
    config = config_lib.default(task)
    config.train.steps = 10
    if task == "gan":
        config.model.name = "dcgan"
    elif task == "super_resolution":
        config.model.name = "srcnn"
    return config


@pytest.mark.parametrize("task", config_lib.TASKS)
def test_defaults_are_valid_and_hold_the_task_s_own_section_alone(task):
    config = valid(task)
    config_lib.validate(config)
    sections = [name for name in config_lib.TASKS if name in config]
    assert sections == [name for name in (task,) if name in config_lib.OPTIONS]


def test_every_option_has_a_meaning_that_is_a_sentence():
    for name, option in config_lib.walk(config_lib.OPTIONS):
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
        ("optimizer.name", "adm", "expected one of sgd, adam, adamw, lion, muon; did you mean 'adam'?"),
        ("optimizer.learning_rate", float("nan"), "expected a finite number"),
        ("data.std", (0.5, 0.0), "expected numbers above 0"),
        ("data.mean", ("0",), "expected a tuple of numbers"),
        ("model.name", "resnet19", "did you mean 'resnet1"),
        ("model.width", 4, "cnn has no such option; it has activation"),
        ("train.epochs", 3.0, "config.train.steps=10 and config.train.epochs=3.0 contradict each other"),
        ("train.steps", 0, "must be above 0"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_allowed(name, value, words):
    config = valid()
    section, option = name.split(".")
    config[section][option] = value
    with pytest.raises(config_lib.ConfigError) as error:
        config_lib.validate(config)
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


def test_gan_options_must_fit_both_networks():
    config = valid("gan")
    config.model.hidden = (3,)
    with pytest.raises(config_lib.ConfigError, match="dcgan has no such option"):
        config_lib.validate(config)


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
    config.model.channels = (8, 16)
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
