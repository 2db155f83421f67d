"""Mutants for test_retries.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_no_retry_within_an_answer"

_POLICY = "spec.route:RetryPolicy"
_HOST = "spec.route:VirtualHost"
_RETRY = "data.upstream.retry"

MUTANTS = [
    mutant(
        "retry_policy has no effect",
        Ignored("spec.route:RouteAction.retry"),
        "test_retry_on_an_answer",
        "test_retry_on_a_grpc_status",
        "test_retry_on_a_reset",
        "test_retry_on_a_connect_failure",
        "test_the_number_of_retries",
        "test_the_virtual_hosts_policy",
        "test_only_requests_that_ask_for_it_are_retried",
        "test_retries_back_off",
        "test_the_upstream_says_when_to_retry",
        "test_a_retry_avoids_the_host_that_failed",
        "test_the_body_is_sent_again",
        "test_a_chunked_body_is_sent_again",
        "test_a_large_body_is_not_sent_again",
        "test_the_retry_breaker",
        "test_attempts_are_counted",
    ),
    mutant(
        "every answer is one to retry after",
        Returns(f"{_RETRY}:RetryRules.wants_response", "True"),
        "test_retry_on_an_answer",
        "test_retry_on_a_grpc_status",
        spares="test_retry_on_a_connect_failure",
    ),
    mutant(
        "gRPC statuses have no effect",
        Fixed(f"{_RETRY}:_GRPC_STATUSES", "{}"),
        "test_retry_on_a_grpc_status",
        "test_an_internal_client_names_what_is_retriable",
    ),
    mutant(
        "every reset is one to retry after",
        Returns(f"{_RETRY}:RetryState._wants_reset", "True"),
        "test_retry_on_a_reset",
        "test_retry_on_a_connect_failure",
    ),
    mutant(
        "the virtual host's policy has no effect",
        Ignored(f"{_HOST}.retry"),
        "test_the_virtual_hosts_policy",
    ),
    mutant("num_retries has no effect", Ignored(f"{_POLICY}.num_retries"), "test_the_number_of_retries"),
    mutant(
        "retriable_request_headers have no effect",
        Ignored(f"{_POLICY}.retriable_request_headers"),
        "test_only_requests_that_ask_for_it_are_retried",
    ),
    mutant(
        "clients cannot ask for retries",
        Returns(f"{_RETRY}:RetryRules.merged", "self"),
        "test_an_internal_client_asks_for_retries",
        "test_an_internal_client_names_what_is_retriable",
    ),
    mutant(
        "external clients can ask for retries",
        Fixed("data.proxy.request_headers:EXTERNAL_FORBIDDEN", "frozenset()"),
        "test_an_external_client_cannot_ask_for_retries",
    ),
    mutant(
        "nobody waits before a retry",
        Returns(f"{_RETRY}:RetryState.back_off_s", "0.0"),
        "test_retries_back_off",
        "test_the_upstream_says_when_to_retry",
    ),
    mutant(
        "rate_limited_retry_back_off has no effect",
        Ignored(f"{_POLICY}.rate_limited_back_off"),
        "test_the_upstream_says_when_to_retry",
    ),
    mutant(
        "previous_hosts has no effect",
        Ignored(f"{_POLICY}.previous_hosts"),
        "test_a_retry_avoids_the_host_that_failed",
    ),
    mutant(
        "retries have no body",
        Swap("data.proxy.router:Router._try", "list(self._kept.parts) if self._kept is not None else None", "None"),
        "test_the_body_is_sent_again",
        "test_a_chunked_body_is_sent_again",
    ),
    mutant(
        "per_connection_buffer_limit_bytes has no effect",
        Ignored("spec.listener:Listener.buffer_limit_bytes"),
        "test_a_large_body_is_not_sent_again",
    ),
    mutant(
        "an answer that has begun does not count",
        (
            Swap("data.proxy.router:Router.on_response_head", "self._forget_retries()", "None"),
            Swap("data.proxy.router:Router.on_reset", "self._responding", "False"),
        ),
        "test_no_retry_within_an_answer",
        spares="test_the_number_of_retries",
    ),
    mutant(
        "max_retries has no effect",
        Ignored("spec.cluster:Breakers.max_retries"),
        "test_the_retry_breaker",
    ),
    mutant(
        "include_request_attempt_count has no effect",
        Ignored(f"{_HOST}.include_attempt_count"),
        "test_attempts_are_counted",
    ),
    mutant(
        "include_attempt_count_in_response has no effect",
        Ignored(f"{_HOST}.include_attempt_count_in_response"),
        "test_attempts_are_counted",
    ),
]
