"""What must hold for the repository as a whole: what ships, what it needs, what it may do."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from twolane_local.checks import doctor, starter

ROOT = Path(__file__).parent.parent
HANDLERS = ROOT / "handlers"
#: In Lambda's Python runtimes already, so not in requirements.txt:
#: https://docs.aws.amazon.com/lambda/latest/dg/python-package.html#python-package-create-dependencies
PROVIDED_BY_LAMBDA = {"boto3", "botocore", "snapshot_restore_py"}
#: Looked for, and done without where they are missing.
OPTIONAL: set[str] = {"a2wsgi", "awslambdaric", "django", "django_celery_beat"}


class _Loader(yaml.SafeLoader):
    """CloudFormation's short forms, each as the list or mapping that it abbreviates."""


def _long_form(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _long_form)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    text = (ROOT / "template.yaml").read_text()
    return yaml.load(text, Loader=_Loader)  # type: ignore[no-any-return]


def of_type(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == kind
    }


def third_party_imports() -> set[str]:
    found: set[str] = set()
    for path in HANDLERS.rglob("*.py"):
        tree = ast.parse(path.read_text())
        typing_only = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if id(node) in typing_only:
                continue
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"app", "twolane"}


def pinned() -> dict[str, list[str]]:
    """Each pinned distribution with its hashes."""
    pins: dict[str, list[str]] = {}
    name = ""
    for line in (HANDLERS / "requirements.txt").read_text().splitlines():
        if match := re.match(r"([a-z0-9-]+)(?:\[[a-z,]+\])?==\S+", line):
            name = match[1]
            pins[name] = []
        elif match := re.match(r"    --hash=sha256:([0-9a-f]{64})( \\)?$", line):
            pins[name].append(match[1])
        else:
            pytest.fail(f"neither a pin nor a hash: {line!r}")
    return pins


def test_what_the_functions_import_is_pinned() -> None:
    owners = importlib.metadata.packages_distributions()
    imported = third_party_imports()
    assert {"celery", "fastapi", "mangum", "redis", "pydantic"} <= imported
    missing = {
        name
        for name in imported - PROVIDED_BY_LAMBDA - OPTIONAL
        if not any(re.sub(r"[-_.]+", "-", owner).lower() in pinned() for owner in owners[name])
    }
    assert not missing, f"run `make requirements`: {sorted(missing)}"


def test_each_pin_has_hashes() -> None:
    assert all(pinned().values())


def test_requirements_name_no_address() -> None:
    assert "://" not in (HANDLERS / "requirements.txt").read_text()


def test_the_boto_family_does_not_ship() -> None:
    assert not PROVIDED_BY_LAMBDA & set(pinned())


def test_only_what_ships_lives_in_the_code_folder() -> None:
    # `sam build` copies the whole CodeUri, and has no ignore file.
    assert {path.name for path in HANDLERS.iterdir()} - {"__pycache__"} == {
        "app",
        "requirements.txt",
        "twolane",
    }
    # It drops these without a word.
    assert not [path for path in HANDLERS.rglob("*") if path.name == "env" or path.suffix == ".so"]


def test_handlers_exist(template: dict[str, Any]) -> None:
    for properties in of_type(template, "AWS::Serverless::Function").values():
        module, _, name = properties["Handler"].rpartition(".")
        tree = ast.parse((HANDLERS / module.replace(".", "/")).with_suffix(".py").read_text())
        assert name in {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }


def test_each_function_has_an_event_file(template: dict[str, Any]) -> None:
    files = [path.name for path in (ROOT / "events").glob("*.json")]
    for name in of_type(template, "AWS::Serverless::Function"):
        prefix = name.removesuffix("Function").lower()
        assert [file for file in files if file.startswith(f"{prefix}-")], name
    for path in (ROOT / "events").glob("*.json"):
        assert isinstance(json.loads(path.read_text()), dict)


def given(value: dict[str, Any]) -> dict[str, Any]:
    """What stands there if its condition holds."""
    chosen: dict[str, Any] = value.get("Fn::If", [None, value])[1]
    return chosen


