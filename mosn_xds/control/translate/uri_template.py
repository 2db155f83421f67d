"""URI templates (envoy.extensions.path.match.uri_template.v3) as regular expressions.

``*`` is one path segment, not empty; ``**`` any rest of the path; ``{name}`` and ``{name=pattern}`` are segments with a
name, which nobody asks for here. Everything else stands for itself.
"""

import re

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.common import StringMatch, StringMatchKind
from mosn_xds.xds.messages import short_type, unpack

_TYPE = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
_PCHAR = "a-zA-Z0-9\\-._~%!$&'()+,;:@="
"""RFC 3986 pchar without the star, as a class of characters: what a template may say literally."""
_TOKEN = re.compile(rf"\*\*|\*|[{_PCHAR}/]+|\{{[a-zA-Z][a-zA-Z0-9_]*(?:=([{_PCHAR}/*]+))?\}}")


def take_uri_template(take: Take, context: Context, field: str) -> StringMatch | None:
    """The template in the TypedExtensionConfig `field` of `take`, to be asked with a path without its query; None if it is
    another kind of matcher. Raises ConfigError for a template that is none."""
    extension = take.child(field)
    config = None if extension is None else extension.message_of("typed_config")
    if extension is None or config is None or short_type(config.type_url) != _TYPE:
        return None
    extension.skip("name")
    opened = context.open(unpack(config), config.value, take.report, extension, "typed_config")
    template = opened.text("path_template")
    pattern = template_regex(template)
    if pattern is None:
        raise opened.error("path_template", f"'{template}' is no URI template")
    return StringMatch(StringMatchKind.REGEX, context.check_regex(opened, "path_template", pattern))


def template_regex(template: str) -> str | None:
    """RE2 for the whole path; None for what is no template."""
    if not template.startswith("/") or "//" in template:
        return None
    found, at = [], 0
    while at < len(template):
        token = _TOKEN.match(template, at)
        if token is None:
            return None
        found.append(_token_regex(token))
        at = token.end()
    return "".join(found)


def _token_regex(token: "re.Match[str]") -> str:
    text = token[0]
    if text.startswith("{"):
        inner = token[1] or "*"
        return "".join(_token_regex(part) for part in _TOKEN.finditer(inner))
    return {"*": f"[{_PCHAR}*]+", "**": f"[{_PCHAR}*/]*"}.get(text) or re.escape(text)
