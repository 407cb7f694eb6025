// A fleet manager's day: group jobs, joining and leaving, cancelling, deleting, templates and tags.

import {
  assert, device, document, eventually, execution, iot, iotSDK, jobsSDK, newGroup, newJob, newThing, nextJob, refused, report, waitFor, waitForJob, waitGone,
} from './muster.mjs';

async function snapshot() {
  for (const name of ['js-snap-a', 'js-snap-b', 'js-snap-late']) await newThing(name);
  const group = await newGroup('js-snap-group', 'js-snap-a', 'js-snap-b');
  await newJob('js-snap', [group]);
  await iot.AddThingToThingGroup({ thingGroupName: 'js-snap-group', thingName: 'js-snap-late' });
  for (const name of ['js-snap-a', 'js-snap-b']) await waitFor(name, 'js-snap', 'QUEUED');
  // A later job has reached the latecomer, so the earlier one never will.
  await newJob('js-snap-later', [group]);
  await waitFor('js-snap-late', 'js-snap-later', 'QUEUED');
  assert.equal(await execution('js-snap-late', 'js-snap'), undefined);
}

async function continuous() {
  for (const name of ['js-cont-a', 'js-cont-b']) await newThing(name);
  const member = { thingGroupName: 'js-cont-group', thingName: 'js-cont-b' };
  const targets = [await newGroup('js-cont-group', 'js-cont-a')];
  await newJob('js-cont', targets, { document, targetSelection: 'CONTINUOUS' });
  await waitFor('js-cont-a', 'js-cont', 'QUEUED');
  await iot.AddThingToThingGroup(member);
  const first = await waitFor('js-cont-b', 'js-cont', 'QUEUED');
  await iot.RemoveThingFromThingGroup(member);
  await waitFor('js-cont-b', 'js-cont', 'REMOVED');
  await iot.AddThingToThingGroup(member);
  const again = await waitFor('js-cont-b', 'js-cont', 'QUEUED');
  assert.ok(again.executionNumber > first.executionNumber);
  await report('js-cont-a', 'js-cont', 'SUCCEEDED');
  await eventually('counted', async () => (await iot.DescribeJob({ jobId: 'js-cont' })).job.jobProcessDetails.numberOfSucceededThings === 1);
  const { job } = await iot.DescribeJob({ jobId: 'js-cont' });
  assert.equal(job.status, 'IN_PROGRESS');
  assert.equal(job.jobProcessDetails.numberOfRemovedThings, 1);
}

async function cancel() {
  const jobId = 'js-cancel';
  await newJob(jobId, [await newThing('js-cancel-a'), await newThing('js-cancel-b')]);
  for (const name of ['js-cancel-a', 'js-cancel-b']) await waitFor(name, jobId, 'QUEUED');
  const thingName = 'js-cancel-a';
  await nextJob(thingName);
  await refused(iotSDK.VersionConflictException, iot.CancelJobExecution({ thingName, jobId, force: true, expectedVersion: 1 }));
  await refused(iotSDK.InvalidStateTransitionException, iot.CancelJobExecution({ thingName, jobId }));
  await iot.CancelJobExecution({ thingName, jobId, force: true, expectedVersion: 2 });
  assert.equal((await execution(thingName, jobId)).forceCanceled, true);
  await iot.CancelJob({ jobId, reasonCode: 'BAD_FIRMWARE' });
  await waitFor('js-cancel-b', jobId, 'CANCELED');
  const job = await waitForJob(jobId, 'CANCELED');
  assert.equal(job.reasonCode, 'BAD_FIRMWARE');
  assert.equal(job.jobProcessDetails.numberOfCanceledThings, 2);

  await newJob('js-force', [await newThing('js-force-a')]);
  await waitFor('js-force-a', 'js-force', 'QUEUED');
  await nextJob('js-force-a');
  await iot.CancelJob({ jobId: 'js-force', force: true });
  assert.equal((await waitFor('js-force-a', 'js-force', 'CANCELED')).forceCanceled, true);
  await refused(jobsSDK.InvalidStateTransitionException, report('js-force-a', 'js-force', 'SUCCEEDED'));
}

async function deletion() {
  const jobId = 'js-delete';
  const targets = [await newThing('js-delete-a')];
  await newJob(jobId, targets);
  await waitFor('js-delete-a', jobId, 'QUEUED');
  const exists = await refused(iotSDK.ResourceAlreadyExistsException, newJob(jobId, targets));
  assert.equal(exists.resourceId, jobId);
  const refusal = await refused(iotSDK.InvalidStateTransitionException, iot.DeleteJob({ jobId }));
  assert.equal(refusal.$metadata.httpStatusCode, 409);
  await iot.DeleteJob({ jobId, force: true });
  await waitGone(jobId);
  assert.equal((await device.GetPendingJobExecutions({ thingName: 'js-delete-a' })).queuedJobs.length, 0);
}

async function templates() {
  const thing = await newThing('js-template-a');
  const { jobTemplateArn } = await iot.CreateJobTemplate({ jobTemplateId: 'js-template', description: 'ours', document });
  await newJob('js-of-template', [thing], { jobTemplateArn });
  await waitFor('js-template-a', 'js-of-template', 'QUEUED');
  assert.equal((await nextJob('js-template-a')).jobDocument, document);
  await iot.DeleteJobTemplate({ jobTemplateId: 'js-template' });
  await refused(iotSDK.ResourceNotFoundException, iot.DescribeJobTemplate({ jobTemplateId: 'js-template' }));

  const { managedJobTemplates } = await iot.ListManagedJobTemplates({});
  assert.ok(managedJobTemplates.some((t) => t.templateName === 'AWS-Run-Command'));
  const managed = await iot.DescribeManagedJobTemplate({ templateName: 'AWS-Run-Command' });
  assert.ok(managed.documentParameters.some((p) => p.key === 'command' && !p.optional));
  await refused(iotSDK.InvalidRequestException, newJob('js-managed', [thing], { jobTemplateArn: managed.templateArn }));
  await newJob('js-managed', [thing], { jobTemplateArn: managed.templateArn, documentParameters: { command: 'echo,hello' } });
  assert.match((await iot.GetJobDocument({ jobId: 'js-managed' })).document, /echo,hello/);
}

async function tags() {
  const resourceArn = await newJob('js-tags', [await newThing('js-tags-a')], { document, tags: [{ Key: 'team', Value: 'pumps' }] });
  await iot.TagResource({ resourceArn, tags: [{ Key: 'site', Value: 'north' }] });
  await iot.UntagResource({ resourceArn, tagKeys: ['team'] });
  assert.deepEqual((await iot.ListTagsForResource({ resourceArn })).tags.map((t) => `${t.Key}=${t.Value}`), ['site=north']);
}

for (const journey of [snapshot, continuous, cancel, deletion, templates, tags]) {
  console.log(journey.name);
  await journey();
}
