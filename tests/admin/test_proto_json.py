"""Messages as the admin pages print them."""

import base64

from google.protobuf import any_pb2, json_format

from mosn_xds.admin.proto_json import any_to_dict, dump, to_dict
from mosn_xds.xds.messages import message_class

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def parse(type_url: str, text: str):
    message = message_class(type_url)()
    return json_format.Parse(text, message)


def test_field_names_and_numbers_are_the_protos_own():
    cluster = parse(CLUSTER, '{"name": "a", "connectTimeout": "0.25s", "outlierDetection": {"consecutive5xx": 3}}')
    assert to_dict(cluster) == {"name": "a", "connect_timeout": "0.250s", "outlier_detection": {"consecutive_5xx": 3}}


def test_whole_doubles_print_as_integers():
    cluster = parse(CLUSTER, '{"commonLbConfig": {"healthyPanicThreshold": {"value": 50}}}')
    assert to_dict(cluster)["common_lb_config"]["healthy_panic_threshold"] == {"value": 50}
    assert b"50.0" not in dump(to_dict(cluster))


def test_an_any_that_nobody_knows_shows_its_bytes():
    unknown = any_pb2.Any(type_url="type.googleapis.com/no.such.Type", value=b"\x01\x02")
    shown = any_to_dict(unknown.type_url, unknown.value)
    assert shown == {"@type": "type.googleapis.com/no.such.Type", "value": base64.b64encode(b"\x01\x02").decode()}


def test_private_keys_never_show():
    secret = parse(
        SECRET,
        '{"name": "s", "tlsCertificate": {"privateKey": {"inlineString": "TOPSECRET"}, "password": {"inlineBytes": "VE9Q"},'
        ' "certificateChain": {"inlineString": "CHAIN"}}}',
    )
    page = dump(to_dict(secret))
    assert b"TOPSECRET" not in page
    assert b"VE9Q" not in page
    assert b"CHAIN" in page
    assert to_dict(secret)["tls_certificate"]["private_key"] == {"inline_string": "[redacted]"}
