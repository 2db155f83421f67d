package org.mosnxds.peers;

import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;

/** java DubboServer PORT NAME: Apache Dubbo serves the Echo service, dubbo protocol. Its first line says where. */
public final class DubboServer {
    private DubboServer() {}

    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        ProtocolConfig protocol = new ProtocolConfig("dubbo", port);
        protocol.setHost("127.0.0.1");
        protocol.setSerialization("hessian2");
        protocol.setPayload(64 * 1024 * 1024);
        DubboBootstrap bootstrap = DubboBootstrap.getInstance()
                .application(application())
                .registry(new RegistryConfig("N/A"))
                .protocol(protocol);
        EchoService echo = new EchoService(arguments[1]);
        for (String name : Echo.NAMES) {
            bootstrap.service(exported(Interfaces.of(name), echo));
        }
        bootstrap.start();
        new Commands(System.out).say("listening", port, "name", arguments[1]);
        System.in.readAllBytes(); // to its end: nobody is left who wants it
        Runtime.getRuntime().halt(0);
    }

    private static <T extends Echo> ServiceConfig<T> exported(Class<T> wanted, Echo echo) {
        ServiceConfig<T> service = new ServiceConfig<>();
        service.setInterface(wanted);
        service.setVersion(Echo.VERSION);
        service.setRef(Interfaces.as(wanted, echo));
        return service;
    }

    static ApplicationConfig application() {
        ApplicationConfig application = new ApplicationConfig("peers");
        application.setQosEnable(false);
        application.setSerializeCheckStatus("WARN");
        return application;
    }
}
