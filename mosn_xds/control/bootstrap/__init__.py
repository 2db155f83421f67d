"""The bootstrap: what to connect to, static resources, the node. `load_bootstrap` is the door."""

from mosn_xds.control.bootstrap.load import NodeOverrides as NodeOverrides
from mosn_xds.control.bootstrap.load import load_bootstrap as load_bootstrap
from mosn_xds.control.bootstrap.model import Admin as Admin
from mosn_xds.control.bootstrap.model import Bootstrap as Bootstrap
from mosn_xds.control.bootstrap.model import DynamicRoot as DynamicRoot
from mosn_xds.control.bootstrap.model import StaticResource as StaticResource
from mosn_xds.control.bootstrap.model import XdsServer as XdsServer
from mosn_xds.control.bootstrap.stats import StatsSettings as StatsSettings
from mosn_xds.control.bootstrap.stats import StatTag as StatTag
