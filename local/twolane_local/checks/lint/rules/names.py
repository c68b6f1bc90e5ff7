"""Rules about names of resources, functions in sections, and wildcards in policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.checks.lint.findings import Severity, Violation, rule
from twolane_local.checks.lint.physical_names import ALWAYS_UNIQUE
from twolane_local.checks.lint.subject import as_list, as_mapping

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.checks.lint.subject import Resource, Subject

#: The limit of a stack's name, and the length that a template should allow.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html
_LONGEST_STACK, _SHORT = 128, 40


@rule(
    "TL231",
    "name-length",
    Severity.ERROR,
    "A name that is made of the stack's leaves room for a stack's name of at least 40 characters.",
    "https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html",
)
def name_lengths(subject: Subject) -> Iterator[Violation]:
    for logical_id, name in subject.given_names.items():
        if not name.times or name.fixed is None:
            continue
        room = min((name.rules.longest - name.fixed) // name.times, _LONGEST_STACK)
        stack = len(subject.stack_name or "")
        if room >= max(_SHORT, stack):
            continue
        what = f"{logical_id}'s {name.rules.name_property} may have {name.rules.longest} characters"
        takes = f"{name.fixed} beside the stack's name"
        if room < max(1, stack):
            severity = Severity.ERROR
            so = (
                f"no stack can be created: {takes} are too many"
                if room < 1
                else f"{takes} leave {room}; samconfig.toml has {subject.stack_name!r}, {stack}"
            )
        else:
            severity = Severity.NOTE
            so = f"{takes} leave {room}: a stack with a longer name cannot be created"
        yield Violation(
            logical_id,
            f"{what}; {so}",
            f"shorten it, or leave {name.rules.name_property} out: CloudFormation then makes one "
            "that fits",
            (name.rules.name_property,),
            severity,
        )


_FIXES = {
    "AWS::SES::EmailIdentity": "make it by a condition, so that one stack of the account has it",
    # SAM gives the schedule of a function's event the event's name.
    "AWS::Scheduler::Schedule": (
        "give it a Name with ${AWS::StackName} in it, or a GroupName that is the stack's own"
    ),
}


@rule(
    "TL232",
    "unique-name",
    Severity.NOTE,
    "No resource has a name that a second stack of the template would need, too.",
    "https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html",
)
def unique_names(subject: Subject) -> Iterator[Violation]:
    for logical_id, name in subject.given_names.items():
        always = name.kind in ALWAYS_UNIQUE
        if name.rules.unique_in is None or (name.depends and not always):
            continue
        yield Violation(
            logical_id,
            f"{logical_id}'s {name.rules.name_property} is the same in every stack, and must be "
            f"unique {name.rules.unique_in}: a second stack of this template cannot be created",
            _FIXES.get(name.kind)
            or f"leave {name.rules.name_property} out, or put ${{AWS::StackName}} in it",
            (name.rules.name_property,),
        )


_PAGE = (
    "https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/"
    "intrinsic-function-reference-rules.html"
)
#: The functions that this page allows in a rule's condition and assertions.
_OF_RULES = frozenset(
    {
        "Ref", "Fn::And", "Fn::Contains", "Fn::EachMemberEquals", "Fn::EachMemberIn", "Fn::Equals",
        "Fn::Not", "Fn::Or", "Fn::RefAll", "Fn::ValueOf", "Fn::ValueOfAll",
    }
)  # fmt: skip
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-languageextensions.html
_EXTENSIONS = "AWS::LanguageExtensions"
_POLICIES = ("DeletionPolicy", "UpdateReplacePolicy")


@rule(
    "TL230",
    "section-functions",
    Severity.ERROR,
    "Rules use no functions but Ref and their own; a deletion policy uses none without "
    "AWS::LanguageExtensions.",
    _PAGE,
)
def section_functions(subject: Subject) -> Iterator[Violation]:
    yield from _rules(subject)
    if _EXTENSIONS not in as_list(subject.text.get("Transform")):
        yield from _policies(subject)


def _rules(subject: Subject) -> Iterator[Violation]:
    for name, written in as_mapping(subject.text.get("Rules")).items():
        parts: list[tuple[tuple[str | int, ...], Any]] = [
            (("RuleCondition",), as_mapping(written).get("RuleCondition"))
        ]
        parts += [
            (("Assertions", index), as_mapping(each).get("Assert"))
            for index, each in enumerate(as_list(as_mapping(written).get("Assertions")))
        ]
        for path, value in parts:
            for function in sorted(_functions(value) - _OF_RULES):
                yield Violation(
                    str(name),
                    f"the rule {name} uses {function}: CloudFormation refuses the change set, "
                    "since Rules take Ref and their own functions only",
                    "compare the parameter as a whole, or make it one that can be (a String "
                    "instead of a list, with an AllowedPattern)",
                    ("Rules", str(name), *path),
                )


def _policies(subject: Subject) -> Iterator[Violation]:
    for name, resource in as_mapping(subject.text.get("Resources")).items():
        for policy in _POLICIES:
            if isinstance(resource.get(policy), dict):
                yield Violation(
                    str(name),
                    f"{name}'s {policy} is a function: CloudFormation takes plain text there, "
                    f"unless the template has the transform {_EXTENSIONS}",
                    f"write the policy out, or put {_EXTENSIONS} before the template's other "
                    "transforms",
                )


def _functions(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_functions, value))
    if not isinstance(value, dict):
        return set()
    own = {name for name in value if name == "Ref" or str(name).startswith("Fn::")}
    return own | _functions(list(value.values()))


#: IAM has no resource for these. A test compares them with cfn-lint's table of IAM.
NO_RESOURCE = frozenset(
    {
        "athena:ListWorkGroups", "bedrock:ListFoundationModels", "bedrock:ListInferenceProfiles",
        "bedrock:PutUseCaseForModelAccess", "cloudformation:ListStacks",
        "cloudfront:ListDistributions", "cloudwatch:GetMetricStatistics",
        "codepipeline:PutJobFailureResult", "codepipeline:PutJobSuccessResult",
        "comprehend:BatchDetectEntities", "comprehend:BatchDetectKeyPhrases",
        "comprehend:BatchDetectSentiment", "comprehend:DetectDominantLanguage",
        "comprehend:DetectKeyPhrases", "comprehend:DetectSentiment", "comprehend:DetectSyntax",
        "dynamodb:ListStreams", "dynamodb:ListTables", "ec2:DescribeAvailabilityZones",
        "ec2:DescribeImages", "ec2:DescribeInstances", "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeRegions", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets",
        "ec2:DescribeVpcs", "ecr:GetAuthorizationToken", "events:ListRules", "iot:DescribeEndpoint",
        "kinesis:ListStreams", "kms:CreateKey", "lambda:CreateEventSourceMapping",
        "lambda:ListEventSourceMappings", "lambda:ListFunctions", "logs:CreateLogDelivery",
        "logs:DeleteLogDelivery", "logs:DescribeExportTasks", "logs:DescribeLogGroups",
        "logs:DescribeResourcePolicies", "logs:GetLogDelivery", "logs:ListLogDeliveries",
        "logs:PutResourcePolicy", "logs:UpdateLogDelivery", "mobileanalytics:PutEvents",
        "organizations:ListAccounts", "polly:DescribeVoices", "pricing:GetProducts",
        "rekognition:CompareFaces", "rekognition:DetectFaces", "rekognition:DetectLabels",
        "rekognition:DetectText", "s3:CreateJob", "s3:ListAllMyBuckets", "scheduler:ListSchedules",
        "secretsmanager:GetRandomPassword", "secretsmanager:ListSecrets", "ses:CreateTemplate",
        "ses:GetIdentityVerificationAttributes", "ses:GetSendQuota", "ses:ListIdentities",
        "sns:CheckIfPhoneNumberIsOptedOut", "sns:ListTopics", "sqs:ListQueues",
        "ssm:DescribeParameters", "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel", "states:SendTaskFailure", "states:SendTaskHeartbeat",
        "states:SendTaskSuccess", "sts:GetCallerIdentity", "tag:GetResources",
        "textract:AnalyzeDocument", "textract:DetectDocumentText", "timestream:DescribeEndpoints",
        "transcribe:StartTranscriptionJob", "xray:GetSamplingRules",
        "xray:GetSamplingStatisticSummaries", "xray:GetSamplingTargets", "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }
)  # fmt: skip
#: IAM has a resource for these, but AWS's own policies use ``"*"``: the network interfaces of a
#: function in a VPC are created later, a metric has only a namespace.
#: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSLambdaVPCAccessExecutionRole.html
IN_PRACTICE = frozenset(
    {
        "cloudwatch:GetMetricData", "cloudwatch:ListMetrics", "cloudwatch:PutMetricData",
        "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
        "ec2:UnassignPrivateIpAddresses",
    }
)  # fmt: skip


_LOWER = frozenset(action.lower() for action in NO_RESOURCE | IN_PRACTICE)


def takes_no_resource(action: str) -> bool:
    """Return whether the action may have ``"*"``; IAM ignores its case."""
    return action.lower() in _LOWER


_KINDS = ("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy")
_EVERYTHING = ("AdministratorAccess", "PowerUserAccess")


@rule(
    "TL107",
    "wildcard-permission",
    Severity.WARNING,
    "No policy of a role allows `*`, neither as action nor as resource, where IAM can be exact.",
    "https://docs.aws.amazon.com/IAM/latest/UserGuide/best-practices.html#grant-least-privilege",
)
def wildcards(subject: Subject) -> Iterator[Violation]:
    for resource in subject.of_kind(*_KINDS):
        for path, statement in _statements(resource):
            yield from _of_statement(resource, path, statement)
        for index, arn in enumerate(as_list(resource.properties.get("ManagedPolicyArns"))):
            if str(arn).endswith(_EVERYTHING):
                yield Violation(
                    resource.id,
                    f"{resource.id} takes {str(arn).rpartition('/')[2]}, which may do everything",
                    "name the actions that the code calls, and their resources",
                    ("ManagedPolicyArns", index),
                )


def _statements(resource: Resource) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    documents: list[tuple[tuple[str | int, ...], Any]] = [
        (("PolicyDocument",), resource.properties.get("PolicyDocument"))
    ]
    for index, policy in enumerate(as_list(resource.properties.get("Policies"))):
        if isinstance(policy, dict):
            documents.append((("Policies", index, "PolicyDocument"), policy.get("PolicyDocument")))
    for path, document in documents:
        if isinstance(document, dict):
            for index, statement in enumerate(as_list(document.get("Statement"))):
                if isinstance(statement, dict) and statement.get("Effect") == "Allow":
                    yield (*path, "Statement", index), statement


def _of_statement(
    resource: Resource, path: tuple[str | int, ...], statement: Mapping[str, Any]
) -> Iterator[Violation]:
    actions = [str(action) for action in as_list(statement.get("Action"))]
    wide = [action for action in actions if action == "*" or action.endswith(":*")]
    if wide or "NotAction" in statement:
        what = ", ".join(wide) or "all actions except a few"
        yield Violation(
            resource.id,
            f"{resource.id} allows {what}",
            "name the actions that the code calls",
            (*path, "Action" if wide else "NotAction"),
        )
    resources = [str(item) for item in as_list(statement.get("Resource"))]
    bound = [action for action in actions if not takes_no_resource(action)]
    if ("*" in resources or "NotResource" in statement) and bound:
        yield Violation(
            resource.id,
            f"{resource.id} allows {bound[0]} on every resource of the account",
            "name the resource, by !GetAtt or !Sub",
            (*path, "Resource" if "*" in resources else "NotResource"),
        )
