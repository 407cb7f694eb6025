"""A device's day: look, take the next job, report on it, finish it; and what it is told when it errs."""

import datetime

from muster import DOCUMENT, device, execution, iot, last, new_job, new_thing, next_job, refused, report, wait_for, wait_for_job

THING, FIRST, SECOND = "py:queue_a", "py-queue-first", "py-queue-second"

arn = new_thing(THING)
assert device.get_pending_job_executions(thingName=THING)["queuedJobs"] == []
assert "execution" not in device.describe_job_execution(thingName=THING, jobId="$next")
assert next_job(THING) is None
for job in (FIRST, SECOND):
    new_job(job, arn)
    wait_for(THING, job, "QUEUED")

# Work the queue.
pending = device.get_pending_job_executions(thingName=THING)
assert [row["jobId"] for row in pending["queuedJobs"]] == [FIRST, SECOND], pending
assert pending["inProgressJobs"] == [], pending
assert isinstance(pending["queuedJobs"][0]["queuedAt"], int), pending

started = device.start_next_pending_job_execution(thingName=THING, statusDetails={"step": "download"}, stepTimeoutInMinutes=10)["execution"]
assert (started["jobId"], started["thingName"], started["status"]) == (FIRST, THING, "IN_PROGRESS"), started
assert (started["versionNumber"], started["executionNumber"]) == (2, 1), started
assert started["jobDocument"] == DOCUMENT, started
assert 590 <= started["approximateSecondsBeforeTimedOut"] <= 600, started

answer = report(THING, FIRST, "IN_PROGRESS", expectedVersion=2, statusDetails={"step": "install", "percent": "50"}, includeJobExecutionState=True)
assert answer["executionState"] == {"status": "IN_PROGRESS", "statusDetails": {"step": "install", "percent": "50"}, "versionNumber": 3}, answer
assert "jobDocument" not in answer, answer

# One path, two planes: each answers in its own form.
peek = device.describe_job_execution(thingName=THING, jobId="$next", includeJobDocument=False)["execution"]
assert peek["jobId"] == FIRST and peek["statusDetails"]["percent"] == "50" and "jobDocument" not in peek, peek
seen = execution(THING, FIRST)
assert seen["statusDetails"]["detailsMap"]["percent"] == "50" and seen["thingArn"] == arn, seen
assert isinstance(seen["startedAt"], datetime.datetime) and abs(seen["startedAt"].timestamp() - peek["startedAt"]) < 1, seen

# Version mismatch.
refused(device.exceptions.InvalidStateTransitionException, device.update_job_execution,
        thingName=THING, jobId=FIRST, status="SUCCEEDED", expectedVersion=2)
assert last["status"] == 409 and last["body"]["code"] == "VersionMismatch", last
assert last["body"]["executionState"]["versionNumber"] == 3, last
assert last["body"]["executionState"]["status"] == "IN_PROGRESS", last

# Finished.
report(THING, FIRST, "SUCCEEDED", expectedVersion=3)
answer = refused(device.exceptions.TerminalStateException, device.describe_job_execution, thingName=THING, jobId=FIRST)
assert answer["ResponseMetadata"]["HTTPStatusCode"] == 410, answer
refused(device.exceptions.InvalidStateTransitionException, device.update_job_execution, thingName=THING, jobId=FIRST, status="IN_PROGRESS")
assert last["body"]["executionState"]["status"] == "SUCCEEDED", last
job = wait_for_job(FIRST, "COMPLETED")
assert job["jobProcessDetails"]["numberOfSucceededThings"] == 1, job
assert job["completedAt"] >= job["createdAt"], job

assert next_job(THING)["jobId"] == SECOND
report(THING, SECOND, "FAILED", statusDetails={"why": "no space left"})
assert next_job(THING) is None
rows = iot.list_job_executions_for_thing(thingName=THING)["executionSummaries"]
assert sorted((row["jobId"], row["jobExecutionSummary"]["status"]) for row in rows) == [(FIRST, "SUCCEEDED"), (SECOND, "FAILED")], rows

# Refusals.
refused(device.exceptions.ResourceNotFoundException, device.get_pending_job_executions, thingName="py-queue-nobody")
refused(device.exceptions.ResourceNotFoundException, device.describe_job_execution, thingName=THING, jobId="py-no-such-job")
refused(device.exceptions.InvalidRequestException, device.update_job_execution, thingName=THING, jobId=SECOND, status="DONE")
refused(device.exceptions.InvalidRequestException, device.update_job_execution, thingName=THING, jobId=SECOND, status="TIMED_OUT")
