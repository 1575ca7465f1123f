"""Studies: which runs they are, what is kept and continued, what a search trains; one small study from end to end."""

import ast
import json
import pathlib
import shlex
import signal
import subprocess
import sys

import pytest

from tests import forked_commands
from vision_jax import config as config_lib
from vision_jax import run as run_lib
from vision_jax import study as study_lib
from vision_jax.study import Range, Run, Study, StudyError
from vision_jax.tools import study

STUDIES = sorted((pathlib.Path(__file__).parents[2] / "configs" / "studies").glob("*.py"))


class Trainer:
    """Stands in for the command of a run: writes results whose accuracy is a function of the options."""

    def __init__(self, accuracy, fail=()):
        self.accuracy, self.fail, self.started = accuracy, dict(fail), []

    def __call__(self, command):
        given = dict(argument.removeprefix("--").split("=", 1) for argument in command[3:])
        workdir = pathlib.Path(given["workdir"])
        self.started.append(workdir.name)
        if status := self.fail.pop(workdir.name, 0):
            return status
        (workdir / "report").mkdir(parents=True, exist_ok=True)
        results = {"chosen_by": "val/accuracy", "metrics": {"val/accuracy": self.accuracy(given)}}
        (workdir / "report" / "results.json").write_text(json.dumps(results))
        return 0


@pytest.fixture
def compared(monkeypatch):
    """The arguments that the comparison page was asked for with."""
    calls = []

    def write(folders, out):
        calls.append(([folder.name for folder in folders], out))
        return out / "index.html"

    monkeypatch.setattr(study.compare, "write", write)
    return calls


def written(folder, text):
    path = folder / "a_study.py"
    path.write_text("from vision_jax.study import Range, Run, Study\ndef get_study(variant=''):\n    return " + text)
    return str(path)


TWO = (
    "Study('Which?', (Run('a', 'configs/x.py'), Run('b', 'configs/x.py:v', {'model.cnn.dropout': 0.5})), "
    "{'seed': (0, 1)})"
)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
@pytest.mark.parametrize("variant", ["", "smoke"])
def test_every_study_names_runs_that_are_valid(path, variant, load_config):
    assert len((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]) > 20
    for run in study_lib.load(f"{path}:{variant}").all_runs():
        stem = pathlib.Path(run.config.partition(":")[0]).stem
        config = load_config(f"{stem}:{run.config.partition(':')[2]}")
        for name, value in run.options.items():
            value = ast.literal_eval(value) if isinstance(value, str) and value.startswith("(") else value
            config_lib.assign(config, name, value)
        run_lib.validate(config)


def test_the_grid_makes_a_run_of_every_combination():
    made = Study("?", (Run("a", "c.py", {"x.y": 1}), Run("b", "c.py")), {"seed": (0, 1), "z.rate": (0.1,)}).all_runs()
    assert [run.name for run in made] == [f"{name}_seed={seed}_rate=0.1" for name in "ab" for seed in (0, 1)]
    assert made[1].options == {"x.y": 1, "seed": 1, "z.rate": 0.1}
    command = made[1].command(pathlib.Path("out"), ["--config.data.root=my photos"])
    assert command[1:5] == ["-m", "vision_jax.main", "--config=c.py", "--workdir=out/a_seed=1_rate=0.1"]
    assert command[5:] == ["--config.x.y=1", "--config.seed=1", "--config.z.rate=0.1", "--config.data.root=my photos"]
    with pytest.raises(StudyError, match="twice there: a"):
        Study("?", (Run("a", "c.py"), Run("a", "d.py"))).all_runs()


def test_commands_are_one_line_per_run_and_train_nothing(tmp_path, capsys):
    trainer = Trainer(lambda given: 0.5)
    arguments = [written(tmp_path, TWO), f"--out={tmp_path / 'out'}", "--commands", "--config.data.root=my photos"]
    assert study.main(arguments, trainer) == 0 and not trainer.started
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all("'--config.data.root=my photos'" in line for line in lines)
    assert shlex.split(lines[2])[3:] == [
        "--config=configs/x.py:v",
        f"--workdir={tmp_path}/out/b_seed=0",
        "--config.model.cnn.dropout=0.5",
        "--config.seed=0",
        "--config.data.root=my photos",
    ]


