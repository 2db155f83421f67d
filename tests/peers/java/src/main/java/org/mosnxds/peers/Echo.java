package org.mosnxds.peers;

import java.util.List;

/** The service that every peer offers, whatever its protocol: version 1.0, under several names. */
public interface Echo {
    String VERSION = "1.0";
    List<String> NAMES = List.of("org.mosnxds.peers.Echo", "org.mosnxds.peers.Hurried", "org.mosnxds.peers.First");

    String echo(String text);

    String who();

    String slow(int milliseconds);

    /** How many calls of `slow` are under way. */
    String busy();

    String big(int size);

    String nothing();

    String fail(String text);

    String crash(String text);

    String note();

    String noted();
}
