"""Looks at an existing application: its web and Celery applications, and their settings.

Read from the source first. What only a running Python knows (which of a module's objects is the
application, how a task is routed) is asked of a child process, this module as a program, which
imports the modules that the source has shown, and no others. Nothing of them is called but
factories; no broker and no result store is used.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
import traceback
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.journal.redact import is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


class SurveyError(LocalError):
    """An application cannot be read."""


#: Folders that hold no code of the application.
_SKIPPED = frozenset({
    "node_modules", "__pycache__", "site-packages", "build", "dist", "tests", "test", "migrations",
    "alembic", "docs", "cdk.out", "env", "venv",
})  # fmt: skip
#: Tests, and what ``starter`` writes.
_NOT_THEIRS = re.compile(r"test_.*|conftest\.py|lambda_(settings|api|worker|beat)\.py")
_MOST_FILES = 5000
_TIMEOUT_S = 120
#: Classes and functions that make an application, and the kind of what they make.
MAKERS = {
    "FastAPI": "FastAPI", "Starlette": "Starlette", "Flask": "Flask", "Celery": "Celery",
    "get_asgi_application": "Django", "get_wsgi_application": "Django",
}  # fmt: skip
#: Celery's settings that decide what the template needs, by their names in any spelling.
SETTINGS = (
    "broker_url", "result_backend", "task_default_queue", "task_queues", "task_routes",
    "beat_schedule", "task_serializer", "accept_content", "task_time_limit", "task_always_eager",
)  # fmt: skip


@dataclass(frozen=True)
class Application:
    """A web or Celery application: ``name`` in ``module``, which is imported from ``root``."""

    kind: str
    module: str
    name: str
    root: str
    where: str
    #: It is called to get the application.
    factory: bool = False
    #: What the probe knows: routes, queues, tasks …
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """A setting of Celery's in the source, as it is written there."""

    name: str
    value: str
    where: str


@dataclass(frozen=True)
class Variable:
    """An environment variable that the source reads; without ``default``, it must be set."""

    name: str
    default: str | None
    where: str


@dataclass(frozen=True)
class Survey:
    """What was found in a folder."""

    web: tuple[Application, ...] = ()
    celery: tuple[Application, ...] = ()
    settings: tuple[Setting, ...] = ()
    variables: tuple[Variable, ...] = ()
    python: str = ""
    python_where: str = ""
    packages: tuple[str, ...] = ()
    #: Django's settings module.
    django: str = ""
    #: Where handlers of twolane's are made already.
    handlers: tuple[str, ...] = ()
    #: Modules that define tasks, by root.
    task_modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not (self.web or self.celery or self.packages or self.settings)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class _Source:
    """One file of the application."""

    def __init__(self, path: Path, folder: Path, tree: ast.Module) -> None:
        self.path, self.tree = path, tree
        self.shown = path.relative_to(folder).as_posix()

    def where(self, node: ast.AST) -> str:
        return f"{self.shown}:{getattr(node, 'lineno', 1)}"


def survey(folder: Path) -> Survey:
    """Read the source below a folder; nothing is imported."""
    sources = list(_sources(folder))
    names = _imported_names(sources)
    factories = {
        node.name: kind
        for source in sources
        for node in source.tree.body
        if isinstance(node, ast.FunctionDef)
        for kind in [_makes(node)]
        if kind
    }
    web: list[Application] = []
    celery: list[Application] = []
    task_modules: dict[str, list[str]] = {}
    for source in sources:
        root, module = _home(source.path, folder, names)
        shown_root = root.relative_to(folder).as_posix()
        for application in _applications(source, shown_root, module, factories):
            (celery if application.kind == "Celery" else web).append(application)
        if _defines_tasks(source.tree):
            task_modules.setdefault(shown_root, []).append(module)
    python, python_where = _python(folder)
    return Survey(
        tuple(web),
        tuple(celery),
        tuple(_settings(sources)),
        tuple(_variables(sources)),
        python,
        python_where,
        tuple(_packages(folder)),
        next(filter(None, map(_django, sources)), ""),
        tuple(where for source in sources for where in _handlers(source)),
        {root: tuple(modules) for root, modules in task_modules.items()},
    )


