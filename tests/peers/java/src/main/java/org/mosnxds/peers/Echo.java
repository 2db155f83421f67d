package org.mosnxds.peers;

/** The service that every peer offers, whatever its protocol: version 1.0. */
public interface Echo {
    String VERSION = "1.0";

    String echo(String text);

    String who();

    String slow(int milliseconds);

    String big(int size);

    String nothing();

    String fail(String text);

    String crash(String text);

    String note();

    String noted();
}