def test_finished_runs_are_kept_and_a_stopped_one_continues(tmp_path, compared, capsys):
    arguments = [written(tmp_path, TWO), f"--out={tmp_path / 'out'}"]
    stopped = Trainer(lambda given: 0.5, fail={"b_seed=0": 75})
    assert study.main(arguments, stopped) == 1 and stopped.started == ["a_seed=0", "a_seed=1", "b_seed=0"]
    assert "the same command continues the study" in capsys.readouterr().err and not compared
    again = Trainer(lambda given: 0.5)
    assert study.main(arguments, again) == 0 and again.started == ["b_seed=0", "b_seed=1"]
    assert compared == [(["a_seed=0", "a_seed=1", "b_seed=0", "b_seed=1"], tmp_path / "out" / "comparison")]
    assert study.main([*arguments, "--compare"], again) == 0 and len(again.started) == 2 and len(compared) == 2
    assert study.main([*arguments, "--config.train.epochs=2.0"], again) == 1
    assert "was begun with other options" in capsys.readouterr().err


def test_a_run_that_was_evaluated_before_its_end_is_not_finished(tmp_path, compared):
    arguments = [written(tmp_path, TWO), f"--out={tmp_path / 'out'}"]
    assert study.main(arguments, Trainer(lambda given: 0.5, fail={"b_seed=0": 75})) == 1
    results = {"chosen_by": "val/accuracy", "metrics": {"val/accuracy": 0.1}, "finished": False}
    (tmp_path / "out" / "b_seed=0" / "report").mkdir()
    (tmp_path / "out" / "b_seed=0" / "report" / "results.json").write_text(json.dumps(results))
    assert study.main([*arguments, "--compare"], Trainer(None)) == 0 and compared[0][0] == ["a_seed=0", "a_seed=1"]
    again = Trainer(lambda given: 0.5)
    assert study.main(arguments, again) == 0 and again.started == ["b_seed=0", "b_seed=1"]


def test_a_run_that_fails_ends_the_study_and_says_which(tmp_path, compared, capsys):
    arguments = [written(tmp_path, TWO), f"--out={tmp_path / 'out'}"]
    assert study.main(arguments, Trainer(lambda given: 0.5, fail={"a_seed=1": 1})) == 1
    assert "a_seed=1 failed with status 1" in capsys.readouterr().err
    assert study.main([*arguments, "--compare"], Trainer(None)) == 0 and not compared
    assert f"The one run that has finished: {tmp_path / 'out' / 'a_seed=0'}\n" in capsys.readouterr().out
    assert study.main([arguments[0], f"--out={tmp_path / 'empty'}", "--compare"]) == 1
    assert "None of the 4 runs" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_waits_for_the_run_to_save(number, tmp_path, monkeypatch, capsys):
    # A stand-in for a run, which SIGTERM reaches only if it is passed on; a terminal sends Ctrl-C to both.
    run = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit(75)))\n"
        f"os.kill(os.getppid(), {int(number)})\n"
        f"time.sleep({0.5 if number == signal.SIGINT else 60})\n"
        "sys.exit(75)"
    )
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Run, "command", lambda *_: [sys.executable, "-c", run])
    assert study.main([written(tmp_path, TWO), f"--out={tmp_path / 'out'}"]) == 1
    assert "a_seed=0 was stopped by a signal and has saved" in capsys.readouterr().err
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


SEARCHED = (
    "Study('?', (Run('a', 'c.py'),), space={'optimizer.learning_rate': Range(1e-4, 1.0, log=True), 'seed': (0, 1)}, "
    "length=('train.epochs', 27.0))"
)


def by_rate(given):
    """An accuracy that is best at a rate of 0.01."""
    from math import log10

    return 1 - abs(log10(float(given["config.optimizer.learning_rate"])) + 2) / 10


def test_random_search_trains_every_setting_and_ranks_them(tmp_path, compared):
    trainer = Trainer(by_rate)
    arguments = [written(tmp_path, SEARCHED), f"--out={tmp_path / 'out'}", "--search=random", "--budget=5"]
    assert study.main(arguments, trainer) == 0
    assert trainer.started == [f"a_trial{number:03}" for number in range(5)]
    scores = [json.loads((tmp_path / "out" / name / "report/results.json").read_text()) for name in compared[0][0]]
    values = [found["metrics"]["val/accuracy"] for found in scores]
    assert values == sorted(values, reverse=True) and len(set(values)) == 5
    # The draws are those of the seed: again, nothing is trained; of another seed, everything.
    assert study.main(arguments, trainer) == 0 and len(trainer.started) == 5
    assert [run.options for run in study_lib.load(arguments[0]).drawn(5, 0)] != [
        run.options for run in study_lib.load(arguments[0]).drawn(5, 1)
    ]