def _sources(folder: Path) -> Iterator[_Source]:
    count = 0
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(
            each for each in folders if each not in _SKIPPED and not each.startswith(".")
            and not os.path.exists(os.path.join(base, each, "pyvenv.cfg"))  # noqa: PTH110, PTH118 - of os.walk
        )  # fmt: skip
        for name in sorted(files):
            if not name.endswith(".py") or _NOT_THEIRS.fullmatch(name):
                continue
            count += 1
            if count > _MOST_FILES:
                raise SurveyError(
                    f"{folder} holds more than {_MOST_FILES} modules: name a folder with one "
                    "application"
                )
            path = folder.joinpath(base, name)
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError):
                continue  # it is not imported either
            yield _Source(path, folder, tree)


def _imported_names(sources: Iterable[_Source]) -> set[str]:
    """The first names of what the application imports absolutely."""
    found: set[str] = set()
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def _home(path: Path, folder: Path, imported: set[str]) -> tuple[Path, str]:
    """The folder that a file's module is imported from, and its name there."""
    root = path.parent
    while root != folder and ((root / "__init__.py").exists() or root.name in imported):
        root = root.parent
    parts = path.relative_to(root).with_suffix("").parts
    return root, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _called(node: ast.AST) -> str:
    """The last name of what is called: of ``celery.Celery(…)``, ``Celery``."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _makes(function: ast.FunctionDef) -> str:
    """The kind of application that a function makes and returns."""
    made = {
        target.id: MAKERS[_called(node.value)]
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and _called(node.value) in MAKERS
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            if _called(node.value) in MAKERS:
                return MAKERS[_called(node.value)]
            if isinstance(node.value, ast.Name) and node.value.id in made:
                return made[node.value.id]
    return ""


def _applications(
    source: _Source, root: str, module: str, factories: Mapping[str, str]
) -> Iterator[Application]:
    for node in source.tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        elif isinstance(node, ast.FunctionDef) and (kind := factories.get(node.name)):
            needed = len(node.args.args) - len(node.args.defaults)
            if needed == 0 and _makes(node):
                yield Application(kind, module, node.name, root, source.where(node), factory=True)
            continue
        else:
            continue
        kind = MAKERS.get(_called(value), "") or factories.get(_called(value), "")
        if not kind and "extensions" in ast.unparse(value) and "celery" in ast.unparse(value):
            kind = "Celery"  # as Flask's documentation does: app.extensions["celery"]
        for target in targets:
            if kind and isinstance(target, ast.Name):
                yield Application(kind, module, target.id, root, source.where(node))


def _defines_tasks(tree: ast.Module) -> bool:
    return any(
        re.search(r"(^|\.)(shared_task|task)(\(|$)", ast.unparse(decorator))
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in node.decorator_list
    )


def _handlers(source: _Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if _called(node) in ("ApiHandler", "WorkerHandler", "BeatHandler"):
            yield source.where(node)


def _setting_name(name: str) -> str:
    plain = re.sub(r"^celery_", "", name.lower())
    old = {"broker": "broker_url", "beatschedule": "beat_schedule", "beat_schedule": plain}
    return old.get(plain, plain) if old.get(plain, plain) in SETTINGS else ""


def _settings(sources: Iterable[_Source]) -> Iterator[Setting]:
    """Of keyword arguments, dictionaries, and assignments, in modules that speak of Celery."""
    for source in sources:
        named = "celery" in ast.unparse(source.tree).lower()
        for node in ast.walk(source.tree) if named else ():
            pairs: list[tuple[str, ast.AST]] = []
            if isinstance(node, ast.Call):
                backend = {"backend": "result_backend"} if _called(node) == "Celery" else {}
                pairs = [(backend.get(k.arg, k.arg), k.value) for k in node.keywords if k.arg]
            elif isinstance(node, ast.Dict):
                pairs = [
                    (key.value, value)
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant) and isinstance(key.value, str)
                ]
            elif isinstance(node, ast.Assign):
                names = [getattr(t, "attr", getattr(t, "id", "")) for t in node.targets]
                pairs = [(name, node.value) for name in names]
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                pairs = [(getattr(node.target, "id", ""), node.value)]
            for name, value in pairs:
                if known := _setting_name(name):
                    yield Setting(known, _shown(value), source.where(value))


def _variables(sources: Iterable[_Source]) -> Iterator[Variable]:
    seen: set[str] = set()
    for source in sources:
        found = [*_read_variables(source), *_settings_classes(source)]
        for variable in found:
            if variable.name not in seen:
                seen.add(variable.name)
                yield variable


_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
#: os.getenv, and what django-environ, python-decouple and Starlette's Config are usually called.
_READERS = ("getenv", "environ.get", "config", "env", "env.str", "env.int", "env.bool", "env.list",
            "env.db", "env.url", "decouple.config", "environ.pop")  # fmt: skip


def _read_variables(source: _Source) -> Iterator[Variable]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
            read = node.slice
            default: ast.AST | None = None
            if not isinstance(node.ctx, ast.Load):
                continue
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func)
            if not any(called == each or called.endswith(f".{each}") for each in _READERS):
                continue
            read = node.args[0]
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            default = node.args[1] if len(node.args) > 1 else given.get("default")
            if default is None and called.endswith(("getenv", "environ.get")):
                default = ast.Constant(None)
        else:
            continue
        if isinstance(read, ast.Constant) and _NAME.fullmatch(str(read.value)):
            yield _variable(str(read.value), default, source.where(node))


def _shown(node: ast.AST) -> str:
    """The source in one line, without passwords in addresses."""
    return re.sub(r"(://[^/@\s]*:)[^/@\s]+@", r"\1**@", " ".join(ast.unparse(node).split()))


def _variable(name: str, default: ast.AST | None, where: str) -> Variable:
    if default is None:
        return Variable(name, None, where)
    secret = is_secret(name) and not (isinstance(default, ast.Constant) and not default.value)
    return Variable(name, "a secret" if secret else _shown(default), where)


#: Fields of a settings class without a default.
_REQUIRED = re.compile(r"\.\.\.|Field\((\.\.\.|(?!default)\w+=(?!.*default)).*\)|Field\(\)")


def _settings_classes(source: _Source) -> Iterator[Variable]:
    """https://docs.pydantic.dev/latest/concepts/pydantic_settings/"""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ClassDef) or not any(
            ast.unparse(base).endswith("BaseSettings") for base in node.bases
        ):
            continue
        found = re.search(r"env_prefix['\"]?\s*[=:]\s*['\"](\w+)['\"]", ast.unparse(node))
        prefix = found[1] if found else ""
        for each in node.body:
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                name = each.target.id
                if name == "model_config" or "ClassVar" in ast.unparse(each.annotation):
                    continue
                default = each.value
                if default is not None and _REQUIRED.fullmatch(ast.unparse(default)):
                    default = None
                yield _variable(f"{prefix}{name}".upper(), default, source.where(each))


