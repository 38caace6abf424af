"""Names of environment variables that the command line sets and a room far below reads."""

FEATURES, FEATURES_LIMIT = "CLIPTUNE_FEATURES", "CLIPTUNE_FEATURES_LIMIT"
OFF = "off"
"""Value of FEATURES by which nothing is looked up or stored."""
