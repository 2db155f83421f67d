"""Role-based access control: the policies of envoy.config.rbac.v3 compiled to predicates, for requests and connections.

A policy matches when one of its permissions and one of its principals do; policies are asked in lexical order of name, the
first that matches decides. ALLOW lets pass what a policy matches, DENY what none matches, LOG everything.

What cannot be known here never matches: there is no filter state, and who comes in plaintext is not authenticated. Under
``not`` that is a match, as it is in Envoy.
"""

from collections.abc import Callable
from typing import Any, Protocol

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.codec.head import RequestHead, Version
from mosn_xds.data.match.cidr import CidrSet
from mosn_xds.data.match.headers import compile_header
from mosn_xds.data.match.strings import BytesPredicate, compile_string
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.spec.common import Address, CidrRange
from mosn_xds.spec.filters import RbacAction, RbacNode, RbacPolicy, RbacRules


class Subject(Protocol):
    """What policies are asked about; a stream is one, and `ConnectionSubject`."""

    request: RequestHead
    connection: ConnectionInfo
    remote: Address | None
    metadata: dict[str, dict[str, Any]] | None


class ConnectionSubject:
    """A connection without a request, for the network filter: its head has no fields."""

    __slots__ = ("connection", "metadata", "remote", "request")

    def __init__(self, connection: ConnectionInfo) -> None:
        self.connection = connection
        self.request = RequestHead(b"", b"", None, b"", Version.HTTP11, [])
        self.remote: Address | None = None
        self.metadata: dict[str, dict[str, Any]] | None = None


Predicate = Callable[[Subject], bool]


class RbacEngine:
    """Compiled rules. Raises ConfigError for a bad expression."""

    __slots__ = ("_action", "_policies")

    def __init__(self, rules: RbacRules) -> None:
        self._action = rules.action
        self._policies = tuple((policy.name, _policy(policy)) for policy in rules.policies)

    def decide(self, subject: Subject) -> tuple[bool, str]:
        """Whether `subject` may pass, and the name of the policy that matched, empty for none."""
        matched = ""
        for name, matches in self._policies:
            if matches(subject):
                matched = name
                break
        if self._action is RbacAction.ALLOW:
            return bool(matched), matched
        return self._action is RbacAction.LOG or not matched, matched

    def __repr__(self) -> str:
        return f"<RbacEngine {self._action.name} {len(self._policies)} policies>"


def denial_details(policy: str) -> str:
    """`%RESPONSE_CODE_DETAILS%` and termination details of a denial; one word, for access logs are split at blanks."""
    return f"rbac_access_denied_matched_policy[{'_'.join(policy.split()) or 'none'}]"


def _policy(policy: RbacPolicy) -> Predicate:
    return _all((_any(tuple(map(_node, policy.permissions))), _any(tuple(map(_node, policy.principals)))))


def _node(node: RbacNode) -> Predicate:
    predicate = _positive(node)
    return _not(predicate) if node.invert else predicate


def _positive(node: RbacNode) -> Predicate:
    match node.kind:
        case "any":
            return lambda subject: True
        case "and":
            return _all(tuple(map(_node, node.children)))
        case "or":
            return _any(tuple(map(_node, node.children)))
        case "not":
            return _not(_node(node.children[0]))
        case "header" if node.header is not None:
            header = compile_header(node.header)
            return lambda subject: header(subject.request)
        case "path" if node.string is not None:
            return _path(compile_string(node.string))
        case "destination_port":
            port = node.port
            return lambda subject: subject.connection.local.port == port
        case "destination_port_range":
            ports = range(node.port, node.port_end)
            return lambda subject: subject.connection.local.port in ports
        case "destination_ip" if node.cidr is not None:
            inside = _inside(node.cidr)
            return lambda subject: inside(subject.connection.local.host)
        case "source_ip" if node.cidr is not None:
            inside = _inside(node.cidr)
            return lambda subject: inside(subject.connection.remote.host)
        case "direct_remote_ip" if node.cidr is not None:
            inside = _inside(node.cidr)
            return lambda subject: inside(subject.connection.direct_remote.host)
        case "remote_ip" if node.cidr is not None:
            inside = _inside(node.cidr)
            return lambda subject: inside((subject.remote or subject.connection.remote).host)
        case "sni" if node.string is not None:
            name = compile_string(node.string)
            return lambda subject: name(subject.connection.sni.encode())
        case "metadata" | "metadata_list" if node.string is not None:
            return _metadata(node.key_path, compile_string(node.string), in_list=node.kind == "metadata_list")
        case "authenticated":
            return _authenticated(compile_string(node.string) if node.string is not None else None)
        case "filter_state" | "never":
            return lambda subject: False
    raise ConfigError(f"no RBAC rule of kind {node.kind!r}")


def _any(predicates: tuple[Predicate, ...]) -> Predicate:
    if len(predicates) == 1:
        return predicates[0]

    def matches(subject: Subject) -> bool:
        for predicate in predicates:  # noqa: SIM110  # any() with a generator costs three times as much
            if predicate(subject):
                return True
        return False

    return matches


def _all(predicates: tuple[Predicate, ...]) -> Predicate:
    if len(predicates) == 1:
        return predicates[0]

    def matches(subject: Subject) -> bool:
        for predicate in predicates:  # noqa: SIM110
            if not predicate(subject):
                return False
        return True

    return matches


def _not(predicate: Predicate) -> Predicate:
    return lambda subject: not predicate(subject)


def _path(test: BytesPredicate) -> Predicate:
    """Without query and fragment, as Envoy's PathMatcher."""

    def matches(subject: Subject) -> bool:
        return test(subject.request.path.partition(b"?")[0].partition(b"#")[0])

    return matches


def _authenticated(test: BytesPredicate | None) -> Predicate:
    """A URI or a DNS name of the peer's certificate, or its subject; without a test, as in Envoy, anything that is TLS."""

    def matches(subject: Subject) -> bool:
        tls = subject.connection.tls
        if tls is None or test is None:
            return tls is not None
        peer = tls.peer
        if peer is None:
            return False
        return any(test(name.encode()) for name in (*peer.uri_sans, *peer.dns_sans, peer.subject))

    return matches


def _inside(cidr: CidrRange) -> Callable[[str], bool]:
    """The streams of a connection ask for the same address again and again; parsing it costs 2 us."""
    ranges = CidrSet((cidr,))
    last_host, last_answer = "", False

    def inside(host: str) -> bool:
        nonlocal last_host, last_answer
        if host != last_host:
            last_answer = ranges.contains(host)
            last_host = host
        return last_answer

    return inside


def _metadata(path: tuple[str, ...], test: BytesPredicate, *, in_list: bool) -> Predicate:
    def matches(subject: Subject) -> bool:
        value: Any = subject.metadata
        for key in path:
            if not isinstance(value, dict):
                return False
            value = value.get(key)
        if in_list:
            return isinstance(value, list) and any(isinstance(one, str) and test(one.encode()) for one in value)
        return isinstance(value, str) and test(value.encode())

    return matches
