// Jobs with the AWS IoT Device SDK v2 for JavaScript: over MQTT 3.1.1 and 5 with a certificate, and over WebSocket
// with a presigned URL. What to connect to comes from the environment.
import assert from 'node:assert/strict';
import sdk from 'aws-iot-device-sdk-v2';

const { auth, iot, iotjobs, mqtt, mqtt5 } = sdk;
const { MUSTER_HOST: host, MUSTER_MODE: mode, MUSTER_CERTS: certs, MUSTER_THING: thing, MUSTER_JOB: job } = process.env;
const port = Number(process.env.MUSTER_PORT);
const [cert, key, ca] = [`${certs}/${thing}.pem`, `${certs}/${thing}.key`, `${certs}/ca.pem`];

// The request-response client of MQTT 5.
async function modern(builder) {
  builder.withCertificateAuthorityFromPath(undefined, ca);
  builder.withPort(port);
  builder.withConnectProperties({ keepAliveIntervalSeconds: 60, clientId: thing });
  const client = new mqtt5.Mqtt5Client(builder.build());
  const up = new Promise((ok, no) => {
    client.on('connectionSuccess', ok);
    client.on('connectionFailure', (e) => no(e.error));
  });
  client.start();
  await up;
  const jobs = iotjobs.IotJobsClientv2.newFromMqtt5(client, {
    maxRequestResponseSubscriptions: 4, maxStreamingSubscriptions: 2, operationTimeoutInSeconds: 10 });
  const stream = jobs.createNextJobExecutionChangedStream({ thingName: thing });
  const idle = new Promise((ok) => stream.on('incomingPublish', (e) => { if (!e.message.execution) ok(); }));
  const listening = new Promise((ok) => stream.on('subscriptionStatus', ok));
  stream.open();
  await listening;
  const started = await jobs.startNextPendingJobExecution({ thingName: thing });
  assert.equal(started.execution.jobId, job);
  assert.equal(started.execution.jobDocument.operation, 'update');
  await assert.rejects(jobs.updateJobExecution({ thingName: thing, jobId: job, status: 'SUCCEEDED', expectedVersion: 9 }),
    (e) => e.modeledError.code === 'VersionMismatch' && e.modeledError.executionState.status === 'IN_PROGRESS');
  const done = await jobs.updateJobExecution({ thingName: thing, jobId: job, status: 'SUCCEEDED', includeJobExecutionState: true });
  assert.equal(done.executionState.status, 'SUCCEEDED');
  await idle;
  jobs.close();
  client.stop();
}

// The publish and subscribe client of MQTT 3.1.1.
async function classic() {
  const config = iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder_from_path(cert, key)
    .with_certificate_authority_from_path(undefined, ca).with_endpoint(host).with_port(port)
    .with_client_id(thing).with_clean_session(true).build();
  const connection = new mqtt.MqttClient().new_connection(config);
  await connection.connect();
  const jobs = new iotjobs.IotJobsClient(connection);
  const qos = mqtt.QoS.AtLeastOnce;
  const answer = (subscribe, publish) => new Promise((ok, no) => {
    subscribe((error, response) => (error ? no(error) : ok(response))).then(publish).catch(no);
  });
  const next = await answer(
    (on) => jobs.subscribeToStartNextPendingJobExecutionAccepted({ thingName: thing }, qos, on),
    () => jobs.publishStartNextPendingJobExecution({ thingName: thing, clientToken: 'a' }, qos));
  assert.equal(next.execution.jobId, job);
  const refused = await answer(
    (on) => jobs.subscribeToUpdateJobExecutionRejected({ thingName: thing, jobId: job }, qos, on),
    () => jobs.publishUpdateJobExecution({ thingName: thing, jobId: job, status: 'QUEUED', clientToken: 'b' }, qos));
  assert.equal(refused.code, 'InvalidStateTransition');
  const done = await answer(
    (on) => jobs.subscribeToUpdateJobExecutionAccepted({ thingName: thing, jobId: job }, qos, on),
    () => jobs.publishUpdateJobExecution({ thingName: thing, jobId: job, status: 'SUCCEEDED', clientToken: 'c' }, qos));
  assert.equal(done.clientToken, 'c');
  await connection.disconnect();
}

switch (mode) {
  case '3.1.1': await classic(); break;
  case '5': await modern(iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromPath(host, cert, key)); break;
  case 'websocket': await modern(iot.AwsIotMqtt5ClientConfigBuilder.newWebsocketMqttBuilderWithSigv4Auth(host, {
    region: 'us-east-1', credentialsProvider: auth.AwsCredentialsProvider.newDefault() })); break;
}
process.exit(0); // the SDK's threads would keep it up
