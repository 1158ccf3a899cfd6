"""Clones of the repository as git would commit it now, and commands run in them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from stages.settings.yaml import Loader

REPOSITORY = Path(__file__).parent.parent
TOOLS = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}


def run(folder, *command):
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def clone(folder, **changes):
    """The files that git would commit now, as a repository of their own, with other values in params.yaml's `run`."""
    names = run(REPOSITORY, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in names:
        if (REPOSITORY / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    shutil.rmtree(folder / "results" / "tasks", ignore_errors=True)
    (folder / "results" / "tasks").mkdir(parents=True)
    change(folder, lambda params: params["run"].update(changes))
    run(folder, "git", "init", "-q")
    return folder


def change(folder, edit):
    """Edit params.yaml."""
    path = folder / "params.yaml"
    params = yaml.load(path.read_text(), Loader)
    edit(params)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def shrink(folder):
    """Make the task `digits` one of seconds, at full scale."""
    path = folder / "tasks" / "digits.yaml"
    content = yaml.load(path.read_text(), Loader)
    digits = content["digits"]
    digits["ood"]["count"] = 128
    digits["teacher"]["train"]["epochs"] = 1
    digits["distill"] |= {"student_steps": 10, "batch": 16, "generator_width": 4, "synthetic_batch": 16}
    digits["methods"]["mosaickd"]["discriminator_width"] = 4
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def commit(folder):
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-q", "-m", "test")