def _python(folder: Path) -> tuple[str, str]:
    """The version of Python that the project names, and where it does."""
    for name, pattern in (
        (".python-version", r"^(?:cpython-)?(3\.\d+)"),
        ("runtime.txt", r"^python-(3\.\d+)"),
        ("Pipfile", r"python_version\s*=\s*[\"'](3\.\d+)"),
        ("Dockerfile", r"^FROM\s+(?:\S*/)?python:(3\.\d+)"),
        ("pyproject.toml", r"^requires-python\s*=\s*[\"'](?:>=|~=|==)\s*(3\.\d+)"),
        ("pyproject.toml", r"^python\s*=\s*[\"'][\^~>=]*\s*(3\.\d+)"),
    ):
        path = folder / name
        if path.is_file() and (
            found := re.search(pattern, path.read_text("utf-8", "replace"), re.MULTILINE)
        ):
            return found[1], name
    return "", ""


def _packages(folder: Path) -> Iterator[str]:
    """The files of package managers."""
    for name in ("pyproject.toml", "uv.lock", "poetry.lock", "pdm.lock", "Pipfile", "Pipfile.lock",
                 "setup.py", "setup.cfg", "environment.yml"):  # fmt: skip
        if (folder / name).is_file():
            yield name
    for path in sorted(folder.glob("requirements*")):
        yield f"{path.name}/" if path.is_dir() else path.name


