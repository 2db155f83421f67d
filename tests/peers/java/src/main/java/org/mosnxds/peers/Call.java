package org.mosnxds.peers;

import com.alipay.remoting.InvokeContext;
import com.alipay.remoting.CustomSerializer;
import com.alipay.remoting.DefaultCustomSerializer;
import com.alipay.remoting.exception.SerializationException;
import com.alipay.remoting.rpc.RequestCommand;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.Serializable;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/** A request in SOFABolt's own way: an object, serialized by hessian, with the header that SOFARPC would send. */
public final class Call implements Serializable {
    private static final long serialVersionUID = 1L;
    public final String method;
    public final Object[] arguments;
    final transient Map<String, String> headers;

    public Call(String method, Object[] arguments, Map<String, String> headers) {
        this.method = method;
        this.arguments = arguments;
        this.headers = headers;
    }

    /** Writes the headers as SOFARPC's SimpleMapSerializer does: lengths of four bytes, UTF-8. */
    static final class Serializer extends DefaultCustomSerializer implements CustomSerializer {
        @Override
        public <T extends RequestCommand> boolean serializeHeader(T request, InvokeContext context)
                throws SerializationException {
            Call call = (Call) ((com.alipay.remoting.rpc.protocol.RpcRequestCommand) request).getRequestObject();
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            try (DataOutputStream out = new DataOutputStream(bytes)) {
                for (Map.Entry<String, String> pair : call.headers.entrySet()) {
                    for (String text : new String[] {pair.getKey(), pair.getValue()}) {
                        byte[] encoded = text.getBytes(StandardCharsets.UTF_8);
                        out.writeInt(encoded.length);
                        out.write(encoded);
                    }
                }
            } catch (IOException impossible) {
                throw new SerializationException("headers", impossible);
            }
            request.setHeader(bytes.toByteArray());
            return true;
        }
    }
}