def test_successive_halving_gives_the_better_third_three_times_as_long(tmp_path, compared, capsys):
    trainer = Trainer(by_rate)
    arguments = [written(tmp_path, SEARCHED), f"--out={tmp_path / 'out'}", "--search=halving", "--budget=9"]
    assert study.main(arguments, trainer) == 0
    rounds = [[name for name in trainer.started if name.endswith(f"_round{number}")] for number in range(3)]
    assert [len(names) for names in rounds] == [9, 3, 1]
    lengths = [
        {
            argument
            for name in names
            for argument in json.loads((tmp_path / "out" / name / "study.json").read_text())["arguments"]
            if argument.startswith("--config.train.epochs")
        }
        for names in rounds
    ]
    assert lengths == [{f"--config.train.epochs={epochs}"} for epochs in (3.0, 9.0, 27.0)]
    rates = {
        run.name: by_rate({"config.optimizer.learning_rate": run.options["optimizer.learning_rate"]})
        for run in study_lib.load(arguments[0]).drawn(9, 0)
    }
    best = sorted(rates, key=rates.get, reverse=True)
    assert {name.removesuffix("_round1") for name in rounds[1]} == set(best[:3])
    assert rounds[2] == [f"{best[0]}_round2"]
    # A last round of one has nothing to be compared with.
    assert not compared and f"The best run: {tmp_path / 'out' / rounds[2][0]}\n" in capsys.readouterr().out


def test_runs_that_cannot_be_compared_are_a_sentence(tmp_path, capsys):
    assert study.main([written(tmp_path, TWO), f"--out={tmp_path / 'out'}"], Trainer(lambda given: 0.5)) == 1
    assert "a_seed=0 is no folder of a run" in capsys.readouterr().err


def test_settings_are_not_repeated_and_ranges_are_kept():
    found = Study("?", (Run("a", "c.py"),), space={"seed": (0, 1, 2)}).drawn(10, 0)
    assert sorted(run.options["seed"] for run in found) == [0, 1, 2]
    drawn = [
        run.options["x"] for run in Study("?", (Run("a", "c"),), space={"x": Range(1e-4, 1.0, log=True)}).drawn(200, 0)
    ]
    assert 1e-4 <= min(drawn) < 1e-3 and 0.1 < max(drawn) <= 1.0
    assert 70 < sum(value < 1e-2 for value in drawn) < 130  # Half of the decades.


def test_what_is_no_study_is_said(tmp_path, capsys):
    out = f"--out={tmp_path}"
    assert study.main([str(tmp_path / "none.py"), out]) == 1
    (tmp_path / "empty.py").write_text("")
    assert study.main([str(tmp_path / "empty.py"), out]) == 1
    assert study.main([written(tmp_path, TWO), out, "--search=random"]) == 1
    assert study.main([written(tmp_path, SEARCHED), out, "--search=random", "--commands"]) == 1
    error = capsys.readouterr().err
    for words in (
        "There is no study",
        "no function get_study",
        "no space to search",
        "--commands cannot list a search",
    ):
        assert words in error
    with pytest.raises(SystemExit):
        study.main([written(tmp_path, TWO), out, "--sed=1"])
    assert "unknown: --sed=1" in capsys.readouterr().err


def command(study_file, out, *options):
    return [sys.executable, "-m", "vision_jax.tools.study", study_file, f"--out={out}", *options]


def test_its_command_reads_a_study(repository):
    lines = forked_commands.run(command(str(STUDIES[0]), "x", "--commands"), cwd=repository).stdout
    runs = study_lib.load(str(STUDIES[0])).all_runs()
    for run, line in zip(runs, lines.splitlines(), strict=True):
        assert f"--workdir=x/{run.name} " in f"{line} "


@pytest.mark.full
def test_a_small_study_on_digits_by_its_command(tmp_path, repository):
    limits = ["--config.train.epochs=3.0", "--config.data.limit=100", "--config.log.tensorboard=False"]
    given = written(tmp_path, "Study('?', (Run('a', 'configs/digits_cnn.py:smoke'),), {'seed': (0, 1)})")
    subprocess.run(command(given, tmp_path / "out", *limits), cwd=repository, check=True)
    for name in ("a_seed=0", "a_seed=1"):
        assert json.loads((tmp_path / "out" / name / "config.json").read_text())["seed"] == int(name[-1])
    assert (tmp_path / "out" / "comparison" / "index.html").is_file()
