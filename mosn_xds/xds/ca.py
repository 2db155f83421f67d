"""Istio's certificate service (istio.v1.auth, security/v1alpha1/ca.proto): two messages that no package ships.

`metadata` (a Struct that names a signer) is the only field left out: nothing here has several signers.
"""

from functools import cache
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

CREATE_CERTIFICATE = "/istio.v1.auth.IstioCertificateService/CreateCertificate"

_PACKAGE = "istio.v1.auth"
_STRING, _INT64 = 9, 3


class SigningRequest(NamedTuple):
    """IstioCertificateRequest: a PKCS#10 request as PEM, and how long the certificate should be valid."""

    csr: str
    validity_s: int


def encode_request(request: SigningRequest) -> bytes:
    found = _class("IstioCertificateRequest")(csr=request.csr, validity_duration=request.validity_s)
    return bytes(found.SerializeToString())


def decode_request(raw: bytes) -> SigningRequest:
    """Raises ValueError."""
    message = _decode("IstioCertificateRequest", raw)
    return SigningRequest(message.csr, message.validity_duration)


def encode_response(chain: tuple[str, ...]) -> bytes:
    """IstioCertificateResponse: PEM certificates, leaf first, root last."""
    return bytes(_class("IstioCertificateResponse")(cert_chain=chain).SerializeToString())


def decode_response(raw: bytes) -> tuple[str, ...]:
    """Raises ValueError."""
    return tuple(_decode("IstioCertificateResponse", raw).cert_chain)


def _decode(name: str, raw: bytes) -> Any:
    try:
        return _class(name).FromString(raw)
    except DecodeError as error:
        raise ValueError(f"not an {name}: {error}") from None


@cache
def _class(name: str) -> Any:
    pool = descriptor_pool.Default()
    file = descriptor_pb2.FileDescriptorProto(name="mosn_xds/istio.v1.auth.proto", package=_PACKAGE, syntax="proto3")
    request = file.message_type.add(name="IstioCertificateRequest")
    request.field.add(name="csr", number=1, type=_STRING, label=1)
    request.field.add(name="validity_duration", number=3, type=_INT64, label=1)
    response = file.message_type.add(name="IstioCertificateResponse")
    response.field.add(name="cert_chain", number=1, type=_STRING, label=3)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
