"""Terraform's AWS provider with its ``endpoints`` set: create, plan again, change, destroy.

The first test makes the calls that the provider makes for its resources, in its order, with its
waits, from its public source (github.com/hashicorp/terraform-provider-aws, version 5.100):
``internal/service/lambda/function.go`` (resourceFunctionCreate, resourceFunctionRead,
resourceFunctionUpdate, resourceFunctionDelete), ``function_url.go``, ``event_source_mapping.go``
and ``internal/service/sqs/queue.go``. The second runs Terraform itself, where it and the provider
are installed: ``TF_PLUGINS`` or /opt/tf-plugins is its ``filesystem_mirror``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import CODE, archive
from .test_functions import invoked, refused, settled
from .test_settings import fetched

if TYPE_CHECKING:
    from .conftest import Running
    from .shapes import Checked

PLUGINS = Path(os.environ.get("TF_PLUGINS", "/opt/tf-plugins"))
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"Service": "lambda.amazonaws.com"},
    }],
}  # fmt: skip


def read_function(aws: Any, name: str, code: bytes) -> None:
    """resourceFunctionRead: what it reads, and compares with the configuration."""
    shown = aws.get_function(FunctionName=name)
    assert shown["Configuration"]["State"] == "Active"
    digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
    assert shown["Configuration"]["CodeSha256"] == digest
    assert shown["Tags"] == {"team": "a"}
    assert shown["Code"]["Location"]
    pages = aws.get_paginator("list_versions_by_function").paginate(FunctionName=name)
    versions = [each["Version"] for page in pages for each in page["Versions"]]
    assert versions == ["$LATEST"]
    assert "CodeSigningConfigArn" not in aws.get_function_code_signing_config(FunctionName=name)
    assert aws.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"


def mapped(aws: Any, identity: str) -> Any:
    """waitEventSourceMappingCreated, waitEventSourceMappingUpdated."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        shown = aws.get_event_source_mapping(UUID=identity)
        if shown["State"] == "Enabled":
            return shown
    raise AssertionError(shown["State"])


