"""The parser of substitution format strings (``%REQ(X?Y):Z%``, envoy's substitution_formatter).

Both halves need it: the agent refuses a format at load, the worker gets it parsed. What an operator means is the data
half's business (`mosn_xds.data.observe`), which operators exist is said here, for an unknown one must be refused at load.
"""

import re

from mosn_xds.base.errors import ConfigError
from mosn_xds.spec.common import Format, FormatOperator, FormatText

_TOKEN = re.compile(r"%(?:%|([A-Z][A-Z0-9_]*)(?:\(([^()]*(?:\([^()]*\)[^()]*)*)\))?(?::(\d+))?%)")


def parse_format(text: str, operators: frozenset[str]) -> Format:
    """Split `text` into literals and operators; ``%%`` is a percent sign.

    Raises `ConfigError` for a lone ``%`` and for an operator that is not in `operators`.
    """
    parts: list[FormatText | FormatOperator] = []
    literal = ""
    at = 0
    while at < len(text):
        percent = text.find("%", at)
        if percent < 0:
            literal += text[at:]
            break
        literal += text[at:percent]
        token = _TOKEN.match(text, percent)
        if token is None:
            raise ConfigError(
                f"Incorrect configuration: {text}. Couldn't find valid command at position {percent}",
                hint="a literal percent sign is written %%",
            )
        at = token.end()
        name = token.group(1)
        if name is None:
            literal += "%"
            continue
        if name not in operators:
            raise ConfigError(
                f"Not supported field in StreamInfo: {name}", hint="see the access log operators in docs/"
            )
        if literal:
            parts.append(FormatText(literal))
            literal = ""
        length = token.group(3)
        parts.append(FormatOperator(name, token.group(2), int(length) if length else None))
    if literal:
        parts.append(FormatText(literal))
    return tuple(parts)
