package org.mosnxds.peers;

import com.alipay.remoting.BizContext;
import com.alipay.remoting.rpc.RpcServer;
import com.alipay.remoting.rpc.protocol.SyncUserProcessor;

/** java BoltServer PORT NAME: SOFABolt serves calls of the Echo service. The first line on stdout says where it listens. */
public final class BoltServer {
    private BoltServer() {}

    public static void main(String[] arguments) throws Exception {
        System.setProperty("bolt.tp.min", "200"); // slow calls of a test run side by side
        int port = Integer.parseInt(arguments[0]);
        EchoService service = new EchoService(arguments[1]);
        RpcServer server = new RpcServer("127.0.0.1", port);
        server.registerUserProcessor(new Processor(service));
        server.startup();
        new Commands(System.out).say("listening", server.port(), "name", arguments[1]);
        System.in.readAllBytes(); // to its end: nobody is left who wants it
        Runtime.getRuntime().halt(0);
    }

    private static final class Processor extends SyncUserProcessor<Call> {
        private final EchoService service;

        Processor(EchoService service) {
            this.service = service;
        }

        @Override
        public Object handleRequest(BizContext context, Call call) throws Exception {
            Object[] given = call.arguments;
            return switch (call.method) {
                case "echo" -> service.echo((String) given[0]);
                case "who" -> service.who();
                case "slow" -> service.slow((Integer) given[0]);
                case "busy" -> service.busy();
                case "big" -> service.big((Integer) given[0]);
                case "nothing" -> service.nothing();
                case "fail" -> service.fail((String) given[0]);
                case "crash" -> service.crash((String) given[0]);
                case "note" -> service.note();
                case "noted" -> service.noted();
                default -> throw new NoSuchMethodException(call.method);
            };
        }

        @Override
        public String interest() {
            return Call.class.getName();
        }
    }
}
