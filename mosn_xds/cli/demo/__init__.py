"""`mosn-xds demo`: the main job on embedded defaults, with real processes, real sockets and real traffic."""
