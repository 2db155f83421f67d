"""A worker's secrets, and the OpenSSL contexts made of them.

Contexts are cached by content and shared. Whoever connects or accepts holds a `ServerTls` or a `ClientTls`, which know the
names of their secrets and ask for the context with each connection: after a secret has changed, new connections use a new
context, while old connections keep theirs until they end. A secret that cannot be used is refused when it comes, and the
one before it stays.

A context that names a secret which is not here cannot serve. The agent does not publish such a thing; should it happen,
connections fail with Envoy's text for it.
"""

import time
from collections.abc import Callable, Hashable
from weakref import WeakValueDictionary

from msgspec.structs import replace
from OpenSSL import SSL

from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.secure_wire import Handshakes
from mosn_xds.data.net.tls import TlsMemory
from mosn_xds.data.tls.contexts import client_context, server_context
from mosn_xds.data.tls.handshake import FailureLog
from mosn_xds.data.tls.material import Identity, Roots
from mosn_xds.data.tls.verify import PeerPolicy
from mosn_xds.spec.snapshot import digest, encode
from mosn_xds.spec.tls import DownstreamTls, SanKind, Secret, TlsContext, Validation

NOT_READY = "Secret is not supplied by SDS"


class TlsStore:
    """See the module. `version` changes with every secret. Handshakes of a worker share its time (`handshakes`), its memory
    and its log of failures."""

    def __init__(self, reactor: Reactor, read_time: Callable[[], float] = time.monotonic) -> None:
        self.memory = TlsMemory()
        self.handshakes = Handshakes(reactor, read_time)
        self.failures = FailureLog(read_time)
        self.version = 1
        self._read_wall = reactor.clock.wall
        self._secrets: dict[str, Secret] = {}
        self._identities: dict[str, Identity] = {}
        self._kept: dict[str, Roots] = {}
        self._roots: WeakValueDictionary[bytes, Roots] = WeakValueDictionary()
        self._policies: WeakValueDictionary[bytes, PeerPolicy] = WeakValueDictionary()
        self._contexts: WeakValueDictionary[Hashable, SSL.Context] = WeakValueDictionary()

    def put(self, secret: Secret) -> None:
        """Use this secret from now on. Raises ConfigError for one that cannot be used; what was there stays."""
        identity = Identity(secret.certificate) if secret.certificate is not None else None
        if secret.validation is not None:
            self.policy(secret.validation)
            self._kept[secret.name] = self.roots(secret.validation)
        self._secrets[secret.name] = secret
        if identity is not None:
            self._identities[secret.name] = identity
        else:
            self._identities.pop(secret.name, None)
        self.version += 1

    def drop(self, name: str) -> None:
        """No such secret any more."""
        self._secrets.pop(name, None)
        self._identities.pop(name, None)
        self._kept.pop(name, None)
        self.version += 1

    def roots(self, validation: Validation) -> Roots:
        key = digest(encode((validation.trusted_ca, validation.crl)))
        found = self._roots.get(key)
        if found is None:
            found = self._roots[key] = Roots(validation.trusted_ca, validation.crl)
        return found

    def policy(self, validation: Validation) -> PeerPolicy:
        key = digest(encode(validation))
        found = self._policies.get(key)
        if found is None:
            found = self._policies[key] = PeerPolicy(validation)
        return found

    def validation(self, context: TlsContext) -> Validation | None:
        """What validates the peer: the context's own, the secret's, or both together. Raises KeyError if it is not here."""
        own, name = context.validation, context.validation_secret
        given = None if name is None else self._secrets[name].validation
        if given is None or own is None:
            return given or own
        return combine(own, given)

    def server(self, spec: DownstreamTls) -> tuple[SSL.Context, Validation | None]:
        """Raises KeyError for a secret that is not here, ConfigError for what cannot be built."""
        validation = self.validation(spec.context)
        certificates = tuple(self._secrets[name].certificate for name in spec.context.certificates)
        keys = self._ticket_keys(spec)
        # Whoever has the key of its ticket may go on with a session: which keys those are makes it no other session.
        uid = encode((replace(spec, ticket_secret=None), certificates, validation))
        key = ("server", digest(uid), spec.ticket_secret is None, digest(encode(keys)))
        found = self._contexts.get(key)
        if found is None:
            identities = [self._identities[name] for name in spec.context.certificates]
            roots = self.roots(validation or Validation())
            bundles = self.policy(validation).bundles if validation is not None else None
            authorities = roots.certificates if bundles is None else bundles.authorities
            found = server_context(
                spec, identities, validation, roots, authorities, keys, self.memory, self._read_wall, uid
            )
            self._contexts[key] = found
        return found, validation

    def client(self, spec: TlsContext) -> tuple[SSL.Context, Validation | None]:
        """As `server`. Names, pins and ALPN are not the context's."""
        validation = self.validation(spec)
        certificates = tuple(self._secrets[name].certificate for name in spec.certificates)
        chain = validation is not None and (
            validation.trusted_ca, validation.crl, validation.only_leaf_crl, validation.max_depth, validation.system_roots
        )  # fmt: skip
        parameters = (spec.min_version, spec.max_version, spec.ciphers, spec.curves)
        key = ("client", digest(encode((certificates, chain, parameters))))
        found = self._contexts.get(key)
        if found is None:
            identities = [self._identities[name] for name in spec.certificates]
            found = client_context(spec, identities, validation, self.roots(validation or Validation()), self.memory)
            self._contexts[key] = found
        return found, validation

    def _ticket_keys(self, spec: DownstreamTls) -> tuple[bytes, ...]:
        secret = self._secrets.get(spec.ticket_secret) if spec.ticket_secret is not None else None
        return secret.ticket_keys if secret is not None else ()

    def __repr__(self) -> str:
        return f"<TlsStore {len(self._secrets)} secrets, {len(self._contexts)} contexts>"


def combine(own: Validation, given: Validation) -> Validation:
    """The secret's values with those of the context's own added (CombinedCertificateValidationContext)."""
    domains = given.trust_domains if given.trust_domains is not None else own.trust_domains
    if domains is not None:
        sans = tuple([one for one in own.sans + given.sans if one.kind is SanKind.URI])
        return Validation(sans=sans, allow_expired=given.allow_expired or own.allow_expired, trust_domains=domains)
    return Validation(
        trusted_ca=given.trusted_ca or own.trusted_ca,
        system_roots=given.system_roots or own.system_roots,
        sans=own.sans + given.sans,
        hashes=own.hashes + given.hashes,
        spki_pins=own.spki_pins + given.spki_pins,
        crl=given.crl or own.crl,
        only_leaf_crl=given.only_leaf_crl or own.only_leaf_crl,
        max_depth=given.max_depth if given.max_depth is not None else own.max_depth,
        allow_expired=given.allow_expired or own.allow_expired,
        accept_untrusted=given.accept_untrusted or own.accept_untrusted,
    )
