"""Runs many commands, each in a fork of a process that has imported everything: a second each, not ten.

Reads `[[module, argument, …], …]` as JSON from stdin and writes `[[status, stdout, stderr], …]` to stdout.
"""

import json
import os
import runpy
import sys
import tempfile
import traceback
import warnings

from vision_jax import evaluate, inference, train  # noqa: F401  What the commands import.


def run(module: str, arguments: list[str]) -> tuple[int, str, str]:
    """Returns exit status and output of `python -m MODULE ARGUMENTS…`."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        if (child := os.fork()) == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv[1:] = arguments
            status = 0
            try:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
                if isinstance(end.code, str):
                    print(end.code, file=sys.stderr)
            except BaseException:
                traceback.print_exc()
                status = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
        return status, *texts


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
    commands = json.load(sys.stdin)
    json.dump([run(module, arguments) for module, *arguments in commands], sys.stdout)
