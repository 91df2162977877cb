"""Builds that run into their timeouts: begun with the session, looked at in test_timeouts.py, its last tests."""

import json

from local import Project, spec
from served import Codebuild, Server

MINUTES = 5


class Waiting:
    """A local build with a timeout of a minute, a server's build with one of five, and one that waits behind it."""

    def __init__(self, place):
        self.local = Project(place)
        self.local.buildspec(spec(build={"commands": ["trap '' TERM; sleep 1000"], "finally": ["echo never"]}))
        self.log = place / "local.log"
        self.process = self.local.start("--timeout", "1", log=self.log)
        self.servers, limits = [], {"timeoutInMinutesOverride": MINUTES, "queuedTimeoutInMinutesOverride": MINUTES}
        self.timed = self.served(place / "timed")
        self.running = self.timed.start("slow", **limits)["id"]
        self.full = self.served(place / "full")
        self.ahead = self.full.start("slow")["id"]
        self.queued = self.full.start("slow", **limits)["id"]

    def served(self, data):
        """A server that runs one build at a time, with a project that takes for ever."""
        self.servers.append(Server(data, "--concurrent-builds", "1"))
        self.servers[-1].start()
        codebuild = Codebuild(self.servers[-1])
        codebuild.create_project("slow", json.dumps(spec(build=["sleep 1000"], post_build=["echo never"])))
        return codebuild

    def stop(self):
        self.full.api.stop_build(id=self.ahead)
        self.full.wait(self.ahead)
        for server in self.servers:
            server.stop()
