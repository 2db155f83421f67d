"""The order of the tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """End-to-end tests come last: some enter a network namespace, and gRPC's threads, which never end, stay in it. A gRPC
    client of this process would then look for its server in a network that is gone."""
    items.sort(key=lambda item: "e2e" in item.path.parts)
