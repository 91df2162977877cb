"""Runs Prowler as it is published, but for the clients of other clouds: it imports all of them, whichever is looked at,
and here they are empty."""

import importlib.abc
import importlib.machinery
import sys
import types

OTHERS = ("alibabacloud", "google", "kingfisher", "kubernetes", "stackit")


class Empty(type):
    """A class that has whatever class is asked of it."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Empty(name, (Exception,), {})


class EmptyModule(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name):
        return getattr(Empty("empty", (), {}), name)


class Others(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        del path, target
        top = name.partition(".")[0]
        if any(top == other or top.startswith(f"{other}_") for other in OTHERS):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return EmptyModule(spec.name)

    def exec_module(self, module):
        pass


if __name__ == "__main__":
    # This file bears the package's name.
    sys.path.pop(0)
    sys.meta_path.append(Others())
    from prowler.__main__ import prowler

    sys.exit(prowler())
