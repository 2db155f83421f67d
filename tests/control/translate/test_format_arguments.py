"""What the agent accepts, the worker can build: every operator with every kind of argument, through both halves.

A format that passed here and failed there would be a refusal by a worker, which is a defect.
"""

import random

import pytest

from mosn_xds.base.clock import SystemClock
from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate.format_arguments import check_operator
from mosn_xds.data.observe.getters import FormatEnvironment
from mosn_xds.data.observe.operators import compile_operator
from mosn_xds.spec.common import FormatOperator
from mosn_xds.spec.format import INERT_OPERATORS, OPERATORS

ARGUMENTS = (None, "", "x", "X-A?:PATH", "a?b?c", "a:b", "NQ", "NQ:ORIG", "WQ:NOPE", "ORIG", "DECODED", "SNI_FIRST:HOST",
             "24", "-1", "NUMBER", "%Y-%m", "DS_RX_BEG:DS_TX_END", "DS_RX_BEG:DS_TX_END:us", "a:b:parsecs", "a b")  # fmt: skip
ENVIRONMENT = FormatEnvironment(SystemClock(), random.Random(1), "host")


@pytest.mark.parametrize("name", sorted(OPERATORS | INERT_OPERATORS))
def test_an_accepted_operator_compiles(name: str) -> None:
    accepted = 0
    for argument in ARGUMENTS:
        for length in (None, 5):
            operator = FormatOperator(name, argument, length)
            try:
                check_operator(operator)
            except ConfigError:
                continue
            compile_operator(operator, ENVIRONMENT)
            accepted += 1
    assert accepted, "no argument of ours is any good"
