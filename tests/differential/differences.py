"""Where we differ from Envoy on purpose, and why: data for the cases and for docs/differences.md.

An entry says what Envoy does, what we do and the reason. A case that shows a difference names its entry; nothing else
may differ. docs/differences.md is checked against this table.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One deliberate difference in behaviour."""

    what: str
    envoy: str
    ours: str
    reason: str


DIFFERENCES: dict[str, Difference] = {
    "obs-fold": Difference(
        what="a header line that begins with a blank (obs-fold) in a request",
        envoy="joined to the line before it and forwarded",
        ours="400 and close",
        reason="RFC 9112 5.2 lets a server refuse it; peers disagree about it, which is what smuggling needs",
    ),
    "bare-lf": Difference(
        what="a line of the request head that ends in LF without CR",
        envoy="accepted",
        ours="400 and close",
        reason="RFC 9112 2.2 allows but does not ask for it; a peer that reads lines otherwise sees another request",
    ),
    "bare-cr": Difference(
        what="a CR without LF inside a header value",
        envoy="dropped or accepted",
        ours="400 and close",
        reason="RFC 9112 2.2: a bare CR is invalid; a sender must not generate it",
    ),
    "request-line-blanks": Difference(
        what="a tab between the parts of a request line, or a blank behind its version",
        envoy="accepted",
        ours="400 and close",
        reason="RFC 9112 3 has one SP there; a peer that splits the line otherwise sees another request",
    ),
    "chunk-end": Difference(
        what="chunk data that is not followed by CRLF where the chunk's size says it ends",
        envoy="bytes up to the next CRLF are dropped",
        ours="400 and close",
        reason="RFC 9112 7.1: a size that lies about its chunk is how a request is hidden in a body",
    ),
    "short-status": Difference(
        what="an upstream's response with a status of two digits",
        envoy="forwarded, and the client waits for a body that never ends",
        ours="502, UPE",
        reason="RFC 9112 4: a status code has three digits",
    ),
    "unasked-switch": Difference(
        what="an upstream's 101 to a request that did not ask for an upgrade",
        envoy="forwarded as a response without a body; the connection goes back to the pool",
        ours="502, UPE, and the upstream connection is closed",
        reason="RFC 9110 15.2.2: what follows is another protocol; the next request on it would read that as its answer",
    ),
    "close-at-once": Difference(
        what="the end of a connection whose request was refused before it was whole",
        envoy="no FIN until `delayed_close_timeout` is over, or the client has closed",
        ours="FIN behind the answer; what the client still sends is read and dropped for `delayed_close_timeout`",
        reason="the client that reads to the end has its answer at once, and no reset can destroy it either way",
    ),
    "goaway-resend": Difference(
        what="a request on an HTTP/2 upstream connection that has served before, above the last stream id of the peer's GOAWAY",
        envoy="503, UR, unless the retry policy has `refused-stream`",
        ours="sent again on another connection, if all of it is at hand",
        reason="RFC 9113 6.8: the peer says that it has not processed it; a server that ends connections must not cost requests",
    ),
    "http-two-goaway": Difference(
        what="an HTTP/2 connection error",
        envoy="the connection is closed, mostly without a word",
        ours="GOAWAY with the code, then the same",
        reason="RFC 9113 5.4.1 asks for it; the client can say what was wrong",
    ),
    "http-two-client-goaway": Difference(
        what="an HTTP/2 client's GOAWAY",
        envoy="has no effect",
        ours="the connection is closed when the streams that are open have been served",
        reason="RFC 9113 6.8: the client has said that it is done with the connection",
    ),
    "http-two-window-overflow": Difference(
        what="a SETTINGS_INITIAL_WINDOW_SIZE that takes a stream's window beyond 2^31-1",
        envoy="resets the stream",
        ours="closes the connection with FLOW_CONTROL_ERROR",
        reason="RFC 9113 6.9.2: it is a connection error",
    ),
    "http-two-header-bomb": Difference(
        what="an HTTP/2 header section of more than four times `max_request_headers_kb` or `max_headers_count`",
        envoy="resets the stream",
        ours="closes the connection with ENHANCE_YOUR_CALM",
        reason="nobody sends that by mistake, and the library has a bound of its own behind ours",
    ),
    "http-two-tunnel-end": Difference(
        what="END_STREAM of an HTTP/2 client on a WebSocket to an HTTP/1 upstream",
        envoy="the upstream hears nothing; the stream stays until a time-out or a reset",
        ours="FIN to the upstream, which may still answer",
        reason="one side's end is part of what is tunnelled",
    ),
    "http-two-details": Difference(
        what="the response code details of a malformed HTTP/2 header section",
        envoy="`http2.invalid.header.field` where one field is invalid, else `http2.violation.of.messaging.rule`",
        ours="`http2.violation.of.messaging.rule`",
        reason="the library does not say which it was",
    ),
    "http-two-blanks": Difference(
        what="a blank before or behind the value of an HTTP/2 field",
        envoy="accepted",
        ours="a malformed message, as with any other invalid field",
        reason="RFC 9113 8.2.1: such a field is malformed; next to an HTTP/1 peer the blank would vanish",
    ),
    "certificate-alone": Difference(
        what="`require_client_certificate` without a validation context",
        envoy="no certificate is asked for",
        ours="one is required, whoever issued it",
        reason="the field says that connections without a certificate are refused",
    ),
    "grpc-web-errors": Difference(
        what="an answer to a gRPC-web call that is no gRPC: the proxy's own, or an HTTP error of the upstream",
        envoy="the HTTP status stays; the body is held back and becomes `grpc-message` in the head",
        ours="its own answers are as to gRPC (200, the status in the head); an upstream's keeps its HTTP status, and gRPC status "
        "and message are the last frame of the body",
        reason="the client reads the same status and message, and no response has to be held back for it",
    ),
    "hash-alert": Difference(
        what="the alert for a certificate that `verify_certificate_hash`, `verify_certificate_spki` or its own key usage refuses",
        envoy="bad_certificate_hash_value, illegal_parameter",
        ours="certificate_unknown, as for names",
        reason="OpenSSL has no verification error that becomes those alerts",
    ),
    "cipher-groups": Difference(
        what="TLS 1.2 ciphers of equal preference (bracketed groups; by default AES-128 and ChaCha20)",
        envoy="the client's order among them counts",
        ours="the order in which they stand; by default ChaCha20 where it is the first that the client offers",
        reason="OpenSSL has no such groups",
    ),
    "key-share": Difference(
        what="a TLS 1.3 client whose only key share is for P-256 while it has X25519, too",
        envoy="is asked for a share of X25519, which takes another round trip",
        ours="is taken with what it sent",
        reason="OpenSSL prefers a share at hand, and both groups are as good",
    ),
    "staple-failed": Difference(
        what="a certificate without the OCSP response that its policy asks for",
        envoy="another certificate, if one has it; else the alert handshake_failure",
        ours="the alert internal_error",
        reason="OpenSSL asks for the response when it has chosen the certificate, and knows one alert for it",
    ),
    "failed-handshake-log": Difference(
        what="cipher and group of a TLS 1.2 handshake, and the peer's chain, in the log of a handshake that failed",
        envoy="what was about to be used, and the whole chain",
        ours="`-`, and the peer's own certificate",
        reason="OpenSSL does not say what it has not agreed on",
    ),
    "rpc-property-case": Difference(
        what="a property of an RPC whose name differs from the one that is asked for by case alone",
        envoy="is another one",
        ours="is the one, unless there is one of the very name",
        reason="filters and routes name HTTP's headers in lower case, and attachments have capitals",
    ),
    "rpc-weighted-clusters": Difference(
        what="`weighted_clusters` in a route of generic_proxy",
        envoy="accepted, and every request is answered `cluster_not_found`",
        ours="weighted, as HTTP's",
        reason="that is what the field is for",
    ),
    "rpc-error-text": Difference(
        what="the text of an error answer of generic_proxy's Dubbo codec",
        envoy="empty, but for the reason why connecting failed; the reason is in a map behind it",
        ours="the reason, and the same map",
        reason="Java's client shows the text, and does not read the map",
    ),
    "rpc-dubbo-statuses": Difference(
        what="a Dubbo response whose status is none of 20, 30, 31, 40, 50, 60, 70, 80, 90, 100",
        envoy="`protocol_error`, and the upstream connection is closed",
        ours="passes",
        reason="Java's servers send 25 and 35; a response that can be told from the next one ends nobody else's request",
    ),
    "rpc-unknown-id": Difference(
        what="a response under an id that no request has",
        envoy="is the answer to the request that waits, under that id; with `bind_upstream_connection` it ends the process",
        ours="dropped, and counted",
        reason="it answers something else",
    ),
    "rpc-missing-content": Difference(
        what="a Dubbo response whose body ends before its result, as that of null does",
        envoy="a null and an empty map are added",
        ours="passes as it is",
        reason="it is whole, and no frame is changed without need",
    ),
    "rpc-one-way-answer": Difference(
        what="a one-way request that cannot be forwarded",
        envoy="is answered with an error",
        ours="is not answered",
        reason="its client waits for nothing, and may have given its id to another request",
    ),
    "rpc-frame-size": Difference(
        what="a frame above the listener's or cluster's `per_connection_buffer_limit_bytes` (1 MiB)",
        envoy="closes the connection",
        ours="passes, up to the codec's `max_frame_bytes` (16 MiB)",
        reason="Dubbo's own limit is 8 MiB, and what passes plain TCP must pass here",
    ),
    "rpc-unread-answers": Difference(
        what="answers to a generic_proxy client that does not read them",
        envoy="are kept, however many there are",
        ours="are kept up to the codec's `max_unread_bytes` (64 MiB); the next one closes the client's connection",
        reason="one client must not take all memory, and its servers' connections carry others' answers, too",
    ),
    "rpc-retries": Difference(
        what="`num_retries` of generic_proxy's routes",
        envoy="is the number of attempts",
        ours="is the number of retries; when they are used up the log shows URX as well",
        reason="that is what the field is documented to be, and it is HTTP's",
    ),
    "rpc-response-code": Difference(
        what="`%RESPONSE_CODE%` of an RPC in access logs",
        envoy="the protocol's own status, as `%GENERIC_RESPONSE_CODE%`",
        ours="the HTTP status that means the same",
        reason="filters of access logs by status, and Istio's metrics, know HTTP's",
    ),
    "rpc-client-gone": Difference(
        what="the details of an RPC whose client went away",
        envoy="none",
        ours="`downstream_remote_disconnect`, as HTTP's",
        reason="it says what happened",
    ),
    "rpc-before-a-bad-frame": Difference(
        what="the details of an RPC whose client then sent what is no frame",
        envoy="none",
        ours="`downstream_protocol_error`",
        reason="it says what happened",
    ),
    "rpc-null-version": Difference(
        what="a Dubbo request whose service's version is null",
        envoy="closes the connection",
        ours="serves it; the version is empty",
        reason="Java's clients write null where no version is configured",
    ),
    "rpc-foreign-heartbeat": Difference(
        what="a Dubbo heartbeat in another serialization than Hessian 2",
        envoy="closes the connection",
        ours="answers it",
        reason="its body means nothing",
    ),
    "rpc-early-magic": Difference(
        what="fewer bytes than a Dubbo header that cannot be the beginning of one",
        envoy="waits for sixteen",
        ours="closes",
        reason="nothing that may still come makes it one",
    ),
    "rpc-request-status": Difference(
        what="the status byte of a Dubbo request, which means nothing",
        envoy="becomes 0",
        ours="passes as it is",
        reason="no frame is changed without need",
    ),
    "rpc-unasked-heartbeat": Difference(
        what="an answer to a Dubbo heartbeat",
        envoy="is answered like a heartbeat",
        ours="is not answered",
        reason="two proxies would go on like that for ever",
    ),
    "rpc-read-only-client": Difference(
        what="the event by which a Dubbo peer says that it is read-only",
        envoy="is answered like a heartbeat",
        ours="is not answered; from an upstream it means that its connection gets no more requests",
        reason="it asks for nothing, and that is what it says",
    ),
    "rpc-bound-failure": Difference(
        what="`bind_upstream_connection`: a connection that cannot be made",
        envoy="the request is answered, and the client's connection is closed",
        ours="the request is answered; the next one chooses again",
        reason="nothing was bound yet",
    ),
    "rpc-bound-end": Difference(
        what="`bind_upstream_connection`: the end of the upstream connection",
        envoy="the client's connection is closed without a word",
        ours="requests under way are answered, the client is told to send no more, and its connection is closed",
        reason="the client knows what became of its requests",
    ),
    "dubbo-proxy-errors": Difference(
        what="error answers of dubbo_proxy",
        envoy="a number and a text of its own; status 60 without a route, 50 for a bad response, else 80",
        ours="the texts of generic_proxy's Dubbo codec; status 60 without a route, else 80",
        reason="Java's client shows the number in place of the text; one engine, one vocabulary",
    ),
    "thrift-errors": Difference(
        what="exceptions of thrift_proxy's own",
        envoy="texts of its own; the connection is closed behind most of them, and for a one-way call without one",
        ours="generic_proxy's reasons as texts, with Envoy's types (6 for a bad response); the connection goes on",
        reason="one engine, one vocabulary; other calls of the connection must not be lost",
    ),
    "thrift-reply-from-client": Difference(
        what="a Thrift message from a client that is no call",
        envoy="is forwarded",
        ours="closes the connection",
        reason="clients call",
    ),
    "rpc-breakers": Difference(
        what="`max_requests` and `max_retries` of a cluster's breakers, for generic_proxy",
        envoy="have no effect",
        ours="are HTTP's",
        reason="requests share connections here, so that counting those protects nobody",
    ),
    "rpc-proxy-figures": Difference(
        what="names of the statistics of dubbo_proxy and thrift_proxy",
        envoy="`dubbo.NAME.request`, `thrift.NAME.response_success` and others of their own",
        ours="generic_proxy's, below `dubbo.NAME.` and `thrift.NAME.`",
        reason="one engine, one vocabulary",
    ),
    "rpc-proxy-log": Difference(
        what="access logs of thrift_proxy",
        envoy="know sizes and hosts, and what was called as dynamic metadata",
        ours="are those of generic_proxy",
        reason="one engine, one vocabulary",
    ),
    "rpc-bad-text": Difference(
        what="a string of a Dubbo request in which a byte that should continue a character does not",
        envoy="is taken as it is",
        ours="closes the connection",
        reason="it is no UTF-8, and peers disagree about where it ends",
    ),
    "thrift-long-name": Difference(
        what="a Thrift name that is longer than its frame",
        envoy="waits for the rest of the name",
        ours="closes the connection",
        reason="the frame is whole; what follows is another one",
    ),
    "rpc-log-properties": Difference(
        what="`%RESPONSE_PROPERTY(X)%` of a Dubbo answer's attachments, and `%ROUTE_NAME%`, in access logs of generic_proxy",
        envoy="never there",
        ours="the attachment, the route's name",
        reason="that is what they are for",
    ),
}
