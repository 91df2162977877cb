#!/usr/bin/env python3
"""Greets whoever is named on the command line; for hosts without a C compiler."""

import sys

if len(sys.argv) != 2:
    sys.exit("usage: messageUtil NAME")
print(f"Hi!{sys.argv[1]}")
