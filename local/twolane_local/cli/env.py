"""``twolane env``"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from twolane_local.aws.guard import DUMMY_CREDENTIALS
from twolane_local.model import REGION

if TYPE_CHECKING:
    import argparse


FLAGS = ()
EXAMPLES = ('eval "$(twolane env)"', "twolane env --aws-port 4567")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--aws-port", type=int, default=4566, help="as given to `twolane up`")


def run(options: argparse.Namespace) -> int:
    """Print the exports for ``eval "$(twolane env)"``."""
    for name, value in exports(options.aws_port).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def exports(aws_port: int) -> dict[str, str]:
    """Return the variables that point boto3, the AWS CLI and ``sam local`` at the emulator:
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws_port}",
        **DUMMY_CREDENTIALS,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }
