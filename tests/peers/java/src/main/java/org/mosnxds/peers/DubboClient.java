package org.mosnxds.peers;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.RpcContext;
import org.apache.dubbo.rpc.service.GenericService;

/**
 * java DubboClient FLAVOUR HOST PORT: Apache Dubbo calls as stdin says. Flavours: dubbo (a proxy of the interface), generic
 * (generic invocations).
 */
public final class DubboClient {
    private static final Map<String, Object> REFERENCES = new ConcurrentHashMap<>();

    private DubboClient() {}

    public static void main(String[] arguments) throws Exception {
        boolean generic = arguments[0].equals("generic");
        // Dubbo dials another address of the machine where it reads 127.0.0.1; the hosts file holds a name for it.
        String address = arguments[1].replace("127.0.0.1", "loopback.peers") + ":" + arguments[2];
        DubboBootstrap.getInstance().application(DubboServer.application()).start();
        Commands commands = new Commands(System.out);
        commands.say("ready", arguments[0], "peer", "dubbo");
        commands.serve((command, given) -> call(command, given, generic, address));
    }

    private static Object call(JsonNode command, Object[] given, boolean generic, String address) throws Exception {
        String method = command.path("method").asText();
        Object target = reference(command, generic, address);
        command.path("properties").fields().forEachRemaining(
                one -> RpcContext.getClientAttachment().setAttachment(one.getKey(), one.getValue().asText()));
        Class<?>[] types = Arrays.stream(given)
                .map(value -> value instanceof Integer ? int.class : String.class)
                .toArray(Class<?>[]::new);
        if (command.path("oneway").asBoolean()) {
            RpcContext.getServiceContext().asyncCall(() -> {
                try {
                    invoke(target, method, types, given, generic);
                } catch (ReflectiveOperationException error) {
                    throw new IllegalStateException(error);
                }
            });
            return null;
        }
        return invoke(target, method, types, given, generic);
    }

    private static Object invoke(Object target, String method, Class<?>[] types, Object[] given, boolean generic)
            throws ReflectiveOperationException {
        if (generic) {
            String[] names = Arrays.stream(types).map(Class::getName).toArray(String[]::new);
            return ((GenericService) target).$invoke(method, names, given);
        }
        return Echo.class.getMethod(method, types).invoke(target, given);
    }

    private static Class<? extends Echo> interfaceOf(String service) {
        try {
            return Interfaces.of(service);
        } catch (Exception error) {
            throw new IllegalArgumentException(service, error);
        }
    }

    private static Object reference(JsonNode command, boolean generic, String address) {
        String service = command.path("service").asText(Echo.class.getName());
        String version = command.path("version").asText(Echo.VERSION);
        int timeoutMs = command.path("timeout_ms").asInt(3000);
        return REFERENCES.computeIfAbsent(service + ":" + version + ":" + command.path("group").asText() + ":" + timeoutMs, key -> {
            ReferenceConfig<Object> reference = new ReferenceConfig<>();
            reference.setInterface(service);
            if (generic) {
                reference.setGeneric("true");
            } else {
                reference.setInterface(interfaceOf(service));
            }
            reference.setVersion(version);
            reference.setTimeout(timeoutMs);
            reference.setRetries(0);
            if (command.has("group")) {
                reference.setGroup(command.get("group").asText());
            }
            reference.setCheck(false);
            reference.setUrl("dubbo://" + address + "/" + service + "?serialization=hessian2&payload=67108864"
                    + "&heartbeat=" + command.path("heartbeat_ms").asInt(60000));
            DubboBootstrap.getInstance().reference(reference);
            return reference.get();
        });
    }
}
