"""The command line: parse, build a configuration, call one workflow; torch is never loaded on the way."""
