package org.mosnxds.peers;

import java.util.concurrent.atomic.AtomicInteger;

/** The methods of an instance that calls itself by a name. */
public final class EchoService implements Echo {
    private final String name;
    private final AtomicInteger notes = new AtomicInteger();
    private final AtomicInteger sleeping = new AtomicInteger();

    public EchoService(String name) {
        this.name = name;
    }

    @Override
    public String echo(String text) {
        return text;
    }

    @Override
    public String who() {
        return name;
    }

    @Override
    public String slow(int milliseconds) {
        sleeping.incrementAndGet();
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        } finally {
            sleeping.decrementAndGet();
        }
        return name;
    }

    @Override
    public String busy() {
        return String.valueOf(sleeping.get());
    }

    @Override
    public String big(int size) {
        return "x".repeat(size);
    }

    @Override
    public String nothing() {
        return null;
    }

    @Override
    public String fail(String text) {
        throw new IllegalStateException(text);
    }

    @Override
    public String crash(String text) {
        throw new IllegalArgumentException(text);
    }

    @Override
    public String note() {
        return String.valueOf(notes.incrementAndGet());
    }

    @Override
    public String noted() {
        return String.valueOf(notes.get());
    }
}
