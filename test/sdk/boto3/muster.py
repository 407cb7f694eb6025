"""What every journey here needs: clients of the server under test, a bounded wait, and a check for typed refusals."""

import json
import os
import threading
import time

import boto3
from botocore.config import Config

DOCUMENT = json.dumps({"operation": "update", "firmware": {"version": "2.0.1"}})

_URL = os.environ["MUSTER_URL"]
_CONFIG = Config(retries={"max_attempts": 0}, connect_timeout=10, read_timeout=10)

iot = boto3.client("iot", endpoint_url=_URL, config=_CONFIG)
device = boto3.client("iot-jobs-data", endpoint_url=_URL, config=_CONFIG)

# The body of the device's last answer. executionState is no modelled member of an error, so botocore drops it.
last = {}


def _keep_body(http_response, **_):
    last["status"], last["body"] = http_response.status_code, json.loads(http_response.content or b"{}")


device.meta.events.register("after-call", _keep_body)


def refused(exception, call, **arguments):
    """Require that the call raises the client's own typed exception."""
    try:
        answer = call(**arguments)
    except exception as err:
        return err.response
    raise AssertionError(f"want {exception.__name__}, got {answer}")


def eventually(what, ask):
    """Ask again and again, for at most ten seconds, until the answer is true; return it."""
    deadline, pause = time.monotonic() + 10, threading.Event()
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"this did not come true: {what}"
        pause.wait(0.01)


def execution(thing, job):
    """The latest execution as the control plane shows it, or None while there is none."""
    try:
        return iot.describe_job_execution(thingName=thing, jobId=job)["execution"]
    except iot.exceptions.ResourceNotFoundException:
        return None


def wait_for(thing, job, status):
    def ask():
        found = execution(thing, job)
        return found if found and found["status"] == status else None

    return eventually(f"{thing} {job} {status}", ask)


def wait_for_job(job, status):
    def ask():
        found = iot.describe_job(jobId=job)["job"]
        return found if found["status"] == status else None

    return eventually(f"{job} {status}", ask)


def wait_gone(job):
    def ask():
        try:
            iot.describe_job(jobId=job)
        except iot.exceptions.ResourceNotFoundException:
            return True
        return False

    eventually(f"{job} gone", ask)


def new_thing(name):
    return iot.create_thing(thingName=name)["thingArn"]


def new_group(name, *things):
    arn = iot.create_thing_group(thingGroupName=name)["thingGroupArn"]
    for thing in things:
        iot.add_thing_to_thing_group(thingGroupName=name, thingName=thing)
    return arn


def new_job(job, *targets, **more):
    if "jobTemplateArn" not in more:
        more.setdefault("document", DOCUMENT)
    return iot.create_job(jobId=job, targets=list(targets), **more)["jobArn"]


def next_job(thing):
    return device.start_next_pending_job_execution(thingName=thing).get("execution")


def report(thing, job, status, **more):
    return device.update_job_execution(thingName=thing, jobId=job, status=status, **more)
