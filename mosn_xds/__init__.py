"""mosn-xds: a service-mesh data plane in Python. See docs/ for the architecture."""

__version__ = "0.1.0"
