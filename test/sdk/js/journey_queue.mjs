// A device's day: look, take the next job, report on it, finish it; and what it is told when it errs.

import { assert, device, document, execution, iot, jobsSDK, last, newJob, newThing, nextJob, refused, report, waitFor, waitForJob } from './muster.mjs';

const [thingName, first, second] = ['js:queue_a', 'js-queue-first', 'js-queue-second'];

const arn = await newThing(thingName);
assert.equal((await device.DescribeJobExecution({ thingName, jobId: '$next' })).execution, undefined);
assert.equal(await nextJob(thingName), undefined);
for (const job of [first, second]) {
  await newJob(job, [arn]);
  await waitFor(thingName, job, 'QUEUED');
}

// Work the queue.
const pending = await device.GetPendingJobExecutions({ thingName });
assert.deepEqual(pending.queuedJobs.map((row) => row.jobId), [first, second]);
assert.deepEqual(pending.inProgressJobs, []);

const { execution: started } = await device.StartNextPendingJobExecution({ thingName, statusDetails: { step: 'download' }, stepTimeoutInMinutes: 10 });
assert.equal(started.jobId, first);
assert.equal(started.thingName, thingName);
assert.equal(started.status, 'IN_PROGRESS');
assert.equal(started.versionNumber, 2);
assert.equal(started.jobDocument, document);
const left = started.approximateSecondsBeforeTimedOut;
assert.ok(left >= 590 && left <= 600, `step timer of 10 minutes shows ${left} s`);

const answer = await report(thingName, first, 'IN_PROGRESS', {
  expectedVersion: 2,
  statusDetails: { step: 'install', percent: '50' },
  includeJobExecutionState: true,
  includeJobDocument: true,
});
assert.deepEqual({ ...answer.executionState }, { status: 'IN_PROGRESS', statusDetails: { step: 'install', percent: '50' }, versionNumber: 3 });
assert.equal(answer.jobDocument, document);

// One path, two planes: each answers in its own form.
const { execution: peek } = await device.DescribeJobExecution({ thingName, jobId: '$next' });
assert.equal(peek.jobId, first);
assert.equal(peek.statusDetails.percent, '50');
const seen = await execution(thingName, first);
assert.equal(seen.statusDetails.detailsMap.percent, '50');
assert.equal(seen.thingArn, arn);
assert.ok(seen.startedAt instanceof Date);

// Version mismatch.
await refused(jobsSDK.InvalidStateTransitionException, report(thingName, first, 'SUCCEEDED', { expectedVersion: 2 }));
assert.equal(last.status, 409);
assert.equal(last.body.code, 'VersionMismatch');
assert.equal(last.body.executionState.status, 'IN_PROGRESS');
assert.equal(last.body.executionState.versionNumber, 3);

// Finished.
await report(thingName, first, 'SUCCEEDED', { expectedVersion: 3 });
const terminal = await refused(jobsSDK.TerminalStateException, device.DescribeJobExecution({ thingName, jobId: first }));
assert.equal(terminal.$metadata.httpStatusCode, 410);
await refused(jobsSDK.InvalidStateTransitionException, report(thingName, first, 'FAILED'));
assert.equal(last.body.executionState.status, 'SUCCEEDED');
const job = await waitForJob(first, 'COMPLETED');
assert.equal(job.jobProcessDetails.numberOfSucceededThings, 1);
assert.equal(job.jobProcessDetails.numberOfQueuedThings, 0);

assert.equal((await nextJob(thingName)).jobId, second);
await report(thingName, second, 'FAILED');
assert.equal(await nextJob(thingName), undefined);
const rows = (await iot.ListJobExecutionsForThing({ thingName })).executionSummaries;
assert.deepEqual(rows.map((row) => `${row.jobId} ${row.jobExecutionSummary.status}`).sort(), [`${first} SUCCEEDED`, `${second} FAILED`]);

// Refusals.
await refused(jobsSDK.ResourceNotFoundException, device.GetPendingJobExecutions({ thingName: 'js-queue-nobody' }));
await refused(jobsSDK.ResourceNotFoundException, report(thingName, 'js-no-such-job', 'IN_PROGRESS'));
await refused(jobsSDK.InvalidRequestException, report(thingName, second, 'DONE'));
