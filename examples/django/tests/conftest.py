import pytest


@pytest.fixture
def shop(twolane):
    """The stack with a migrated database."""
    assert twolane.invoke("Migrate", {}).error is None
    yield twolane
    assert twolane.invoke("Migrate", {"migration": "zero"}).error is None
