import pytest

from mosn_xds.data.codec.http2 import EngineFactory, ngh2_engine


@pytest.fixture(params=[ngh2_engine], ids=["ngh2"])
def engines(request: pytest.FixtureRequest) -> EngineFactory:
    """Each engine in turn."""
    factory: EngineFactory = request.param
    return factory
