"""The table against AWS's schemas, as cfn-lint has them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cfnlint.version

from twolane_local.template.placeholders import FILE, row, value_form

ROOT = Path(__file__).parents[3]
#: The release that the table was made of.
MADE_OF = "1.58.0"


def test_the_table_is_what_its_tool_makes_of_the_schemas() -> None:
    spec = importlib.util.spec_from_file_location(
        "tool", ROOT / "infra" / "tools" / "resource_types.py"
    )
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    made, kept = set(tool.lines()), set(FILE.read_text().splitlines())
    if cfnlint.version.__version__ == MADE_OF:
        assert kept == made, "run `make resource-types`"
    # AWS adds types each week, and changes few.
    assert len(kept & made) > 0.9 * len(made), "run `make resource-types`, and change MADE_OF"


def test_a_row_is_found_by_the_whole_name() -> None:
    assert row("AWS::EC2::VPC") is not None
    assert row("AWS::EC2::VP") is None
    assert row("EC2::VPC") is None
    assert row("") is None


def test_the_form_of_a_value() -> None:
    assert value_form("AWS::RDS::DBInstance", "Endpoint.Port") == "text"
    assert value_form("AWS::EC2::VPC", "CidrBlockAssociations") == "list of text"
    assert value_form("AWS::ElastiCache::ReplicationGroup", "AutomaticFailoverEnabled") == "boolean"
    assert value_form("AWS::EC2::VPC", "Nothing") == "text"
    assert value_form("Custom::Thing", "Nothing") == "text"
