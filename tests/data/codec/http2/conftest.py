import pytest

from mosn_xds.data.codec.http2 import EngineFactory, h2_engine, ngh2_engine


@pytest.fixture(params=[ngh2_engine, h2_engine], ids=["ngh2", "h2"])
def engines(request: pytest.FixtureRequest) -> EngineFactory:
    """Each engine in turn."""
    factory: EngineFactory = request.param
    return factory
