// Jobs with the AWS IoT Device SDK v2 for JavaScript: over MQTT 3.1.1 and 5 with a certificate, and over WebSocket
// with a presigned URL. What to connect to comes from the environment. When it says that it listens, the job is made.
import assert from 'node:assert/strict';
import sdk from 'aws-iot-device-sdk-v2';

const { auth, iot, iotjobs, mqtt, mqtt5 } = sdk;
const { MUSTER_HOST: host, MUSTER_MODE: mode, MUSTER_CERTS: certs, MUSTER_THING: thing, MUSTER_JOB: job } = process.env;
const throttled = process.env.MUSTER_THROTTLED === '1';
const port = Number(process.env.MUSTER_PORT);
const [cert, key, ca] = [`${certs}/${thing}.pem`, `${certs}/${thing}.key`, `${certs}/ca.pem`];
const jobsTopic = `$aws/things/${thing}/jobs`;

// A promise that somebody else keeps.
function later() {
  let keep;
  const promise = new Promise((ok) => { keep = ok; });
  return { promise, keep };
}

// The journey of either client, which says how to ask and where to listen.
async function journey({ start, describe, update, pending, raw, notified, idle }) {
  if (throttled) {
    const codes = await Promise.allSettled(Array.from({ length: 20 }, () => pending({})));
    assert.ok(codes.some((c) => c.reason?.code === 'RequestThrottled'), 'nothing was throttled');
    return;
  }
  console.log('listening');
  assert.equal((await notified).execution.jobId, job);
  const listed = await pending({});
  assert.deepEqual([listed.inProgressJobs.length, listed.queuedJobs[0].jobId], [0, job]);
  const started = await start({ statusDetails: { step: 'download' } });
  assert.equal(started.execution.jobId, job);
  assert.equal(started.execution.status, 'IN_PROGRESS');
  assert.equal(started.execution.jobDocument.operation, 'update');
  assert.ok(Math.abs(started.timestamp - Date.now() / 1000) < 600, `timestamp ${started.timestamp}`);
  const version = started.execution.versionNumber;
  const half = await update({ jobId: job, status: 'IN_PROGRESS', statusDetails: { step: 'install', progress: '50%' },
    expectedVersion: version, stepTimeoutInMinutes: 5, includeJobExecutionState: true, includeJobDocument: true });
  assert.deepEqual(half.executionState, { status: 'IN_PROGRESS', statusDetails: { step: 'install', progress: '50%' }, versionNumber: version + 1 });
  assert.equal(half.jobDocument.operation, 'update');

  const refused = async (code, promise) => {
    const e = await promise.then(() => assert.fail(`${code} was accepted`), (e) => e);
    assert.equal(e.code, code, JSON.stringify(e));
    assert.ok(e.message, code);
    return e;
  };
  const state = { status: 'IN_PROGRESS', statusDetails: { step: 'install', progress: '50%' }, versionNumber: version + 1 };
  const mismatch = await refused('VersionMismatch', update({ jobId: job, status: 'SUCCEEDED', expectedVersion: version }));
  assert.deepEqual(mismatch.executionState, state);
  assert.match(mismatch.message, new RegExp(`${version}.*${version + 1}`));
  const impossible = await refused('InvalidStateTransition', update({ jobId: job, status: 'QUEUED' }));
  assert.deepEqual(impossible.executionState, state);
  await refused('InvalidRequest', update({ jobId: job, status: 'DONE' }));
  await refused('InvalidRequest', update({ jobId: job, status: 'IN_PROGRESS', stepTimeoutInMinutes: 10_081 }));
  await refused('ResourceNotFound', describe({ jobId: 'no-such-job' }));
  await refused('ResourceNotFound', update({ jobId: 'no-such-job', status: 'SUCCEEDED' }));
  // These two its own calls cannot provoke.
  assert.equal((await raw(`${jobsTopic}/${job}/of/get`, '{}')).code, 'InvalidTopic');
  assert.equal((await raw(`${jobsTopic}/get`, '{"clientToken":')).code, 'InvalidJson');

  const done = await update({ jobId: job, status: 'SUCCEEDED', expectedVersion: version + 1, includeJobExecutionState: true });
  assert.equal(done.executionState.status, 'SUCCEEDED');
  await idle;
  await refused('TerminalStateReached', describe({ jobId: job }));
  await refused('InvalidStateTransition', update({ jobId: job, status: 'SUCCEEDED' }));
  assert.equal((await describe({ jobId: '$next' })).execution, undefined);
}

