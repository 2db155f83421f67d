package org.mosnxds.peers;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import javassist.ClassPool;
import javassist.CtClass;

/** Dubbo asks for an interface per service: those beside Echo are made when they are wanted, in Echo's package. */
final class Interfaces {
    private Interfaces() {}

    @SuppressWarnings("unchecked")
    static synchronized Class<? extends Echo> of(String service) throws Exception {
        try {
            return (Class<? extends Echo>) Class.forName(service);
        } catch (ClassNotFoundException absent) {
            ClassPool pool = ClassPool.getDefault();
            CtClass made = pool.makeInterface(service, pool.get(Echo.class.getName()));
            return (Class<? extends Echo>) made.toClass(Echo.class);
        }
    }

    /** The service under another interface. */
    static <T extends Echo> T as(Class<T> wanted, Echo service) {
        Object made = Proxy.newProxyInstance(Echo.class.getClassLoader(), new Class<?>[] {wanted}, (self, method, given) -> {
            try {
                return method.invoke(service, given);
            } catch (InvocationTargetException raised) {
                throw raised.getCause();
            }
        });
        return wanted.cast(made);
    }
}
