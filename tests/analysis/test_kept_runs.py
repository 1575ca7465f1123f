"""What is kept of runs, and that the table of the project's own results is made of it."""

import json
import pathlib
import sys

import pytest

from tests import forked_commands
from vision_jax.analysis import kept_runs
from vision_jax.utils import files

MACHINE = {
    "cpu": "A CPU",
    "cpu_count": 2,
    "backend": "cpu",
    "device_kind": "cpu",
    "device_count": 1,
    "process_count": 1,
    "python": "3.11.7",
    "packages": {"jax": "0.10.2"},
}


def a_run(folder, *, command="python -m vision_jax.main --config=/a/b/x.py:best", accuracy=0.75, seed=0, **results):
    workdir = folder / f"run{seed}"
    (workdir / "report").mkdir(parents=True)
    environment = {**MACHINE, "command": command, "git": {"revision": "abc", "dirty": True}, "hostname": "secret"}
    files.write_json(workdir / "environment.json", environment)
    files.write_json(workdir / "config.json", {"seed": seed})
    (workdir / "metrics.jsonl").write_text("{}\n")
    (workdir / "report" / "samples.png").write_bytes(b"a picture")
    (workdir / "report" / "index.html").write_text("a large page")
    found = {
        "data": "digits",
        "parameters": 57332,
        "training_seconds": 90.4,
        "metrics": {"test/accuracy": accuracy},
        "receipts": {},
        "evaluations": {"test": {"examples": 200}},
    }
    files.write_json(workdir / "report" / "results.json", found | results)
    return workdir


def published(folder, metric="test/accuracy"):
    folder.mkdir(exist_ok=True)
    files.write_json(folder / "published.json", {"x.py:best": {"metric": metric, "published": "70 %"}})


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_small_files_are_kept_and_no_paths_or_names_of_the_machine(tmp_path):
    options = "--config.data.root=/home/me/photos --mode=eval"
    workdir = a_run(tmp_path, command=f"python -m vision_jax.main --config=/a/b/x.py:best {options}")
    kept = kept_runs.keep(workdir, tmp_path / "kept", "a")
    assert sorted(path.name for path in kept.iterdir()) == ["metrics.jsonl", "results.json", "run.json", "samples.png"]
    run = json.loads((kept / "run.json").read_text())
    assert (run["config"], run["options"]) == ("x.py:best", ["--config.data.root=photos"])
    assert (run["revision"], run["machine"]) == ("abc and changes", MACHINE)
    (workdir / "report" / "samples.png").unlink()
    kept_runs.keep(workdir, tmp_path / "kept", "a")
    assert not (kept / "samples.png").exists()


def test_what_is_no_ended_run_of_a_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the run has not ended"):
        kept_runs.keep(tmp_path, tmp_path, "a")
    with pytest.raises(ValueError, match="the run has not ended"):
        kept_runs.keep(a_run(tmp_path, seed=1, finished=False), tmp_path, "a")
    with pytest.raises(ValueError, match="names no --config"):
        kept_runs.keep(a_run(tmp_path, command="python script.py"), tmp_path, "a")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/a", "a/"])
def test_a_name_that_is_no_folder_s_deletes_nothing(name, tmp_path):
    workdir = a_run(tmp_path / "runs")
    other = kept_runs.keep(workdir, tmp_path / "kept", "other")
    with pytest.raises(ValueError, match="no name of a folder"):
        kept_runs.keep(workdir, tmp_path / "kept", name)
    assert (other / "run.json").is_file()


def test_a_run_is_not_kept_in_place_of_itself(tmp_path):
    workdir = a_run(tmp_path / "runs")
    for folder, name in ((tmp_path / "runs", workdir.name), (tmp_path, "runs")):
        with pytest.raises(ValueError, match="the run itself lies there"):
            kept_runs.keep(workdir, folder, name)
    assert (workdir / "report" / "results.json").is_file()


def test_the_command_names_a_kept_run_after_the_folder_it_is_in(tmp_path):
    published(tmp_path / "kept")
    workdir = a_run(tmp_path)
    forked_commands.run(
        [sys.executable, "-m", "vision_jax.tools.kept_runs", str(tmp_path / "kept"), "--keep=."], cwd=workdir
    )
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["published.json", workdir.name]


