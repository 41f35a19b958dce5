"""Compiles specs into readable implementations, one file per API and target."""

VERSION = "0.1.0"