// IotJobsClientV2, of requests and responses, on MQTT 5.
async function modern(builder) {
  builder.withCertificateAuthorityFromPath(undefined, ca);
  builder.withPort(port);
  builder.withConnectProperties({ keepAliveIntervalSeconds: 60, clientId: thing });
  const client = new mqtt5.Mqtt5Client(builder.build());
  const up = new Promise((ok, no) => {
    client.on('connectionSuccess', ok);
    client.on('connectionFailure', (e) => no(e.error));
  });
  const answers = new Map();
  client.on('messageReceived', ({ message }) => answers.get(message.topicName)?.(JSON.parse(Buffer.from(message.payload).toString())));
  client.start();
  await up;
  const jobs = iotjobs.IotJobsClientv2.newFromMqtt5(client, {
    maxRequestResponseSubscriptions: 4, maxStreamingSubscriptions: 2, operationTimeoutInSeconds: 10 });
  const stream = jobs.createNextJobExecutionChangedStream({ thingName: thing });
  const [next, idle, listening] = [later(), later(), later()];
  stream.on('incomingPublish', ({ message }) => (message.execution ? next : idle).keep(message));
  stream.on('subscriptionStatus', listening.keep);
  stream.open();
  await listening.promise;
  const call = (operation) => (request) => jobs[operation]({ thingName: thing, ...request }).catch((e) => { throw e.modeledError ?? e; });
  await journey({
    start: call('startNextPendingJobExecution'), describe: call('describeJobExecution'), update: call('updateJobExecution'),
    pending: call('getPendingJobExecutions'), notified: next.promise, idle: idle.promise,
    raw: (topic, payload) => new Promise((ok, no) => {
      answers.set(`${topic}/rejected`, ok);
      client.publish({ topicName: topic, payload, qos: mqtt5.QoS.AtLeastOnce }).catch(no);
    }),
  });
  jobs.close();
  client.stop();
}

// IotJobsClient, of subscriptions and publishes, on MQTT 3.1.1.
async function classic() {
  const config = iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder_from_path(cert, key)
    .with_certificate_authority_from_path(undefined, ca).with_endpoint(host).with_port(port)
    .with_client_id(thing).with_clean_session(true).build();
  const connection = new mqtt.MqttClient().new_connection(config);
  await connection.connect();
  const jobs = new iotjobs.IotJobsClient(connection);
  const qos = mqtt.QoS.AtLeastOnce;
  const waiting = new Map();
  const heard = (rejected) => (error, response) => {
    const asker = waiting.get(response?.clientToken);
    waiting.delete(response?.clientToken);
    if (error || !asker) return;
    if (rejected) asker.no(response);
    else asker.ok(response);
  };
  const subscribed = new Map();
  let tokens = 0;
  // Subscribes to both answers of an operation the first time, then publishes.
  const call = (operation) => async (request) => {
    const about = { thingName: thing, ...('jobId' in request && { jobId: request.jobId }) };
    const place = operation + JSON.stringify(about);
    if (!subscribed.has(place)) {
      subscribed.set(place, Promise.all([jobs[`subscribeTo${operation}Accepted`](about, qos, heard(false)), jobs[`subscribeTo${operation}Rejected`](about, qos, heard(true))]));
    }
    await subscribed.get(place); // an answer reaches nobody who does not listen yet
    const clientToken = `token-${tokens++}`;
    const answer = new Promise((ok, no) => waiting.set(clientToken, { ok, no }));
    answer.catch(() => {}); // whoever waits for it will see
    await jobs[`publish${operation}`]({ thingName: thing, clientToken, ...request }, qos);
    return answer;
  };
  const [next, idle] = [later(), later()];
  await jobs.subscribeToNextJobExecutionChangedEvents({ thingName: thing }, qos, (error, event) => (event.execution ? next : idle).keep(event));
  await journey({
    start: call('StartNextPendingJobExecution'), describe: call('DescribeJobExecution'), update: call('UpdateJobExecution'),
    pending: call('GetPendingJobExecutions'), notified: next.promise, idle: idle.promise,
    raw: async (topic, payload) => {
      const answer = later();
      await connection.subscribe(`${topic}/rejected`, qos, (_, p) => answer.keep(JSON.parse(Buffer.from(p).toString())));
      await connection.publish(topic, payload, qos);
      return answer.promise;
    },
  });
  await connection.disconnect();
}

switch (mode) {
  case '3.1.1': await classic(); break;
  case '5': await modern(iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromPath(host, cert, key)); break;
  case 'websocket': await modern(iot.AwsIotMqtt5ClientConfigBuilder.newWebsocketMqttBuilderWithSigv4Auth(host, {
    region: 'us-east-1', credentialsProvider: auth.AwsCredentialsProvider.newDefault() })); break;
}
process.exit(0); // the SDK's threads would keep it up
