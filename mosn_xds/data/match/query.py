"""Query parameters: the first value of a name, and matchers over it (envoy.config.route.v3.QueryParameterMatcher).

As Envoy does: the string between ``?`` and ``#`` is split at ``&``, names and values are compared without decoding
anything, of a repeated name the first value counts, a parameter without ``=`` has an empty value.
"""

from collections.abc import Callable

from mosn_xds.data.match.strings import compile_string
from mosn_xds.spec.common import QueryMatch

QueryPredicate = Callable[[dict[bytes, bytes]], bool]


def query_parameters(path: bytes) -> dict[bytes, bytes]:
    """The parameters of a request's path, first value of each name."""
    mark = path.find(b"?")
    if mark < 0:
        return {}
    end = path.find(b"#", mark)
    query = path[mark + 1 :] if end < 0 else path[mark + 1 : end]
    parameters: dict[bytes, bytes] = {}
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name not in parameters:
            parameters[name] = value
    return parameters


def compile_query(match: QueryMatch) -> QueryPredicate:
    """A predicate over `query_parameters`. Raises ConfigError for a bad expression."""
    name = match.name.encode()
    if match.string is not None:
        test = compile_string(match.string)

        def matches(parameters: dict[bytes, bytes]) -> bool:
            value = parameters.get(name)
            return value is not None and test(value)

        return matches
    if match.present is False:
        return lambda parameters: name not in parameters
    return lambda parameters: name in parameters
