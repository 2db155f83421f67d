"""Mutants for test_access_log.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_the_default_format"

MUTANTS = [
    mutant(
        "times have another format by default",
        Fixed("data.observe.clock_format:DEFAULT_FORMAT", "'%s'"),
        "test_the_default_format",
        "test_times",
        spares="test_text_operators",
    ),
    mutant(
        "operators have no alternatives",
        Swap(
            "data.observe.header_operators:_header_factory.factory",
            "either(source(main), source(other))",
            "source(main)",
        ),
        "test_text_operators",
    ),
    mutant(
        "flags have no long names",
        Returns("data.observe.names:long_flag_names", "''"),
        "test_long_flags",
    ),
    mutant(
        "everything in JSON is text",
        Swap("data.observe.formatter:_compile_text", "len(node.format) == 1", "False"),
        "test_json_operators",
    ),
    mutant(
        "omit_empty_values has no effect",
        Ignored("spec.access_log:JsonFormat.omit_empty_values"),
        "test_empty_values_are_omitted",
    ),
    mutant(
        "times of a stream are not taken",
        Swap(
            "data.observe.operators:_between.get", "start is not None and stop is not None and stop >= start", "False"
        ),
        "test_times",
    ),
    mutant("filters have no effect", Ignored("spec.access_log:AccessLog.filter"), "test_log_filters"),
    mutant(
        "all parts of a filter must hold",
        Returns("data.observe.log_filter:_any_of", "_all_of(spec, environment)"),
        "test_log_filters",
    ),
    mutant(
        "one part of a filter must hold",
        Returns("data.observe.log_filter:_all_of", "_any_of(spec, environment)"),
        "test_log_filters",
    ),
    mutant(
        "flags of a filter have no effect",
        Ignored("spec.access_log:LogFilter.flags"),
        "test_log_filters",
        spares="test_times",
    ),
    mutant(
        "bytes of a TCP connection are not logged",
        Swap("data.proxy.tcp_proxy:TcpSession._log", "stream.bytes_received = self.wire.bytes_received", "pass"),
        "test_a_tcp_line",
    ),
    mutant(
        "a TCP connection is logged when it begins",
        Swap(
            "data.proxy.tcp_proxy:TcpSession.on_upstream_ready",
            "self._watch_idle()",
            "(self._watch_idle(), self._log())",
        ),
        "test_a_tcp_line",
    ),
    mutant(
        "listeners have no logs",
        Ignored("spec.listener:Listener.access_logs"),
        "test_the_listeners_log",
    ),
]
