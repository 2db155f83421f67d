"""What the router needs of a route of an RPC proxy: an HTTP route's plan with time-outs that RPC clients understand."""

from mosn_xds.data.match.routes import Planner
from mosn_xds.data.observe.getters import FormatEnvironment
from mosn_xds.data.proxy.route_plan import RoutePlan
from mosn_xds.data.proxy.rpc.timeouts import RpcTimeoutRules
from mosn_xds.spec import route as spec


class RpcPlan(RoutePlan):
    """One route of an RPC proxy, compiled."""

    __slots__ = ()

    def __init__(
        self, environment: FormatEnvironment, table: spec.RouteTable, host: spec.VirtualHost, route: spec.Route
    ) -> None:
        super().__init__(environment, table, host, route)
        action = route.action
        if isinstance(action, spec.RouteAction):
            self.timeouts = RpcTimeoutRules(action, action.retry)


def rpc_planner(environment: FormatEnvironment) -> Planner:
    """The compiler that route tables of RPC proxies are built with."""

    def plan(table: spec.RouteTable, host: spec.VirtualHost, route: spec.Route) -> RpcPlan:
        return RpcPlan(environment, table, host, route)

    return plan