def deleted(aws: Any, identity: str) -> None:
    """waitEventSourceMappingDeleted."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            assert aws.get_event_source_mapping(UUID=identity)["State"] == "Deleting"
        except aws.exceptions.ResourceNotFoundException:
            return
    raise AssertionError("it is still there")


def test_the_calls_of_its_resources(running: Running, checked: Checked, aws: Any) -> None:
    sts, iam = checked.watch(running.client("sts")), running.client("iam")
    sqs = running.client("sqs")
    assert sts.get_caller_identity()["Account"] == "123456789012"
    role = iam.create_role(RoleName="terraform", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
    assert iam.get_role(RoleName="terraform")["Role"]["Arn"] == role["Arn"]

    queue = sqs.create_queue(QueueName="terraform", Attributes={"VisibilityTimeout": "60"})
    attributes = sqs.get_queue_attributes(QueueUrl=queue["QueueUrl"], AttributeNames=["All"])
    assert attributes["Attributes"]["VisibilityTimeout"] == "60"
    sqs.list_queue_tags(QueueUrl=queue["QueueUrl"])

    # aws_lambda_function: created, then read until it is Active.
    name = "terraform"
    created = aws.create_function(
        FunctionName=name, Role=role["Arn"], Handler="index.handler", Runtime="python3.11",
        Code={"ZipFile": archive()}, Description="", MemorySize=128, Timeout=3, Publish=False,
        PackageType="Zip", Environment={"Variables": {"MOOD": "calm"}}, Tags={"team": "a"},
        Architectures=["x86_64"], EphemeralStorage={"Size": 512},
        TracingConfig={"Mode": "PassThrough"}, LoggingConfig={"LogFormat": "Text"},
    )  # fmt: skip
    assert created["State"] == "Pending"
    settled(aws, name)
    read_function(aws, name, archive())
    read_function(aws, name, archive())  # plan again
    assert invoked(aws, name)["mood"] == "calm"

    # aws_lambda_function_url
    url = aws.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
    aws.add_permission(
        FunctionName=name, StatementId="FunctionURLAllowPublicAccess",
        Action="lambda:InvokeFunctionUrl", Principal="*", FunctionUrlAuthType="NONE",
    )  # fmt: skip
    assert aws.get_function_url_config(FunctionName=name)["FunctionUrl"] == url
    assert fetched(url)[0]["mood"] == "calm"

    # aws_lambda_event_source_mapping: created, read until it is Enabled, changed.
    mapping = aws.create_event_source_mapping(
        FunctionName=name, EventSourceArn=attributes["Attributes"]["QueueArn"], Enabled=True,
        BatchSize=10, Tags={"team": "a"},
    )  # fmt: skip
    mapped(aws, mapping["UUID"])
    assert aws.list_tags(Resource=mapping["EventSourceMappingArn"])["Tags"] == {"team": "a"}
    aws.update_event_source_mapping(UUID=mapping["UUID"], BatchSize=5)
    assert mapped(aws, mapping["UUID"])["BatchSize"] == 5

    # A change of the configuration and of the code: each waits for LastUpdateStatus.
    aws.update_function_configuration(
        FunctionName=name, Environment={"Variables": {"MOOD": "new"}}, MemorySize=256,
    )  # fmt: skip
    settled(aws, name)
    aws.update_function_code(FunctionName=name, ZipFile=archive(2), Architectures=["x86_64"])
    settled(aws, name)
    read_function(aws, name, archive(2))
    assert (fetched(url)[0]["mood"], fetched(url)[0]["release"]) == ("new", 2)

    # Destroyed, and looked for afterwards.
    aws.delete_event_source_mapping(UUID=mapping["UUID"])
    deleted(aws, mapping["UUID"])
    aws.delete_function_url_config(FunctionName=name)
    assert refused(aws.get_function_url_config, FunctionName=name)[0] == "ResourceNotFoundException"
    aws.delete_function(FunctionName=name)
    assert refused(aws.get_function, FunctionName=name)[0] == "ResourceNotFoundException"
    sqs.delete_queue(QueueUrl=queue["QueueUrl"])
    iam.delete_role(RoleName="terraform")


CONFIGURATION = """
terraform {
  required_providers { aws = { source = "hashicorp/aws" } }
}
variable "endpoint" {}
variable "mood" {}
provider "aws" {
  region     = "us-east-1"
  access_key = "local"
  secret_key = "local"
  endpoints {
    lambda = var.endpoint
    sqs    = var.endpoint
    iam    = var.endpoint
    sts    = var.endpoint
  }
}
resource "aws_iam_role" "role" {
  name               = "binary"
  assume_role_policy = file("trust.json")
}
resource "aws_sqs_queue" "tasks" { name = "binary" }
resource "aws_lambda_function" "worker" {
  function_name    = "binary"
  role             = aws_iam_role.role.arn
  handler          = "index.handler"
  runtime          = "python3.11"
  filename         = "code.zip"
  source_code_hash = filebase64sha256("code.zip")
  publish          = true
  environment { variables = { MOOD = var.mood } }
  dead_letter_config { target_arn = aws_sqs_queue.tasks.arn }
}
resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.worker.function_name
  function_version = aws_lambda_function.worker.version
}
resource "aws_lambda_function_url" "url" {
  function_name      = aws_lambda_function.worker.function_name
  authorization_type = "NONE"
}
resource "aws_lambda_event_source_mapping" "tasks" {
  event_source_arn        = aws_sqs_queue.tasks.arn
  function_name           = aws_lambda_alias.live.arn
  batch_size              = var.mood == "calm" ? 5 : 6
  function_response_types = ["ReportBatchItemFailures"]
  filter_criteria {
    filter { pattern = jsonencode({ body = { a = [1] } }) }
  }
  scaling_config { maximum_concurrency = 2 }
  tags = { team = "a" }
}
output "url" { value = aws_lambda_function_url.url.function_url }
"""


class Terraform:
    def __init__(self, folder: Path, endpoint: str) -> None:
        self._folder, self._endpoint = folder, endpoint
        mirror = f'provider_installation {{\n filesystem_mirror {{ path = "{PLUGINS}" }}\n}}\n'
        (folder / "rc").write_text(mirror)
        (folder / "main.tf").write_text(CONFIGURATION)
        (folder / "trust.json").write_text(json.dumps(TRUST))

    def run(self, *arguments: str, mood: str = "calm") -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self._folder), "CHECKPOINT_DISABLE": "1",
            "TF_CLI_CONFIG_FILE": str(self._folder / "rc"), "TF_IN_AUTOMATION": "1",
            "TF_VAR_endpoint": self._endpoint, "TF_VAR_mood": mood,
        }  # fmt: skip
        return subprocess.run(
            ["terraform", *arguments, "-no-color"], cwd=self._folder, env=environment,
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip

    def done(self, *arguments: str, mood: str = "calm") -> str:
        finished = self.run(*arguments, mood=mood)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    shutil.which("terraform") is None or not PLUGINS.is_dir(),
    reason="terraform and its AWS provider are not installed",
)
def test_terraform_itself(running: Running, tmp_path: Path) -> None:
    aws = running.client("lambda")
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as code:
        code.writestr("index.py", f"RELEASE = 1\n{CODE}")
    terraform = Terraform(tmp_path, running.emulator.aws_url)
    terraform.done("init")
    terraform.done("apply", "-auto-approve")
    url = terraform.done("output", "-raw", "url")
    assert fetched(url)[0]["mood"] == "calm"
    assert invoked(aws, "binary", Qualifier="live")["version"] == "1"
    # The plan after it has nothing to do.
    assert "No changes" in terraform.done("plan", "-detailed-exitcode")
    terraform.done("apply", "-auto-approve", mood="new")
    assert fetched(url)[0]["mood"] == "new"
    assert invoked(aws, "binary", Qualifier="live")["version"] == "2"
    (mapping,) = aws.list_event_source_mappings(FunctionName="binary:live")["EventSourceMappings"]
    assert (mapping["State"], mapping["BatchSize"]) == ("Enabled", 6)
    assert "No changes" in terraform.done("plan", "-detailed-exitcode", mood="new")
    terraform.done("destroy", "-auto-approve")
    assert refused(aws.get_function, FunctionName="binary")[0] == "ResourceNotFoundException"
