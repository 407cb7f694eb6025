// What every journey here needs: clients of the server under test, a bounded wait, and a check for typed refusals.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import * as iotSDK from '@aws-sdk/client-iot';
import * as jobsSDK from '@aws-sdk/client-iot-jobs-data-plane';

export { assert };
export const document = JSON.stringify({ operation: 'update', firmware: { version: '2.0.1' } });

const config = { endpoint: process.env.MUSTER_URL, region: 'us-east-1', maxAttempts: 1 };
const control = new iotSDK.IoTClient(config);
const data = new jobsSDK.IoTJobsDataPlaneClient(config);

// iot.CreateThing({...}) and device.StartNextPendingJobExecution({...}): one function for each command.
const calls = (client, sdk) =>
  new Proxy({}, { get: (_, name) => (input = {}) => client.send(new sdk[`${name}Command`](input)) });
export const iot = calls(control, iotSDK);
export const device = calls(data, jobsSDK);
export { iotSDK, jobsSDK };

// The last answer of the data plane. executionState is no modelled member of an error, so it is read from the body.
export const last = {};
data.middlewareStack.add(
  (next) => async (args) => {
    const result = await next(args);
    const { response } = result;
    const chunks = [];
    for await (const chunk of response.body) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    Object.assign(last, { status: response.statusCode, body: JSON.parse(body.toString() || '{}') });
    response.body = body;
    return result;
  },
  { step: 'deserialize', name: 'keepBody', priority: 'low' },
);

// refused requires that a call is rejected with the SDK's own exception class.
export async function refused(exception, call) {
  let answer;
  try {
    answer = await call;
  } catch (err) {
    assert.ok(err instanceof exception, `want ${exception.name}, got ${err}`);
    return err;
  }
  assert.fail(`want ${exception.name}, got ${JSON.stringify(answer)}`);
}

// eventually asks again and again, for at most ten seconds, until the answer is true, and returns it.
export async function eventually(what, ask) {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    assert.ok(performance.now() < deadline, `this did not come true: ${what}`);
    await pause(10);
  }
}

// execution is the latest execution as the control plane shows it, or undefined while there is none.
export async function execution(thingName, jobId) {
  try {
    return (await iot.DescribeJobExecution({ thingName, jobId })).execution;
  } catch (err) {
    if (err instanceof iotSDK.ResourceNotFoundException) return undefined;
    throw err;
  }
}

export const waitFor = (thingName, jobId, status) =>
  eventually(`${thingName} ${jobId} ${status}`, async () => {
    const found = await execution(thingName, jobId);
    return found?.status === status && found;
  });

export const waitForJob = (jobId, status) =>
  eventually(`${jobId} ${status}`, async () => {
    const { job } = await iot.DescribeJob({ jobId });
    return job.status === status && job;
  });

export const waitGone = (jobId) =>
  eventually(`${jobId} gone`, () =>
    iot.DescribeJob({ jobId }).then(
      () => false,
      (err) => {
        assert.ok(err instanceof iotSDK.ResourceNotFoundException, `${err}`);
        return true;
      },
    ),
  );

export const newThing = async (thingName) => (await iot.CreateThing({ thingName })).thingArn;

export async function newGroup(thingGroupName, ...things) {
  const { thingGroupArn } = await iot.CreateThingGroup({ thingGroupName });
  for (const thingName of things) await iot.AddThingToThingGroup({ thingGroupName, thingName });
  return thingGroupArn;
}

export const newJob = async (jobId, targets, more = { document }) => (await iot.CreateJob({ jobId, targets, ...more })).jobArn;

export const nextJob = async (thingName) => (await device.StartNextPendingJobExecution({ thingName })).execution;

export const report = (thingName, jobId, status, more = {}) => device.UpdateJobExecution({ thingName, jobId, status, ...more });
