"""Where redirects point: a route's RedirectAction, and a virtual host that demands TLS (Envoy's Http::Utility::newUri)."""

from collections.abc import Callable

from mosn_xds.data.codec.head import RequestHead
from mosn_xds.data.match.headers import first_value
from mosn_xds.data.proxy.rewrite import compile_path_rewrite
from mosn_xds.spec.route import RedirectAction, RouteMatch, TlsRequirement

_FORWARDED_PROTO = b"x-forwarded-proto"


class Redirect:
    """A compiled RedirectAction. Raises ConfigError for a bad expression."""

    __slots__ = ("_host", "_path", "_port", "_rewrite", "_scheme", "_strip_query", "status")

    def __init__(self, match: RouteMatch, action: RedirectAction) -> None:
        self.status = action.status
        self._scheme = action.scheme.encode() or (b"https" if action.https else b"")
        self._host = action.host.encode()
        self._port = b":%d" % action.port if action.port else b""
        self._path = action.path.encode()
        self._rewrite: Callable[[bytes], bytes] | None = compile_path_rewrite(
            match, action.prefix_rewrite, action.regex_rewrite
        )
        self._strip_query = action.strip_query

    def __repr__(self) -> str:
        return f"<Redirect {self.status} {self._scheme!r} {self._host!r}{self._port!r} {self._path!r}>"

    def location(self, head: RequestHead) -> bytes:
        """The value of ``location``."""
        scheme = self._scheme or head.scheme
        host = self._host or _host_without_default_port(head, scheme, drop_any=bool(self._port))
        path = self._new_path(head.path)
        slash = b"" if path[:1] == b"/" else b"/"
        return b"%b://%b%b%b%b" % (scheme, host, self._port, slash, path)

    def rewritten(self, path: bytes) -> bytes:
        """The path as prefix or regex rewrite leave it; Envoy's access log shows this one."""
        return self._rewrite(path) or path if self._rewrite is not None else path

    def _new_path(self, path: bytes) -> bytes:
        if self._path:
            if b"?" in self._path:
                return self._path
            mark = path.find(b"?")
            path = self._path + path[mark:] if mark >= 0 else self._path
        elif self._rewrite is not None:
            path = self._rewrite(path) or path
        return path.partition(b"?")[0] if self._strip_query else path


def _host_without_default_port(head: RequestHead, scheme: bytes, *, drop_any: bool) -> bytes:
    """The request's authority; its port goes when the redirect names one, or when it is the default of a left scheme."""
    host = head.authority or b""
    # Of an IPv6 literal only what follows the bracket is a port.
    colon = host.rfind(b"]:") + 1 if host[:1] == b"[" else host.rfind(b":")
    if colon <= 0:
        return host
    protocol = first_value(head, _FORWARDED_PROTO) or b""
    is_default = host[colon:] == {b"https": b":443", b"http": b":80"}.get(protocol)
    return host[:colon] if drop_any or (scheme != protocol and is_default) else host


def tls_redirect(head: RequestHead, requirement: TlsRequirement) -> bytes | None:
    """The ``location`` (301) of a request that a virtual host takes only over TLS; None when it may pass."""
    if requirement is TlsRequirement.NONE or first_value(head, _FORWARDED_PROTO) == b"https":
        return None
    if requirement is TlsRequirement.EXTERNAL_ONLY and first_value(head, b"x-envoy-internal") == b"true":
        return None
    return b"https://%b%b" % (head.authority or b"", head.path)
