"""Every way in which the documentation says that the template may be deployed."""

from __future__ import annotations

#: https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html
BOUNDARY = "arn:aws:iam::123456789012:policy/local-boundary"
KEY = {"ApiKeySha256": "0" * 64}
TOKEN = {"JwtIssuer": "https://issuer.example", "JwtAudience": "shop,office"}
MAIL = {"SenderAddress": "notifications@example.com", "CreateSenderIdentity": "true"}
LONG_LANE = {
    "WithLongLane": "true",
    "LongLaneImage": "123456789012.dkr.ecr.us-east-1.amazonaws.com/long-lane:1",
    "LongTasks": "app.tasks.import_recipients",
}
NETWORK = {
    "RedisUrl": "rediss://cache.example:6380/0",
    "RedisPort": "6380",
    "VpcSubnetIds": "subnet-0a1b2c3d,subnet-1a2b3c4d",
    "VpcSecurityGroupIds": "sg-0a1b2c3d",
}
WATCHED = {"WithAlarms": "true", "AlarmEmail": "someone@example.com", "WithDashboard": "true"}
COMBINATIONS: dict[str, dict[str, str]] = {
    "plain": {},
    "chosen": {
        "Runtime": "python3.12", "Architecture": "arm64", "SnapStart": "true",
        "WorkerConcurrency": "50", "ReserveConcurrency": "true", "LogRetentionDays": "7",
    },
    "key-and-mail": {**KEY, **MAIL, "DigestRecipients": "reader@example.com"},
    "token-and-mail": {**TOKEN, **MAIL, "CreateSenderIdentity": "false"},
    "redis-elsewhere": {"RedisUrl": "rediss://cache.example:6379/0", "RedisKeyPrefix": "{shop}:"},
    "redis-in-a-network": NETWORK,
    "own-redis": {"WithRedis": "true"},
    "long-lane": LONG_LANE,
    "long-lane-and-mail": {**LONG_LANE, **KEY, **MAIL},
    "long-lane-and-redis-elsewhere": {**LONG_LANE, "RedisUrl": "redis://cache.example:6379/0"},
    "long-lane-and-redis-in-a-network": {**LONG_LANE, **NETWORK},
    "long-lane-and-own-redis": {**LONG_LANE, "WithRedis": "true"},
    "watched": WATCHED,
    "schedules": {"WithSchedules": "true", **WATCHED},
    "pipeline": {"PermissionsBoundary": BOUNDARY, **WATCHED},
    "everything": {
        **KEY, **TOKEN, **MAIL, **LONG_LANE, **WATCHED, "WithRedis": "true",
        "WithSchedules": "true", "SnapStart": "true", "PermissionsBoundary": BOUNDARY,
    },
}  # fmt: skip
