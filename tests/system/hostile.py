"""Repositories that mean harm, after git's own tests of such: what each is called, and how it is made.

Each tries to leave a mark (a file of that name anywhere on the host, or a word in the build's log) or to bring in what is not its own.
"""

import os
import subprocess

MARK = "hostile-repository-was-here"
RUN = f"sh -c 'touch /tmp/{MARK} /var/tmp/{MARK} /dev/shm/{MARK}'"


def objects(repository, kind, content):
    """An object that git itself would not make."""
    command = ["git", "hash-object", "-t", kind, "-w", "--stdin", "--literally"]
    done = subprocess.run(command, cwd=repository.bare, input=content, stdout=subprocess.PIPE, check=True, env=os.environ | {"HOME": "/nonexistent"})
    return done.stdout.decode().strip()


def entry(mode, name, oid):
    return f"{mode} ".encode() + name + b"\0" + bytes.fromhex(oid)


def crafted(repository, *entries):
    """A `main` whose tree has these entries as they are: (mode, name, content or tree's entries)."""

    def tree(entries):
        made = b""
        for mode, name, content in entries:
            if mode == "160000":
                oid = content
            elif isinstance(content, list):
                oid = tree(content)
            else:
                oid = objects(repository, "blob", content)
            made += entry(mode, name, oid)
        return objects(repository, "tree", made)

    commit = f"tree {tree(entries)}\nauthor t <t@t.example> 1700000000 +0000\ncommitter t <t@t.example> 1700000000 +0000\n\nhostile\n"
    repository.git("update-ref", "refs/heads/main", objects(repository, "commit", commit.encode()), cwd=repository.bare)


def submodule(url, path="sub", name="sub", more=""):
    """A submodule whose repository is said to be there."""
    quoted = url.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    modules = f'[submodule "{name}"]\n\tpath = "{path}"\n\turl = "{quoted}"\n{more}'.encode()
    return lambda repository: crafted(
        repository, ("100644", b".gitmodules", modules), ("100644", b"file.txt", b"fine\n"), ("160000", path.encode(), "1" * 40)
    )


def attributes(text, *settings):
    """Attributes that ask for a program."""

    def make(repository):
        repository.commit(file_txt="fine\n")
        (repository.work / ".gitattributes").write_text(text)
        (repository.work / ".gitconfig").write_text("".join(settings))
        (repository.work / ".lfsconfig").write_text("[lfs]\n\turl = https://127.0.0.1:1/lfs\n")
        repository.commit(file_txt="fine\n")

    return make


def link_and_below(repository):
    """A link into `.git`, and a file that would be written through it."""
    crafted(
        repository,
        ("120000", b"a", b".git/hooks"),
        ("40000", b"a", [("100755", b"post-checkout", f"#!/bin/sh\n{RUN}\n".encode())]),
        ("100644", b"file.txt", b"fine\n"),
    )


def links_out(repository):
    """Links that lead out are kept as links, and nothing is written through them."""
    crafted(repository, ("120000", b"absolute", b"/etc/passwd"), ("120000", b"climbing", b"../../../../../../etc"), ("100644", b"file.txt", b"fine\n"))


def bomb(repository):
    """A tree of trees that stands for ten billion files."""
    level = entry("100644", b"f", objects(repository, "blob", b"x"))
    for _ in range(10):
        oid = objects(repository, "tree", level)
        level = b"".join(entry("40000", f"{number}".encode(), oid) for number in range(10))
    commit = f"tree {objects(repository, 'tree', level)}\nauthor t <t@t.example> 1700000000 +0000\ncommitter t <t@t.example> 1700000000 +0000\n\nb\n"
    repository.git("update-ref", "refs/heads/main", objects(repository, "commit", commit.encode()), cwd=repository.bare)


def hooks(repository):
    """Hooks, settings and alternates of the server's side stay there."""
    repository.commit(file_txt="fine\n")
    for hook in ("post-checkout", "post-update", "reference-transaction"):
        path = repository.bare / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {MARK}\n")
        path.chmod(0o755)
    repository.git("config", "core.fsmonitor", RUN, cwd=repository.bare)
    repository.git("config", "core.sshCommand", RUN, cwd=repository.bare)


def strange_references(repository):
    repository.commit(file_txt="fine\n")
    commit = repository.git("rev-parse", "refs/heads/main", cwd=repository.bare)
    refs = "".join(f"{commit} refs/heads/{name}\n" for name in ("--upload-pack=touch", "-oProxyCommand=id", "@", "a'b", 'a"b', "$(id)", "`id`", "a;b"))
    packed = repository.bare / "packed-refs"
    packed.write_text("# pack-refs with: peeled fully-peeled sorted\n" + "".join(sorted(refs.splitlines(True), key=lambda line: line[41:])))


