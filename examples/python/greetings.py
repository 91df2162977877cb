"""One greeting for each name."""

import sys


def greeting(name):
    return f"Hello, {name.strip() or 'world'}!"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(greeting(name))