def test_no_permission_is_for_everything(template: dict[str, Any]) -> None:
    documents = [
        given(policy)["PolicyDocument"]
        for role in of_type(template, "AWS::IAM::Role").values()
        for policy in role["Policies"]
    ] + [
        policy["PolicyDocument"] for policy in of_type(template, "AWS::IAM::ManagedPolicy").values()
    ]
    statements = [given(each) for document in documents for each in document["Statement"]]
    assert len(statements) > 8
    for statement in statements:
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            assert "*" not in action
        resources = statement["Resource"]
        for resource in resources if isinstance(resources, list) else [resources]:
            assert isinstance(resource, dict), "a resource of this stack, by reference"


def test_functions_take_no_policy_but_their_role(template: dict[str, Any]) -> None:
    for properties in of_type(template, "AWS::Serverless::Function").values():
        assert "Policies" not in properties
        assert "Role" in properties


def test_a_throttled_batch_is_not_delivered_twice(template: dict[str, Any]) -> None:
    queue = of_type(template, "AWS::SQS::Queue")["TaskQueue"]
    worker = of_type(template, "AWS::Serverless::Function")["WorkerFunction"]
    assert queue["VisibilityTimeout"] >= 6 * worker["Timeout"]


def test_failed_messages_go_to_the_dead_letter_queue(template: dict[str, Any]) -> None:
    queue = of_type(template, "AWS::SQS::Queue")["TaskQueue"]
    assert queue["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": "TaskDeadLetterQueue.Arn"},
        "maxReceiveCount": 5,
    }
    worker = of_type(template, "AWS::Serverless::Function")["WorkerFunction"]
    source = worker["Events"]["Tasks"]["Properties"]
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_results_table_is_laid_out_as_celery_reads_it(template: dict[str, Any]) -> None:
    # celery.backends.dynamodb describes and *creates* the table when it does not find it so.
    table = of_type(template, "AWS::DynamoDB::Table")["ResultsTable"]
    assert table["KeySchema"] == [{"AttributeName": "id", "KeyType": "HASH"}]
    assert table["AttributeDefinitions"] == [{"AttributeName": "id", "AttributeType": "S"}]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}


def test_readme_shell_lines_are_tested_but_for_deployment() -> None:
    readme = (ROOT / "README.md").read_text()
    names = re.findall(r"<!-- tested: ([a-z-]+) -->\n```sh\n", readme)
    assert names == sorted(set(names), key=names.index)
    untested = re.findall(r"(?<!-->)\n```sh\n(.*?)```", readme, re.DOTALL)
    assert [block.split()[0] for block in untested] == ["sam"]
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "e2e").glob("*.py"))
    for name in names:
        assert f'"{name}"' in tests or f"['{name}']" in tests, name


