"""The command line: parse, call a protocol, show the result."""
