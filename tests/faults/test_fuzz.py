"""A few hundred damaged files of every kind, see `fuzz`."""

import subprocess
import sys

from tests.faults import fuzz_readers


def test_damaged_files_are_read_or_refused():
    command = [sys.executable, "-m", "tests.faults.fuzz", "--inputs=650", "--seed=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:] if line]
    assert {row[0]: row[1] for row in rows} == dict.fromkeys(fuzz_readers.READERS, "50")
    assert all(row[4] == "0" and row[3] != "0" for row in rows)
