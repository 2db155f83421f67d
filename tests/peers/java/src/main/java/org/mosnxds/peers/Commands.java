package org.mosnxds.peers;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Reads commands from stdin, a JSON object per line, serves them side by side, and answers each with a line: what
 * tests/peers/node/client.js says.
 */
final class Commands {
    /** One call as a command describes it. */
    interface Caller {
        Object call(JsonNode command, Object[] arguments) throws Exception;
    }

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int KEPT_VALUES = 20;
    private final PrintStream out;

    Commands(PrintStream out) {
        this.out = out;
    }

    void say(String key, Object value, String otherKey, Object otherValue) throws Exception {
        out.println(JSON.writeValueAsString(Map.of(key, value, otherKey, otherValue)));
        out.flush();
    }

    void serve(Caller caller) throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        ExecutorService workers = Executors.newCachedThreadPool(task -> {
            Thread thread = new Thread(task);
            thread.setDaemon(true);
            return thread;
        });
        String line;
        while ((line = input.readLine()) != null) {
            JsonNode command = JSON.readTree(line);
            workers.submit(() -> {
                String report = run(caller, command, workers);
                synchronized (out) {
                    out.println(report);
                    out.flush();
                }
                return null;
            });
        }
    }

    private static String run(Caller caller, JsonNode command, ExecutorService workers) throws Exception {
        int times = command.path("times").asInt(1);
        int concurrency = Math.min(command.path("concurrency").asInt(1), times);
        AtomicInteger next = new AtomicInteger();
        Tally tally = new Tally();
        long start = System.nanoTime();
        java.util.List<java.util.concurrent.Future<?>> running = new java.util.ArrayList<>();
        for (int worker = 0; worker < concurrency; worker++) {
            running.add(workers.submit(() -> {
                int index;
                while ((index = next.getAndIncrement()) < times) {
                    one(caller, command, index, tally);
                }
            }));
        }
        for (java.util.concurrent.Future<?> one : running) {
            one.get();
        }
        ObjectNode report = tally.report();
        report.put("id", command.path("id").asInt());
        report.put("elapsed_ms", (System.nanoTime() - start) / 1_000_000);
        return JSON.writeValueAsString(report);
    }

    private static void one(Caller caller, JsonNode command, int index, Tally tally) {
        boolean sized = command.has("size");
        Object[] arguments = sized ? new Object[] {text(index, command.get("size").asInt())} : arguments(command);
        try {
            Object value = caller.call(command, arguments);
            if (!sized) {
                tally.value(value);
            } else {
                tally.compared(arguments[0].equals(value));
            }
        } catch (Exception error) {
            Throwable cause = error;
            while (cause.getCause() != null && cause instanceof java.lang.reflect.InvocationTargetException) {
                cause = cause.getCause();
            }
            tally.error(cause);
        }
    }

    private static Object[] arguments(JsonNode command) {
        java.util.List<Object> found = new java.util.ArrayList<>();
        for (JsonNode value : command.path("args")) {
            found.add(value.isInt() ? (Object) value.asInt() : value.asText());
        }
        return found.toArray();
    }

    private static String text(int index, int size) {
        String mark = index + ":";
        return mark + "y".repeat(Math.max(0, size - mark.length()));
    }

    /** What the calls of one command came to. */
    private static final class Tally {
        private int ok;
        private int wrong;
        private final Map<String, Integer> values = new TreeMap<>();
        private final Map<String, Integer> errors = new TreeMap<>();

        synchronized void value(Object value) {
            ok++;
            String shown = String.valueOf(value);
            count(values, shown.length() > 200 ? shown.length() + " characters" : shown);
        }

        synchronized void compared(boolean equal) {
            if (equal) {
                ok++;
            } else {
                wrong++;
            }
        }

        synchronized void error(Throwable error) {
            StringBuilder shown = new StringBuilder(error.getClass().getSimpleName() + ": " + error.getMessage());
            if (error.getCause() != null) {
                shown.append(" <- ").append(error.getCause());
            }
            count(errors, shown.toString());
        }

        private static void count(Map<String, Integer> table, String key) {
            if (table.containsKey(key) || table.size() < KEPT_VALUES) {
                table.merge(key, 1, Integer::sum);
            }
        }

        synchronized ObjectNode report() {
            ObjectNode report = JSON.createObjectNode();
            report.put("ok", ok);
            report.put("wrong", wrong);
            report.set("values", JSON.valueToTree(values));
            report.set("errors", JSON.valueToTree(errors));
            return report;
        }
    }
}
