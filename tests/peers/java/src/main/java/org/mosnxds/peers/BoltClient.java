package org.mosnxds.peers;

import com.alipay.remoting.CustomSerializerManager;
import com.alipay.remoting.rpc.RpcClient;
import com.fasterxml.jackson.databind.JsonNode;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * java BoltClient FLAVOUR HOST PORT: SOFABolt calls as stdin says. Flavours: bolt (v1), bolt2 (version 1: Java sets the
 * switch, and sends no CRC), bolt2-crc (version 2).
 */
public final class BoltClient {
    private BoltClient() {}

    public static void main(String[] arguments) throws Exception {
        String flavour = arguments[0];
        String url = arguments[1] + ":" + arguments[2] + switch (flavour) {
            case "bolt" -> "";
            case "bolt2" -> "?_PROTOCOL=2";
            case "bolt2-crc" -> "?_PROTOCOL=2&_VERSION=2";
            default -> throw new IllegalArgumentException(flavour);
        };
        CustomSerializerManager.registerCustomSerializer(Call.class.getName(), new Call.Serializer());
        RpcClient client = new RpcClient();
        client.startup();
        Commands commands = new Commands(System.out);
        commands.say("ready", flavour, "peer", "sofa-bolt");
        commands.serve((command, given) -> {
            Call call = new Call(command.path("method").asText(), given, headers(command));
            if (command.path("oneway").asBoolean()) {
                client.oneway(url, call);
                return null;
            }
            return client.invokeSync(url, call, command.path("timeout_ms").asInt(3000));
        });
        client.shutdown();
    }

    private static Map<String, String> headers(JsonNode command) {
        Map<String, String> headers = new LinkedHashMap<>();
        String service = command.path("service").asText(Echo.class.getName());
        headers.put("service", service + ":" + command.path("version").asText(Echo.VERSION));
        headers.put("sofa_head_method_name", command.path("method").asText());
        command.path("properties").fields().forEachRemaining(one -> headers.put(one.getKey(), one.getValue().asText()));
        return headers;
    }
}
