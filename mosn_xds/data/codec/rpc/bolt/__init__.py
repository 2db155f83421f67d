"""SOFARPC Bolt, versions 1 and 2."""
