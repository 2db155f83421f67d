"""Secrets of whatever name: what pilot-agent and istiod would have served beside a recorded session."""

from collections.abc import Iterable
from typing import Any

from google.protobuf import json_format

from mosn_xds.pilot.resources import SECRET, ResourceSet
from mosn_xds.xds.messages import message_class
from tests.support.authority import Authority

IDENTITY = "spiffe://cluster.local/ns/shop/sa/front"


def secret_bytes(name: str, **fields: Any) -> bytes:
    """A serialised Secret."""
    found = message_class(SECRET)
    assert found is not None
    return json_format.ParseDict({"name": name, **fields}, found()).SerializeToString()


def is_validation(name: str) -> bool:
    """What Istio wants under a name: something to validate with, or a certificate."""
    return name == "ROOTCA" or name.startswith("file-root:") or name.endswith("-cacert")


class AnySecrets(ResourceSet):
    """A ResourceSet in which every secret exists, made when it is first asked for; all of one authority."""

    def __init__(self, authority: Authority | None = None, identity: str = IDENTITY) -> None:
        super().__init__()
        self.authority = authority or Authority()
        self.identity = identity
        self._made: dict[str, bytes] = {}

    def get(self, type_url: str, names: Iterable[str] | None = None) -> dict[str, bytes]:
        if type_url != SECRET or names is None:
            return super().get(type_url, names)
        known = super().get(type_url)
        return {name: known.get(name) or self._make(name) for name in names}

    def _make(self, name: str) -> bytes:
        found = self._made.get(name)
        if found is None:
            if is_validation(name):
                found = secret_bytes(name, validation_context={"trusted_ca": {"inline_string": self.authority.root}})
            else:
                found = secret_bytes(name, tls_certificate=self.authority.issue(self.identity).config())
            self._made[name] = found
        return found
