"""The plan of a run: the parameters that it takes and the code that it can load. Its digest is the identity of the run.

The code is the import closure of the script and of what it loads by name, without what only reads parameters or moves files.
The digest of a file is taken over its syntax tree without docstrings and without what errors say: better words re-train nothing.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grimp

import stages
from stages.datasets import sources
from stages.settings.params import EXPORT, Params
from stages.settings.paths import FULL
from stages.settings.task import EVERYTHING, STUDENT_DOMAIN
from stages.support.errors import UserError
from stages.support.files import BESIDE, read_json, sha256, weights_in, write_json
from stages.support.plugins import leading, own_code

RUN = ("scale", "precision", "compile")
TABLE = ("scale", "methods", "seeds")
# Of the sections `run` and `task`, what each stage takes.
TAKES = {
    "prepare": (("scale",), ("kind", "image", "text", "in_domain", "classes", "ood", "split")),
    "train_teacher": (RUN, ("kind", "image", "text", "precision", "teacher", "teachers")),
    "curate": (("scale",), ("kind", "image", "text", "curate")),
    "distill": (RUN, ("kind", "image", "text", "precision", "distill")),
    "evaluate": (TABLE, ("kind", "image", "text", "distill")),
    "report": (TABLE, ("kind", "image", "text")),
    "train_templates": (RUN, ("kind", "image", "text", "precision", "teacher")),
    "impress": (TABLE, ("kind", "image", "text")),
    "export": (TABLE, ("kind", "image", "text", "in_domain", "ood", "distill")),
}
OF_IMPRESS = {"train_templates": "seeds", "impress": "templates"}  # what these take of the section `impress`
# Code that reads parameters, writes files or says what was made cannot change a number: what it reads stands in the plan.
WITHOUT = {
    "stages.settings.catalogue": "reads tasks/",
    "stages.settings.params": "reads params.yaml",
    "stages.settings.task": "what a task may say; what it says stands in the plan",
    "stages.settings.yaml": "reads YAML",
    "stages.settings.paths": "where files lie",
    "stages.settings.plans": "writes plans",
    "stages.jobs.size": "by which runs choose threads and precision, which they say",
    "stages.jobs.job": "opens parameters and plan, and names checkpoints",
    "stages.methods": "finds a row's parameters",
    "stages.support.errors": "words",
    "stages.support.files": "moves files, and checks that they are whole",
    "stages.support.memory": "keeps freed memory",
    "stages.support.plugins": "finds a module by its name",
    "stages.support.progress": "draws a bar",
    "stages.support.sections": "checks parameters",
    "stages.datasets.stamps": "notices files that changed",
    "stages.engine.provenance": "says where a run was made",
}
HALF = 6  # digits of an identity that are of the parameters
MISSING, UNKNOWN = "missing", "?" * HALF
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Plan:
    """`parameters` as JSON; `code`: module -> the digest of its file."""

    parameters: dict[str, Any]
    code: dict[str, str]

    @property
    def identity(self) -> str:
        """Twelve hexadecimal digits: the first six change with the parameters, the others with the code.

        The first are UNKNOWN where a file of the user's is not here.
        """
        parameters, code = (_digest(json.dumps(part, sort_keys=True))[:HALF] for part in (self.parameters, self.code))
        return (UNKNOWN if MISSING in self.parameters.get("files", {}).values() else parameters) + code

    def write(self, path: Path) -> None:
        """Write a readable file, atomically; one that says the same is left alone."""
        content = {"identity": self.identity, "parameters": self.parameters, "code": self.code}
        if not (path.exists() and read_json(path) == content):
            write_json(path, content)

    def agree(self, path: Path) -> None:
        """See that stage `plan` wrote this; write it where there is no file, for a stage that is started by hand.

        Raises UserError where the file says something else: DVC would take what follows for a run of that other plan.
        """
        if path.exists() and read_json(path).get("identity") != self.identity:
            raise UserError(
                f"{path} is older than the code or the parameters; `python -m stages.plan` or `dvc repro` writes it anew "
                "if `run` names its task and row, else remove it"
            )
        self.write(path)


def of_stage(params: Params, stage: str, task: str, loaded: Iterable[str] = (), **more: Any) -> Plan:
    """The plan of a stage of `task`; it also loads the modules `loaded` and takes the parameters `more`."""
    run_keys, task_keys = TAKES[stage]
    section = params.task(task).model_dump(mode="json")
    parameters = {
        "run": {key: getattr(params.run, key) for key in run_keys},
        "task": {key: section[key] for key in task_keys},
        **({"impress": getattr(params.impress, OF_IMPRESS[stage])} if stage in OF_IMPRESS else {}),
        **({"export": params.export.model_dump(exclude={"tasks"})} if stage == EXPORT else {}),
        **more,
    }
    if files := dict(_unhashed(parameters["task"])):
        parameters["files"] = files
    return Plan(parameters, code({f"stages.{stage}", *_named(stage, section), *loaded}))


def of_row(params: Params, row: str, task: str, section: dict[str, Any]) -> Plan:
    """The plan of training a student with the method of `row`, whose checked parameters are `section`."""
    method = params.method_of(row)
    return of_stage(params, "distill", task, [f"stages.methods.{method}"], method={method: section})


def around(params: Params, task: str) -> dict[str, str]:
    """The identities of the stages on which the students of `task` stand, and of the code that measures them."""
    before = {stage: of_stage(params, stage, task).identity for stage in ("prepare", "train_teacher", "curate")}
    return {**before, "evaluate": Plan({}, of_stage(params, "evaluate", task).code).identity}


def of_overview(params: Params, kinds: Iterable[str]) -> Plan:
    """The plan of the tables of tasks of these kinds: their code, and which tasks come first.

    At smoke scale also what ran: its records are no dependency of the stage, for they are not for git.
    """
    runs = {} if params.run.scale == FULL else {key: getattr(params.run, key) for key in TABLE}
    return Plan(
        {"tasks": params.run.tasks, **runs}, code({"stages.overview", *(f"stages.kinds.{kind}.scores" for kind in kinds)})
    )


def _named(stage: str, task: dict[str, Any]) -> Iterator[str]:
    """The modules that a stage loads by their names in the task's section."""
    kind = f"stages.kinds.{task['kind']}"
    if stage == "prepare":
        yield f"{kind}.splits"
        yield from (f"{sources.FOLDER}.{name}" for name in sources.names([task["in_domain"], task["ood"]]) - {STUDENT_DOMAIN})
    else:
        yield kind
        parts = task["teachers"] or [task["teacher"]]
        yield from (f"stages.networks.{leading(part['network'])}" for part in parts)
    if stage in ("distill", "evaluate", "report", EXPORT):
        yield f"stages.networks.{leading(task['distill']['student']['network'])}"
    if stage == "curate":
        yield f"stages.curation.rules.{task['curate'].get('keep', EVERYTHING)}"
    if stage in ("evaluate", "report", EXPORT):
        yield f"{kind}.scores"
    if stage == "report":
        yield f"{kind}.figures"


