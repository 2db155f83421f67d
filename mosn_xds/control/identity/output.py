"""Copies of the workload's certificate for others on the machine (`OUTPUT_CERTS`): whole files, replaced at once."""

import logging
import os
from pathlib import Path

from mosn_xds.spec.tls import Certificate

_log = logging.getLogger("mosn_xds.identity")


def write_copies(folder: str, certificate: Certificate, roots: bytes) -> None:
    """``cert-chain.pem``, ``key.pem`` and ``root-cert.pem``, readable by the owner only. A failure is logged."""
    files = (("key.pem", certificate.key), ("cert-chain.pem", certificate.chain), ("root-cert.pem", roots))
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, content in files:
            _replace(Path(folder) / name, content)
    except OSError as error:
        _log.warning("certificates cannot be written to %s: %s", folder, error.strerror)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)
    temporary.replace(path)
