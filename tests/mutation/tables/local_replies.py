"""Mutants for test_local_replies.py."""

from tests.mutation.mutant import Fixed, Ignored, Swap, mutant

CANARY = "test_an_upstreams_answer_is_not_mapped"

_REPLY = "data.proxy.http_stream:HttpStream.reply"
_WRITE_HEAD = "data.codec.http1.response_writer:ResponseWriter.send_head"
_CODEC_EOF = "data.codec.http1.client:Http1ClientCodec.receive_eof"

MUTANTS = [
    mutant("NR is not set", Fixed("data.proxy.http_stream:_NR", "0"), "test_no_route"),
    mutant("NC is not set", Fixed("data.proxy.router:_NC", "0"), "test_no_cluster"),
    mutant("UH is not set", Fixed("data.proxy.router:_UH", "0"), "test_no_healthy_upstream"),
    mutant("UT is not set", Fixed("data.proxy.router:_UT", "0"), "test_timeout"),
    mutant(
        "remote failures are taken for local ones",
        Swap(
            "data.upstream.connect_failure:connect_failure",
            "ResetReason.REMOTE_CONNECTION_FAILURE",
            "ResetReason.LOCAL_CONNECTION_FAILURE",
        ),
        "test_connection_refused",
        "test_local_replies_to_grpc",
        "test_a_mapped_body",
    ),
    mutant(
        "an end before an answer breaks the protocol",
        Swap(_CODEC_EOF, "ResetReason.CONNECTION_TERMINATION", "ResetReason.PROTOCOL_ERROR"),
        "test_closed_before_an_answer",
    ),
    mutant(
        "a reset before an answer breaks the protocol",
        Swap(
            "data.upstream.connection:PooledConnection.on_closed",
            "ResetReason.CONNECTION_TERMINATION",
            "ResetReason.PROTOCOL_ERROR",
        ),
        "test_reset_before_an_answer",
    ),
    mutant(
        "an end within a head is an end before it",
        Swap(_CODEC_EOF, "self._started", "False"),
        "test_closed_within_a_head",
    ),
    mutant(
        "a broken response is a broken connection",
        Swap(
            "data.upstream.http1:Http1Connection._deliver",
            "ResetReason.PROTOCOL_ERROR",
            "ResetReason.CONNECTION_TERMINATION",
        ),
        "test_an_answer_that_is_no_http",
        "test_closed_within_a_head",
    ),
    mutant(
        "HEAD gets a body",
        (
            Swap(_REPLY, "self.request.method == b'HEAD'", "False"),
            Swap(_WRITE_HEAD, "self._head_only", "False"),
        ),
        "test_a_local_reply_to_head",
    ),
    mutant(
        "an early response does not end its connection",
        (
            Swap("data.proxy.http1_connection:Http1Connection._must_close", "not stream.request_complete", "False"),
            Swap(_WRITE_HEAD, "self._request_open", "False"),
        ),
        "test_a_local_reply_before_the_body",
    ),
    mutant(
        "local replies close their connection",
        Swap(_REPLY, "self.local_reply_body = reply.body", "self.connection_closing = True"),
        "test_a_local_reply_keeps_the_connection",
        "test_a_local_reply_to_head",
    ),
    mutant(
        "gRPC is answered as others are",
        Swap("data.proxy.local_reply:reply_head", "grpc", "False"),
        "test_local_replies_to_grpc",
    ),
    mutant(
        "status_code of a mapper has no effect",
        Ignored("spec.listener:LocalReplyMapper.status"),
        "test_a_mapped_status",
    ),
    mutant(
        "body_format_override of a mapper has no effect",
        Ignored("spec.listener:LocalReplyMapper.body_format"),
        "test_a_mapped_body",
    ),
    mutant(
        "body_format has no effect",
        Ignored("spec.listener:HttpConnectionManager.local_reply_format"),
        "test_the_general_format",
        "test_a_mapped_status",
    ),
    mutant(
        "answers of upstreams are mapped, too",
        Swap(
            "data.proxy.router:Router.on_response_head", "stream.respond(head, end)", "stream.reply(Reply(head.status))"
        ),
        "test_an_upstreams_answer_is_not_mapped",
        spares="test_the_general_format",
    ),
]