def test_a_row_has_the_figure_with_its_interval_and_what_others_published(tmp_path):
    published(tmp_path / "kept")
    kept_runs.keep(a_run(tmp_path), tmp_path / "kept", "a")
    header, _, row = kept_runs.table(tmp_path / "kept").splitlines()
    assert cells(header) == list(kept_runs.HEADER)
    assert cells(row) == [
        "`x.py:best`",
        "digits",
        "57,332",
        "`accuracy`, test, n = 200",
        "75.0 % (68.6–80.5)",  # Wilson (1927), by his formula.
        "70 %",
        "90 s",
        "2 cores, A CPU",
    ]


def test_seeds_are_a_row_and_other_options_another(tmp_path):
    published(tmp_path / "kept")
    command = "python -m vision_jax.main --config=x.py:best --config.seed="
    for seed, accuracy in enumerate((0.70, 0.75, 0.80)):
        kept_runs.keep(
            a_run(tmp_path, command=f"{command}{seed}", accuracy=accuracy, seed=seed), tmp_path / "kept", f"{seed}"
        )
    other = a_run(tmp_path, command=f"{command}3 --config.train.epochs=2.0", seed=3)
    kept_runs.keep(other, tmp_path / "kept", "other")
    rows = [cells(row) for row in kept_runs.table(tmp_path / "kept").splitlines()[2:]]
    assert [row[4] for row in rows] == ["75.0 % ± 5.00 (3 seeds)", "75.0 % (68.6–80.5)"]


def test_a_distance_has_the_interval_of_its_receipt(tmp_path):
    published(tmp_path / "kept", "test/fid")
    receipts = {"test/fid": {"interval": {"low": 2.9, "high": 3.3}}}
    workdir = a_run(tmp_path, metrics={"test/fid": 3.123}, receipts=receipts, training_seconds=7300.0)
    kept_runs.keep(workdir, tmp_path / "kept", "a")
    row = cells(kept_runs.table(tmp_path / "kept").splitlines()[2])
    assert (row[4], row[6]) == ("3.12 (2.90–3.30)", "2.0 h")


def test_another_metric_stands_beside(tmp_path):
    kept = tmp_path / "kept"
    published(kept, "test/psnr")
    known = json.loads((kept / "published.json").read_text())
    known["x.py:best"]["beside"] = "test/bicubic_psnr"
    files.write_json(kept / "published.json", known)
    kept_runs.keep(a_run(tmp_path, metrics={"test/psnr": 37.345, "test/bicubic_psnr": 33.66}), kept, "a")
    assert cells(kept_runs.table(kept).splitlines()[2])[4] == "37.34, bicubic 33.66"


def test_what_the_published_figures_do_not_know_is_said(tmp_path):
    kept_runs.keep(a_run(tmp_path), tmp_path / "kept", "a")
    files.write_json(tmp_path / "kept" / "published.json", {})
    with pytest.raises(ValueError, match=r"says nothing about x\.py:best"):
        kept_runs.table(tmp_path / "kept")
    published(tmp_path / "kept", "test/fid")
    with pytest.raises(ValueError, match=r"has no test/fid; it has \['test/accuracy'\]"):
        kept_runs.table(tmp_path / "kept")


def test_a_page_keeps_what_is_around_its_table():
    page = f"before\n{kept_runs.BEGIN}old\n{kept_runs.END}after\n"
    once = kept_runs.with_table(page, "new\n")
    assert once.startswith("before\n") and once.endswith("after\n") and "old" not in once and "\nnew\n" in once
    assert kept_runs.with_table(once, "new\n") == once
    with pytest.raises(ValueError, match="The page needs a line"):
        kept_runs.with_table("no marks", "new")


def test_the_project_s_own_table_is_made_of_its_kept_runs(repository):
    folder: pathlib.Path = repository / "configs" / "results"
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert kept_runs.with_table(page, kept_runs.table(folder)) == page
    for path in folder.glob("*/*.json"):
        assert '"/' not in path.read_text(encoding="utf-8"), f"{path} names a folder of somebody's machine"
