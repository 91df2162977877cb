"""Builds of an ordinary user for whom the host has set ids apart (`/etc/subuid`): many users inside, and nothing in the way of removal."""

import os
import subprocess

import pytest

from local import files, spec
from oci import busybox_root, layout_of

FIRST = 1_000_000
ADA = f"""
set -e
mount -t tmpfs tmpfs /mnt
(cat /etc/passwd; echo ada:x:{{user}}:{{user}}::/:/bin/sh) >/mnt/passwd
echo ada:{FIRST}:65536 | tee /mnt/subuid >/mnt/subgid
for file in passwd subuid subgid; do mount --bind /mnt/$file /etc/$file; done
exec "$@"
"""


@pytest.fixture
def project(ordinary_project):
    """Its owner has ids, as far as the processes of the project see."""
    script = ADA.format(user=ordinary_project.user)
    ordinary_project.surroundings = ["unshare", "--mount", "sh", "-c", script, "sh"]
    yield ordinary_project
    assert others(ordinary_project) == []


def others(project):
    """Files in the user's home that belong to none of the host's users."""
    everything = [path for path in project.home.rglob("*") if not path.is_symlink()]
    return [path for path in everything if path.lstat().st_uid >= FIRST]


@pytest.fixture
def image(project):
    """With a folder that is not root's."""
    root = project.folder.parent / "root"
    busybox_root(root, "chown", "touch", "chmod", "seq", "cp")
    (root / "home/maker").mkdir(parents=True)
    os.chown(root / "home/maker", 1000, 1000)
    (root / "home/maker/own").write_text("")
    os.chown(root / "home/maker/own", 1000, 5)
    layout = layout_of(root, project.folder.parent / "layout", owner=None)
    yield str(layout)
    project.say("image", "prune").ended(0)


def belongs(project):
    for path in [project.folder, *project.folder.rglob("*")]:
        os.chown(path, project.user, project.user)


# BS-031
def test_an_image_keeps_its_users_and_commands_run_as_them(project, image):
    project.buildspec(
        {
            "version": 0.2,
            "phases": {
                "install": {"commands": ["stat -c '%u %g' /home/maker /home/maker/own /bin", "chown 1000 ."]},
                "build": {
                    "run-as": "maker",
                    "commands": ["id -u", "echo made >made; stat -c '%u %g' made", "touch /bin/no 2>/dev/null || echo kept out"],
                },
                "post_build": {"run-as": "maker", "commands": ["mkdir -p deep/er; chmod 700 deep; touch deep/er/still"]},
            },
            "artifacts": {"files": ["made", "deep/**/*"]},
        }
    )
    belongs(project)
    ran = project.run("--image", image).ended(0)
    assert ran.output == ["1000 1000", "1000 5", "0 0", "1000", "1000 1000", "kept out"]
    assert files(project.artifacts) == ["deep/er/still", "made"]
    assert all(path.lstat().st_uid == project.user for path in [project.artifacts, *project.artifacts.rglob("*")])
    # What is kept is of several users.
    assert others(project)
    again = project.run("--image", image, "--from", "build").ended(0)
    assert again.output == ["1000", "1000 1000", "kept out"]
    project.say("clean", "--all").ended(0)


def test_caches_are_kept_merged_and_removed_with_their_owners(project, image):
    # More layers than are kept of one folder become one.
    for number in range(8):
        project.buildspec(
            spec(
                install=[f"cat kept/* 2>/dev/null | wc -l; echo {number} >kept/{number}; chown {1000 + number}:7 kept/{number}"],
                build=["chmod 600 kept/*; chown 1000 kept; chmod 700 kept; stat -c %u kept kept/*"],
            )
            | {"cache": {"paths": ["kept/**/*"]}}
        )
        belongs(project)
        output = project.run("--image", image).ended(0).output
        assert output == [str(number), "1000", *[str(1000 + each) for each in range(number + 1)]]
    project.say("cache", "rm", "--all").ended(0)
    project.say("clean", "--all").ended(0)


def test_what_a_killed_build_left_is_removed_by_the_next(project, image):
    log = project.folder.parent / "log"
    project.buildspec(spec(build=["mkdir hers; touch hers/x; chmod 700 hers; chown -R 1000 hers; echo waiting; sleep 1000"]))
    belongs(project)
    build = project.start("--image", image, log=log)
    while "\nwaiting" not in log.read_text():
        assert build.poll() is None
    build.kill()
    build.wait()
    project.buildspec(spec(build=["true"]))
    belongs(project)
    project.run("--image", image).ended(0)
    project.say("clean", "--all").ended(0)


def test_where_the_programs_refuse_builds_have_one_id_and_it_is_said(project):
    project.buildspec(spec(build=["wc -l </proc/self/uid_map"]))
    belongs(project)
    assert project.run().ended(0).output == ["2"]
    # Who gets no new privileges cannot use programs that give some.
    done = subprocess.run(
        ["unshare", *project.command([])[1:5], "sh", "setpriv", "--no-new-privs", *project.command([])[6:]],
        env=project.environment(None),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "\n1\n" in done.stdout, done
    assert "buildyard: builds have one user id: take the ids that /etc/subuid and /etc/subgid have" in done.stderr
    project.say("clean", "--all").ended(0)
