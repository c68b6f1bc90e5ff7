from __future__ import annotations

from twolane_local.aws.sqs import errors
from twolane_local.aws.sqs.errors import SqsError


def test_every_error_has_its_own_name_in_both_protocols_and_says_what_is_wrong():
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, SqsError) and kind is not SqsError
    ]
    assert len(kinds) > 20
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert len({kind.query_code for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert kind().message
        assert "\n" not in kind().message
        assert kind("own words").message == "own words"