def test_readme_points_to_files_that_are_there() -> None:
    documents = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")]
    for document in [*documents, *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")]:
        text = document.read_text()
        for target in re.findall(r"\]\(([^)#:]+)\)|src=\"([^\":]+)\"", text):
            path = document.parent / (target[0] or target[1])
            assert path.exists(), f"{document.name} points to {path.name}"


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(path: Path) -> list[tuple[str, str]]:
    """The name and the docstring of the module, and of each class and function in it."""
    tree = ast.parse(path.read_text())
    return [
        (f"{path.relative_to(ROOT)}:{getattr(node, 'name', '')}", ast.get_docstring(node) or "")
        for node in ast.walk(tree)
        if isinstance(node, DOCUMENTED)
    ]


def test_a_docstring_says_what_a_thing_is_or_does() -> None:
    """One that begins with What, Where or Whether leaves that to the reader."""
    found = [
        name
        for path in (HANDLERS / "twolane").rglob("*.py")
        for name, text in docstrings(path)
        if re.match(r"(what|where|whether)\b", text, re.IGNORECASE)
    ]
    assert found == []


def test_the_map_of_the_worker_names_its_modules() -> None:
    folder = HANDLERS / "twolane" / "worker"
    (_, text), *_ = docstrings(folder / "__init__.py")
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules == set(re.findall(r"``([a-z_]+)``", text)) - {"inspect"}


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def workflow(path: Path) -> dict[str, Any]:
    # BaseLoader: `on` is a key, not a truth value, and "3.10" is no number.
    read: dict[str, Any] = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
    return read


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize(
    "path", [*WORKFLOWS, ROOT / "infra" / "pipeline" / "deploy.yml"], ids=lambda path: path.name
)
def test_a_workflow_names_targets_that_are_there(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = "\n".join(step.get("run", "") for step in steps(path))
    named = re.findall(r"^make ([a-z-]+)", lines, re.MULTILINE)
    assert named
    assert set(named) <= targets


@pytest.mark.parametrize(
    "path", [*WORKFLOWS, ROOT / "infra" / "pipeline" / "deploy.yml"], ids=lambda path: path.name
)
def test_a_workflow_can_do_little(path: Path) -> None:
    """Actions by commit and version, no token that stays on disk, no right that is not named."""
    read = workflow(path)
    assert read["permissions"] in ({}, {"contents": "read"})
    for job in read["jobs"].values():
        rights = job.get("permissions", {})
        assert rights.items() <= {"contents": "read", "id-token": "write"}.items()
        assert "id-token" not in rights or "environment" in job
        assert int(job["timeout-minutes"]) <= 180
    for line in path.read_text().splitlines():
        if "uses:" in line:
            assert re.search(r"uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


def test_what_is_published_is_not_built_where_it_is_published() -> None:
    jobs = workflow(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    assert not [step for step in jobs["publish"]["steps"] if "run" in step]
    assert "id-token" not in jobs["build"]["permissions"]


def test_one_list_of_pythons() -> None:
    """Classifiers, template, CI, `twolane doctor` and `twolane init` name the same versions."""
    read = workflow(ROOT / ".github" / "workflows" / "tests.yml")
    tested = read["jobs"]["test"]["strategy"]["matrix"]["python-version"]
    for file in (ROOT / "pyproject.toml", ROOT / "local" / "pyproject.toml"):
        project = tomllib.loads(file.read_text())["project"]
        prefix = "Programming Language :: Python :: 3."
        versions = [
            each.removeprefix(prefix[:-2]) for each in project["classifiers"] if prefix in each
        ]
        assert versions == tested
        assert project["requires-python"] == f">={tested[0]}"
    parameters = yaml.load((ROOT / "template.yaml").read_text(), Loader=_Loader)["Parameters"]
    assert parameters["Runtime"]["AllowedValues"] == [f"python{version}" for version in tested]
    assert list(starter.RUNTIMES) == tested
    assert [f"3.{minor}" for minor in range(doctor.OLDEST[1], doctor.NEWEST[1] + 1)] == tested


def test_each_row_of_the_matrix_has_a_job_with_its_python() -> None:
    jobs = workflow(ROOT / ".github" / "workflows" / "versions.yml")["jobs"]
    rows = jobs["matrix"]["strategy"]["matrix"]["include"]
    runner = (ROOT / "tests" / "matrix" / "run.py").read_text()
    wanted = re.findall(r'^    Row\("([^"]+)", "([^"]+)"', runner, re.MULTILINE)
    assert [(row["row"], row["python-version"]) for row in rows] == wanted


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name
)
def test_forms_and_workflows_are_yaml(path: Path) -> None:
    assert isinstance(workflow(path), dict)


def test_each_hook_that_is_ours_runs_what_check_installs() -> None:
    read = workflow(ROOT / ".pre-commit-config.yaml")
    (local,) = [repository for repository in read["repos"] if repository["repo"] == "local"]
    for hook in local["hooks"]:
        command, verb, *_ = hook["entry"].split()
        assert f"$(BIN)/{Path(command).name} {verb}" in (ROOT / "Makefile").read_text()