def many_references(repository):
    repository.commit(file_txt="fine\n")
    commit = repository.git("rev-parse", "refs/heads/main", cwd=repository.bare)
    lines = sorted(f"{commit} refs/strange/{number:06}\n" for number in range(100_000))
    (repository.bare / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted\n" + "".join(lines))


def replaced(repository):
    """A replacement of the commit, which only a git that looks for such would check out."""
    good = repository.commit(file_txt="fine\n")
    bad = repository.commit(branch="other", file_txt=f"{MARK}\n")
    repository.git("update-ref", f"refs/replace/{good}", bad, cwd=repository.bare)
    repository.git("update-ref", "-d", "refs/heads/other", cwd=repository.bare)


def bad_file(name, mode="100644", content=b"x\n"):
    return lambda repository: crafted(repository, *sorted([(mode, name, content), ("100644", b"file.txt", b"fine\n")], key=lambda one: one[1]))


def bad_folder(name):
    inside = [("100644", b"config", f"[core]\n\tfsmonitor = {RUN}\n".encode())]
    return lambda repository: crafted(repository, *sorted([("40000", name, inside), ("100644", b"file.txt", b"fine\n")], key=lambda one: one[1]))


# Name: (how it is made, whether its submodules are wanted, whether the build may go on with what is harmless in it).
REPOSITORIES = {
    "a submodule's URL is an option": (submodule("-u./payload"), True, False),
    "a submodule's URL is a long option": (submodule(f"--upload-pack={RUN}"), True, False),
    "a submodule's URL runs a program": (submodule(f"ext::{RUN}"), True, False),
    "a submodule's URL is a file": (submodule("file:///etc"), True, False),
    "a submodule's URL is a path": (submodule("/etc"), True, False),
    "a submodule's URL is ssh with an option": (submodule(f"ssh://-oProxyCommand={RUN}/x"), True, False),
    "a submodule's URL is short ssh with an option": (submodule("-oProxyCommand=id:x"), True, False),
    "a submodule's URL has a line's end": (submodule("https://localhost/a\nb"), True, False),
    "a submodule's URL has an encoded line's end": (submodule("https://localhost/%0ahost=evil/x"), True, False),
    "a submodule's URL leads above its host": (submodule("../../../../../../../x"), True, False),
    "a submodule's URL is a helper": (submodule("fd::17/foo"), True, False),
    "a submodule's URL is git's own protocol": (submodule("git://127.0.0.1:1/x"), True, False),
    "a submodule's URL has a password": (submodule("https://user:password@localhost/x"), True, False),
    "a submodule is named to leave": (submodule("https://localhost:1/x", name="../../../tmp/x"), True, False),
    "a submodule's path ends with a carriage return": (submodule("https://localhost:1/x", path="sub\r"), True, False),
    "a submodule's update is a program": (submodule("https://localhost:1/x", more=f"\tupdate = !{RUN}\n"), True, False),
    ".gitmodules is a link": (bad_file(b".gitmodules", "120000", b"/etc/passwd"), True, False),
    "a folder is called .git": (bad_folder(b".git"), False, False),
    "a folder is called .GIT": (bad_folder(b".GIT"), False, False),
    "a folder is .git to another file system": (bad_folder(b"git~1"), False, False),
    "a folder is .git with letters nobody sees": (bad_folder(".g\u200cit".encode()), False, False),
    "a file climbs": (bad_file(b"../escaped"), False, False),
    "a folder is two dots": (bad_folder(b".."), False, False),
    "a file's name has a slash": (bad_file(b".git/hooks/post-checkout", "100755", f"#!/bin/sh\n{RUN}\n".encode()), False, False),
    "a link and a folder have one name": (link_and_below, False, False),
    "links lead out": (links_out, False, True),
    "filters want programs": (attributes("*.txt filter=evil\n", f"[filter \"evil\"]\n\tsmudge = {RUN}\n"), False, True),
    "large files are elsewhere": (attributes("*.txt filter=lfs diff=lfs merge=lfs -text\n"), False, True),
    "a tree is a bomb": (bomb, False, False),
    "the server has hooks and settings": (hooks, False, True),
    "references look like options": (strange_references, False, True),
    "there are a hundred thousand references": (many_references, False, True),
    "a commit is replaced": (replaced, False, True),
}
