"""A fleet manager's day: group jobs, joining and leaving, cancelling, deleting, templates and tags."""

from muster import (DOCUMENT, device, eventually, execution, iot, new_group, new_job, new_thing, next_job, refused, report, wait_for,
                    wait_for_job, wait_gone)


def snapshot():
    for name in ("py-snap-a", "py-snap-b", "py-snap-late"):
        new_thing(name)
    group = new_group("py-snap-group", "py-snap-a", "py-snap-b")
    new_job("py-snap", group)
    iot.add_thing_to_thing_group(thingGroupName="py-snap-group", thingName="py-snap-late")
    for name in ("py-snap-a", "py-snap-b"):
        wait_for(name, "py-snap", "QUEUED")
    # A later job has reached the latecomer, so the earlier one never will.
    new_job("py-snap-later", group)
    wait_for("py-snap-late", "py-snap-later", "QUEUED")
    assert execution("py-snap-late", "py-snap") is None
    pages = iot.get_paginator("list_job_executions_for_job").paginate(jobId="py-snap", PaginationConfig={"PageSize": 1})
    things = [row["thingArn"].rpartition("/")[2] for page in pages for row in page["executionSummaries"]]
    assert sorted(things) == ["py-snap-a", "py-snap-b"], things


def continuous():
    for name in ("py-cont-a", "py-cont-b"):
        new_thing(name)
    new_job("py-cont", new_group("py-cont-group", "py-cont-a"), targetSelection="CONTINUOUS")
    wait_for("py-cont-a", "py-cont", "QUEUED")
    iot.add_thing_to_thing_group(thingGroupName="py-cont-group", thingName="py-cont-b")
    first = wait_for("py-cont-b", "py-cont", "QUEUED")
    iot.remove_thing_from_thing_group(thingGroupName="py-cont-group", thingName="py-cont-b")
    wait_for("py-cont-b", "py-cont", "REMOVED")
    iot.add_thing_to_thing_group(thingGroupName="py-cont-group", thingName="py-cont-b")
    again = wait_for("py-cont-b", "py-cont", "QUEUED")
    assert again["executionNumber"] > first["executionNumber"], again
    report("py-cont-a", "py-cont", "SUCCEEDED")
    report("py-cont-b", "py-cont", "SUCCEEDED")
    eventually("both counted", lambda: iot.describe_job(jobId="py-cont")["job"]["jobProcessDetails"]["numberOfSucceededThings"] == 2)
    assert iot.describe_job(jobId="py-cont")["job"]["status"] == "IN_PROGRESS"


def cancel():
    new_job("py-cancel", new_thing("py-cancel-a"), new_thing("py-cancel-b"), new_thing("py-cancel-c"))
    for name in ("py-cancel-a", "py-cancel-b", "py-cancel-c"):
        wait_for(name, "py-cancel", "QUEUED")
    assert next_job("py-cancel-a")["versionNumber"] == 2
    which = {"thingName": "py-cancel-a", "jobId": "py-cancel"}
    refused(iot.exceptions.VersionConflictException, iot.cancel_job_execution, force=True, expectedVersion=1, **which)
    refused(iot.exceptions.InvalidStateTransitionException, iot.cancel_job_execution, **which)
    iot.cancel_job_execution(force=True, expectedVersion=2, statusDetails={"why": "recalled"}, **which)
    seen = execution("py-cancel-a", "py-cancel")
    assert (seen["status"], seen["forceCanceled"], seen["statusDetails"]["detailsMap"]) == ("CANCELED", True, {"why": "recalled"}), seen

    next_job("py-cancel-b")
    iot.cancel_job(jobId="py-cancel", reasonCode="BAD_FIRMWARE", comment="it bricks pumps")
    wait_for("py-cancel-c", "py-cancel", "CANCELED")
    assert execution("py-cancel-b", "py-cancel")["status"] == "IN_PROGRESS"
    report("py-cancel-b", "py-cancel", "SUCCEEDED")
    job = wait_for_job("py-cancel", "CANCELED")
    counts = job["jobProcessDetails"]
    assert (counts["numberOfCanceledThings"], counts["numberOfSucceededThings"], job["reasonCode"]) == (2, 1, "BAD_FIRMWARE"), job

    new_job("py-force", new_thing("py-force-a"))
    wait_for("py-force-a", "py-force", "QUEUED")
    next_job("py-force-a")
    iot.cancel_job(jobId="py-force", force=True)
    assert wait_for("py-force-a", "py-force", "CANCELED")["forceCanceled"] is True
    refused(device.exceptions.InvalidStateTransitionException, device.update_job_execution,
            thingName="py-force-a", jobId="py-force", status="SUCCEEDED")


def delete():
    new_job("py-delete", new_thing("py-delete-a"))
    wait_for("py-delete-a", "py-delete", "QUEUED")
    answer = refused(iot.exceptions.InvalidStateTransitionException, iot.delete_job, jobId="py-delete")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 409, answer
    iot.delete_job(jobId="py-delete", force=True)
    wait_gone("py-delete")
    assert next_job("py-delete-a") is None
    refused(device.exceptions.ResourceNotFoundException, device.update_job_execution,
            thingName="py-delete-a", jobId="py-delete", status="SUCCEEDED")


def templates():
    arn = iot.create_job_template(jobTemplateId="py-template", description="ours", document=DOCUMENT,
                                  timeoutConfig={"inProgressTimeoutInMinutes": 60})["jobTemplateArn"]
    refused(iot.exceptions.ConflictException, iot.create_job_template, jobTemplateId="py-template", description="x", document=DOCUMENT)
    new_job("py-of-template", new_thing("py-template-a"), jobTemplateArn=arn)
    wait_for("py-template-a", "py-of-template", "QUEUED")
    assert next_job("py-template-a")["jobDocument"] == DOCUMENT
    listed = [t["jobTemplateId"] for page in iot.get_paginator("list_job_templates").paginate() for t in page["jobTemplates"]]
    assert "py-template" in listed, listed
    iot.delete_job_template(jobTemplateId="py-template")
    refused(iot.exceptions.ResourceNotFoundException, iot.describe_job_template, jobTemplateId="py-template")

    names = [t["templateName"] for t in iot.list_managed_job_templates()["managedJobTemplates"]]
    assert "AWS-Run-Command" in names, names
    managed = iot.describe_managed_job_template(templateName="AWS-Run-Command")
    assert "command" in [p["key"] for p in managed["documentParameters"] if not p.get("optional")], managed
    refused(iot.exceptions.InvalidRequestException, iot.create_job, jobId="py-managed", targets=[new_thing("py-template-b")],
            jobTemplateArn=managed["templateArn"])
    new_job("py-managed", new_thing("py-template-b"), jobTemplateArn=managed["templateArn"], documentParameters={"command": "echo,hello"})
    assert "echo,hello" in iot.get_job_document(jobId="py-managed")["document"]


def tags():
    arn = new_job("py-tags", new_thing("py-tags-a"), tags=[{"Key": "team", "Value": "pumps"}])
    iot.tag_resource(resourceArn=arn, tags=[{"Key": "site", "Value": "north"}])
    iot.untag_resource(resourceArn=arn, tagKeys=["team"])
    assert iot.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "site", "Value": "north"}]


for journey in (snapshot, continuous, cancel, delete, templates, tags):
    print(journey.__name__, flush=True)
    journey()
