import pytest


@pytest.fixture
def shop(twolane):
    """The stack with a migrated database."""
    twolane.invoke("Migrate", {})
    yield twolane
    twolane.invoke("Migrate", {"revision": "base"})