def _django(source: _Source) -> str:
    found = re.search(r"DJANGO_SETTINGS_MODULE['\"], ['\"]([\w.]+)['\"]", ast.unparse(source.tree))
    return found[1] if found and source.path.name == "manage.py" else ""


def pytest_configuration(folder: Path) -> str:
    """The file with pytest's configuration, as pytest looks for it; empty if there is none."""
    for name in ("pytest.ini", "pytest.toml", ".pytest.ini"):
        if (folder / name).is_file():
            return name
    path = folder / "pyproject.toml"
    if path.is_file():
        try:
            content = tomllib.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise SurveyError(f"{path} cannot be read: {error}") from error
        if "pytest" in content.get("tool", {}):
            return path.name
    for name, section in (("tox.ini", "[pytest]"), ("setup.cfg", "[tool:pytest]")):
        path = folder / name
        if path.is_file() and section in path.read_text("utf-8", "replace"):
            return name
    return ""


def probe(folder: Path, found: Survey, environment: Mapping[str, str]) -> dict[str, Any]:
    """Import the modules of applications in a child process for each root, and return what they
    hold: ``{"applications": [...], "missing": {root: modules}, "problems": [...]}``.
    """
    roots = list(dict.fromkeys(each.root for each in (*found.celery, *found.web)))
    together: dict[str, Any] = {"applications": [], "missing": {}, "problems": []}
    for root in roots:
        asked = {
            "applications": [asdict(e) for e in (*found.celery, *found.web) if e.root == root],
            "tasks": list(found.task_modules.get(root, ())),
        }
        here = folder / root
        try:
            done = subprocess.run(
                [sys.executable, "-m", "twolane_local.checks.survey", json.dumps(asked)],
                cwd=here, env=_environment(here, environment), capture_output=True, text=True,
                timeout=_TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            together["problems"].append(f"{here}: an import takes more than {_TIMEOUT_S} s")
            continue
        lines = done.stdout.splitlines()
        if done.returncode != 0 or not lines:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            together["problems"].append(f"{here}: {last}")
            continue
        answer = json.loads(lines[-1])
        together["applications"] += answer["applications"]
        together["missing"][root] = answer["missing"]
        together["problems"] += answer["problems"]
    return together


def _environment(root: Path, more: Mapping[str, str]) -> dict[str, str]:
    from pathlib import Path as _Path

    from twolane_local.aws.guard import DUMMY_CREDENTIALS
    from twolane_local.model import REGION

    ours = _Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(ours)])
    region = {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
    # The emulator gives RedisUrl the address of its own.
    redis = {"REDIS_URL": "redis://127.0.0.1:6379/0"}
    return {**redis, **os.environ, **more, **DUMMY_CREDENTIALS, **region, "PYTHONPATH": path}


# In the child process.


def describe(asked: dict[str, Any]) -> dict[str, Any]:
    """Return ``{"applications", "missing", "problems"}``. Celery comes first: a web application
    imports more than a worker needs, and ``missing`` are the modules with tasks that nothing of the
    worker imports.
    """
    problems: list[str] = []
    made: list[tuple[dict[str, Any], Any]] = []
    wanted = sorted(asked["applications"], key=lambda each: (_kind(each), each["factory"]))
    missing: list[str] = []
    for number, each in enumerate(wanted):
        if each["factory"] and any(_kind(other) == _kind(each) for other, _ in made):
            continue  # there is one already
        value = _get(each, problems)
        if value is not None and all(value is not other for _, other in made):
            made.append((each, value))
            if _kind(each) == 0 and not any(map(_is_celery, wanted[number + 1 :])):
                missing = _not_imported(asked["tasks"], problems)
    found = [{**each, "facts": _celery(value) if _is_celery(each) else _web(value)}
             for each, value in made]  # fmt: skip
    return {"applications": found, "missing": missing, "problems": problems}


def _is_celery(each: dict[str, Any]) -> bool:
    return bool(each["kind"] == "Celery")


def _kind(each: dict[str, Any]) -> int:
    return 0 if _is_celery(each) else 1


def _get(each: dict[str, Any], problems: list[str]) -> Any:
    try:
        value: Any = getattr(importlib.import_module(each["module"]), each["name"])
        value = value() if each["factory"] else value
        if _is_celery(each):
            value.loader.import_default_modules()
    except Exception as error:  # noqa: BLE001 - the application's own
        problems.append(_problem(each["module"], error))
        return None
    return value


def _not_imported(modules: list[str], problems: list[str]) -> list[str]:
    found = []
    for name in modules:
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 - the application's own
                problems.append(_problem(name, error))
            else:
                found.append(name)
    return found


def _problem(module: str, error: Exception) -> str:
    """Of an import: the last line of the application's own code, and the error."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(os.getcwd() + os.sep)]  # noqa: PTH109
    where = f" ({os.path.relpath(own[-1].filename)}:{own[-1].lineno})" if own else ""
    text = " ".join(str(error).split())
    return f"{module} does not import: {type(error).__name__}: {text:.300}{where}"


def _web(app: Any) -> dict[str, Any]:
    rules: Any = getattr(getattr(app, "url_map", None), "_rules", ())  # Flask's
    routes: Any = getattr(app, "routes", None) or rules
    return {
        "class": f"{type(app).__module__}.{type(app).__qualname__}",
        "routes": len(routes),
        "openapi_url": getattr(app, "openapi_url", None),
        "root_path": getattr(app, "root_path", ""),
    }


def _celery(app: Any) -> dict[str, Any]:
    from kombu.utils.url import maybe_sanitize_url

    app.finalize()
    conf = app.conf
    default = str(conf.task_default_queue)
    tasks = [name for name in sorted(app.tasks) if not name.startswith("celery.")]
    #: The longest that a task may run, by queue.
    queues: dict[str, float] = {default: float(conf.task_time_limit or 0)}
    for queue in conf.task_queues or ():
        queues.setdefault(str(getattr(queue, "name", queue)), 0.0)
    for name in tasks:
        task = app.tasks[name]
        options = {"queue": task.queue} if getattr(task, "queue", None) else {}
        queue = app.amqp.router.route(options, name).get("queue") or default
        limit = task.time_limit or conf.task_time_limit or task.soft_time_limit
        limit = float(limit or conf.task_soft_time_limit or 0)
        queue = str(getattr(queue, "name", queue))
        queues[queue] = max(queues.get(queue, 0.0), limit)
    for entry in (conf.beat_schedule or {}).values():
        if queue := (entry.get("options") or {}).get("queue"):
            queues.setdefault(str(queue), 0.0)
    return {
        "main": app.main or "",
        "broker": maybe_sanitize_url(str(conf.broker_write_url or conf.broker_url or "")),
        "backend": maybe_sanitize_url(str(conf.result_backend or "")),
        "default_queue": default,
        "queues": sorted(queues, key=lambda name: (name != default, name)),
        "tasks": tasks,
        "beat": {str(n): str(e.get("task")) for n, e in (conf.beat_schedule or {}).items()},
        "django_beat": "django_celery_beat" in str(conf.beat_scheduler or ""),
        "serializer": str(conf.task_serializer),
        "accept": [str(each) for each in conf.accept_content or ()],
        "time_limits": queues,
        "eager": bool(conf.task_always_eager),
    }


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - the child's own
    sys.stdout.write(f"\n{json.dumps(describe(json.loads(sys.argv[1])))}\n")
