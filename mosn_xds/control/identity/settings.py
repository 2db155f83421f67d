"""Where the workload's identity comes from: pilot-agent's environment variables and files, with pilot-agent's defaults.

A bootstrap with a cluster `sds-grpc` says that somebody else has the secrets (pilot-agent, SPIRE), and that holds. Without
one, certificates that are mounted as files win over a certificate authority; `MOSN_XDS_IDENTITY` (``sds``, ``files``, ``ca``)
decides otherwise. Names, paths and defaults: istio.io/docs/reference/commands/pilot-agent, "Environment variables".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.ads.transport import GrpcTarget
from mosn_xds.control.identity.request import KeyKind

DEFAULT_TTL_S = 24 * 3600.0
_TOKEN = "var/run/secrets/tokens/istio-token"
_ROOT = "var/run/secrets/istio/root-cert.pem"
_MOUNTED = "var/run/secrets/workload-spiffe-credentials"
_CRL = "var/run/secrets/istio/crl/ca-crl.pem"
_SYSTEM = "SYSTEM"
_DISCOVERY = "istiod.istio-system.svc:15012"
_GO_UNIT = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_GO_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Provider(Enum):
    """Who has the identity."""

    SDS = "sds"
    FILES = "files"
    CA = "ca"


@dataclass(frozen=True, slots=True)
class CaSettings:
    """An istiod to ask, and what for. Times are seconds; `grace_ratio` of the life is left at rotation, more or less
    `grace_jitter`."""

    target: GrpcTarget
    identity: str
    key: KeyKind = KeyKind.P256
    rsa_bits: int = 2048
    ttl_s: float = DEFAULT_TTL_S
    grace_ratio: float = 0.5
    grace_jitter: float = 0.01


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """`ca` or `files` (chain, key, roots). `crl_path` rides with the roots if it exists; `output_dir` gets copies."""

    ca: CaSettings | None = None
    files: tuple[str, str, str] | None = None
    crl_path: str = ""
    output_dir: str = ""
    folder: Path = field(default_factory=Path)
    """Where relative paths start."""


def from_environment(
    environment: Mapping[str, str], *, has_sds: bool, folder: Path | None = None
) -> IdentitySettings | None:
    """None: secrets come by SDS, or from nowhere. `folder` stands for the root directory, against which the well-known
    paths are looked up. Raises ConfigError for values that cannot be used."""
    root = folder or Path("/")
    mounted = _mounted(environment, root)
    provider = _provider(environment, has_sds, mounted is not None)
    if provider is None or provider is Provider.SDS:
        return None
    crl = root / _CRL
    output = environment.get("OUTPUT_CERTS", "")
    if provider is Provider.FILES:
        if mounted is None:
            raise ConfigError(f"MOSN_XDS_IDENTITY is files, and there are none in {root / _MOUNTED}")
        return IdentitySettings(None, mounted, str(crl) if crl.exists() else "", output, root)
    return IdentitySettings(_ca(environment, root), None, str(crl) if crl.exists() else "", output, root)


def _provider(environment: Mapping[str, str], has_sds: bool, has_files: bool) -> Provider | None:
    given = environment.get("MOSN_XDS_IDENTITY", "")
    if given:
        try:
            return Provider(given)
        except ValueError:
            raise ConfigError(f"MOSN_XDS_IDENTITY={given}", hint="sds, files or ca") from None
    if has_sds:
        return Provider.SDS
    if has_files:
        return Provider.FILES
    return Provider.CA if environment.get("CA_ADDR") else None


def _mounted(environment: Mapping[str, str], root: Path) -> tuple[str, str, str] | None:
    """Chain, key and roots where they are mounted; None unless all are there."""
    folders = [root / _MOUNTED]
    if environment.get("PROV_CERT"):
        folders.insert(0, Path(environment["PROV_CERT"]))
    if environment.get("FILE_MOUNTED_CERTS", "").lower() == "true":
        folders.append(root / "etc/certs")
    for folder in folders:
        paths = (folder / "cert-chain.pem", folder / "key.pem", folder / "root-cert.pem")
        if all(path.exists() for path in paths):
            return (str(paths[0]), str(paths[1]), str(paths[2]))
    return None


def _ca(environment: Mapping[str, str], root: Path) -> CaSettings:
    address = environment.get("CA_ADDR") or environment.get("DISCOVERY_ADDRESS") or _DISCOVERY
    if environment.get("CA_PROVIDER", "Citadel") not in ("", "Citadel"):
        raise ConfigError(f"CA_PROVIDER={environment['CA_PROVIDER']} is not supported", hint="Citadel, or SDS")
    key, bits = _key_kind(environment)
    metadata = (("clusterid", environment.get("ISTIO_META_CLUSTER_ID") or "Kubernetes"),)
    host = address.rpartition(":")[0]
    plain = environment.get("CA_TLS", "true").lower() == "false"
    given_root = environment.get("CA_ROOT_CA") or environment.get("XDS_ROOT_CA") or str(root / _ROOT)
    token = environment.get("CA_TOKEN_PATH") or str(root / _TOKEN)
    server = environment.get("ISTIOD_SAN") or (
        "istiod.istio-system.svc" if host in ("localhost", "127.0.0.1") else None
    )
    target = GrpcTarget(
        address,
        tls=not plain,
        tls_root_path=None if plain or given_root == _SYSTEM else given_root,
        server_name=None if plain else server,
        token_path=token,
        initial_metadata=metadata,
    )
    return CaSettings(
        target,
        spiffe_id(environment),
        key,
        bits,
        _duration(environment, "SECRET_TTL", DEFAULT_TTL_S),
        _ratio(environment, "SECRET_GRACE_PERIOD_RATIO", 0.5),
        _ratio(environment, "SECRET_GRACE_PERIOD_RATIO_JITTER", 0.01),
    )


def spiffe_id(environment: Mapping[str, str]) -> str:
    """``spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`` of the workload."""
    domain = environment.get("TRUST_DOMAIN") or "cluster.local"
    namespace = environment.get("POD_NAMESPACE") or "default"
    account = environment.get("SERVICE_ACCOUNT") or "default"
    return f"spiffe://{domain}/ns/{namespace}/sa/{account}"


def _key_kind(environment: Mapping[str, str]) -> tuple[KeyKind, int]:
    if environment.get("ECC_SIGNATURE_ALGORITHM"):
        curve = environment.get("ECC_CURVE") or "P256"
        try:
            return KeyKind(curve), 2048
        except ValueError:
            raise ConfigError(f"ECC_CURVE={curve} is not supported", hint="P256 or P384") from None
    bits = environment.get("WORKLOAD_RSA_KEY_SIZE")
    if not bits:
        return KeyKind.P256, 2048
    if not bits.isdigit() or not 2048 <= int(bits) <= 8192:
        raise ConfigError(f"WORKLOAD_RSA_KEY_SIZE={bits}", hint="2048 to 8192")
    return KeyKind.RSA, int(bits)


def _duration(environment: Mapping[str, str], name: str, default_s: float) -> float:
    """A duration as Go writes it: ``24h0m0s``."""
    text = environment.get(name, "")
    if not text:
        return default_s
    parts = _GO_UNIT.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError(f"{name}={text} is no duration", hint="like 24h or 1h30m")
    return sum(float(number) * _GO_SECONDS[unit] for number, unit in parts)


def _ratio(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(f"{name}={text}", hint="0 to 1")
    return value