def _unhashed(content: Any) -> Iterator[tuple[str, str]]:
    """The user's files that a section names without saying their hash, and their own code, with the hashes that they have now."""
    if isinstance(content, list):
        for one in content:
            yield from _unhashed(one)
    if not isinstance(content, dict):
        return
    if isinstance(content.get("path"), str) and content.get("sha256", "") is None:
        path = weights_in(Path(content["path"]))
        yield content["path"], _hashed(path, path.stat().st_mtime_ns) if path.is_file() else MISSING
    network = content.get("network")
    if isinstance(network, str) and (code_file := own_code(network)):
        yield network, sha256(code_file)
    if isinstance(network, str) and leading(network) in ("huggingface", "timm") and content.get("weights"):
        folder = weights_in(Path(content["weights"]["path"])).parent
        yield from ((str(path), sha256(path)) for name in BESIDE if (path := folder / name).is_file())
    for one in content.values():
        yield from _unhashed(one)


@functools.cache
def _hashed(path: Path, changed: int) -> str:
    return sha256(path)


def code(roots: Iterable[str]) -> dict[str, str]:
    """Module -> digest, of all that `roots` import, in the end, and of the packages that they lie in; but for `WITHOUT`."""
    return {module: _file_digest(module) for module in sorted(frozenset().union(*map(_closure, roots)) - WITHOUT.keys())}


@functools.cache
def _closure(root: str) -> frozenset[str]:
    graph, found, waiting = _graph(), set[str](), {root}
    while waiting:
        module = waiting.pop()
        if module in graph.modules and module not in found:
            found.add(module)
            waiting |= graph.find_modules_directly_imported_by(module)
            waiting.add(module.rpartition(".")[0])  # a module runs after the __init__ of its package
    return frozenset(found)


@functools.cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph("stages", cache_dir=None)


@functools.cache
def _file_digest(module: str) -> str:
    top = Path(next(iter(stages.__path__))).parent
    path = top.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return _digest(syntax(file.read_text()))


def syntax(source: str) -> str:
    """The syntax tree of `source`, without comments, docstrings, what errors say, and places.

    It is the same from one version of Python to the next.
    """
    return "".join(_written(ast.parse(source)))


def _written(node: Any) -> Iterator[str]:
    if isinstance(node, ast.Raise):
        yield "(Raise)"
    elif isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                value = value[1:]
            # New versions add fields, which are empty where a file does not use them.
            if value is not None and value != [] and name not in ("ctx", "kind"):
                yield f" {name}="
                yield from _written(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from _written(item)
        yield "]"
    else:
        yield repr(node)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
