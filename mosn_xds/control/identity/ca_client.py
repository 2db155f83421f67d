"""Asks istiod for a certificate: one unary call of `IstioCertificateService/CreateCertificate`.

Each call has a channel of its own, so that the token and the root certificates are what the files hold now (the kubelet
replaces both). The call blocks in a thread, with a deadline.
"""

from typing import Protocol

import grpc
import trio

from mosn_xds.control.ads.transport import GrpcTarget, StreamEnded, open_channel
from mosn_xds.xds.ca import CREATE_CERTIFICATE, SigningRequest, decode_response, encode_request

CALL_LIMIT_S = 10.0


class CaError(Exception):
    """Why there is no certificate: the authority's status, or what is wrong with its answer."""


class CaClient(Protocol):
    """Signs requests."""

    async def sign(self, request: SigningRequest) -> tuple[str, ...]:
        """The certificate, PEM, leaf first and root last. Raises CaError."""
        ...


class IstiodClient:
    """See the module."""

    def __init__(self, target: GrpcTarget) -> None:
        self.target = target

    def __repr__(self) -> str:
        return f"<IstiodClient {self.target.target}>"

    async def sign(self, request: SigningRequest) -> tuple[str, ...]:
        """See `CaClient`."""
        return await trio.to_thread.run_sync(self._call, request, abandon_on_cancel=True)

    def _call(self, request: SigningRequest) -> tuple[str, ...]:
        try:
            channel, metadata = open_channel(self.target)
        except StreamEnded as error:
            raise CaError(str(error)) from None
        with channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CREATE_CERTIFICATE)
            try:
                raw = call(encode_request(request), timeout=CALL_LIMIT_S, metadata=metadata)
            except grpc.RpcError as error:
                code, details = getattr(error, "code", None), getattr(error, "details", None)
                status = code() if code is not None else None
                name = status.name if status is not None else "UNKNOWN"
                raise CaError(f"{name}: {details() if details is not None else ''}") from None
        try:
            chain = decode_response(raw)
        except ValueError as error:
            raise CaError(str(error)) from None
        if len(chain) < 2:
            raise CaError(f"a chain of {len(chain)} certificates: leaf and root are needed")
        return chain
