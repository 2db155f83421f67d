"""The patience of properties, the order of the tests, and those that need a process to themselves."""

import pytest
from hypothesis import HealthCheck, settings


def pytest_configure() -> None:
    """An example that takes long says something about the machine."""
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """End-to-end tests come last. Those of modules that enter a network namespace are marked `network`: gRPC's threads, which
    never end, stay where they were started, and a gRPC client of the same process would then look for its server in a
    network that is gone. `make test` runs them apart."""
    items.sort(key=lambda item: "e2e" in item.path.parts)
    entering = {item.path for item in items if "network" in getattr(item, "fixturenames", ())}
    for item in items:
        if item.path in entering or hasattr(getattr(item, "module", None), "enter_network"):
            item.add_marker("network")
