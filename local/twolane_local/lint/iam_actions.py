"""Actions that may have ``"*"`` as their resource.

https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from __future__ import annotations

#: IAM knows no resource for these. A test holds them against cfn-lint's table of IAM.
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
#: IAM knows one, and AWS's own policies still say ``"*"``: the network interfaces of a function in
#: a VPC are made later, a metric has none but its namespace.
#: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSLambdaVPCAccessExecutionRole.html
IN_PRACTICE = frozenset(
    {
        "cloudwatch:GetMetricData", "cloudwatch:ListMetrics", "cloudwatch:PutMetricData",
        "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
        "ec2:UnassignPrivateIpAddresses",
    }
)  # fmt: skip


def takes_no_resource(action: str) -> bool:
    """Whether the action may have ``"*"``; IAM does not mind how it is capitalised."""
    return action.lower() in _LOWER


_LOWER = frozenset(action.lower() for action in NO_RESOURCE | IN_PRACTICE)
