"""Timeouts in real time. CodeBuild's shortest is five minutes, so these builds begin with the session and are looked at
in its last test; the whole run takes at least that long.
"""

from host import children, processes, wait_until
from served import contexts, outcome
from waiting import MINUTES


def length(build, phase):
    (found,) = (one for one in build["phases"] if one["phaseType"] == phase)
    return (found["endTime"] - found["startTime"]).total_seconds()


def test_a_local_build_over_its_time_is_timed_out_with_124(waiting):
    assert waiting.process.wait(timeout=300) == 124
    wait_until(lambda: not processes(waiting.local.folder.name) and not children(waiting.local.data / "run"), "nothing of it is left")
    log = waiting.log.read_text()
    assert "Phase complete: BUILD State: TIMED_OUT" in log
    assert "Phase context status code: BUILD_TIMED_OUT Message: Build has timed out. \n" in log
    assert "\nnever\n" not in log


# LC-026, LC-042, LC-043, LC-056, LC-063
def test_a_build_over_its_time_is_timed_out(waiting):
    build = waiting.timed.wait(waiting.running, 60 * MINUTES + 120)
    status, phases = outcome(build)
    assert (status, phases["BUILD"]) == ("TIMED_OUT", "TIMED_OUT")
    assert contexts(build)["BUILD"] == ("BUILD_TIMED_OUT", "Build has timed out. ")
    assert "POST_BUILD" not in phases
    took = (build["endTime"] - build["phases"][2]["startTime"]).total_seconds()
    assert 60 * MINUTES - 1 <= took <= 60 * MINUTES + 5


# LC-062
def test_a_build_that_waits_too_long_is_timed_out_in_the_queue(waiting):
    build = waiting.full.wait(waiting.queued, 60 * MINUTES + 120)
    status, phases = outcome(build)
    assert status == "TIMED_OUT" and list(phases) == ["SUBMITTED", "QUEUED", "COMPLETED"], phases
    assert phases["QUEUED"] == "TIMED_OUT"
    assert 60 * MINUTES - 1 <= length(build, "QUEUED") <= 60 * MINUTES + 5
