// Things, types and groups, and listing a thousand things page by page.

import { assert, iot, iotSDK, newGroup, newThing, refused } from './muster.mjs';

// Types and things.
await iot.CreateThingType({ thingTypeName: 'js-pump', thingTypeProperties: { thingTypeDescription: 'moves water' } });
const pump = { thingName: 'js:pump', thingTypeName: 'js-pump', attributePayload: { attributes: { site: 'north' } } };
assert.equal((await iot.CreateThing(pump)).thingId, (await iot.CreateThing(pump)).thingId);
await refused(iotSDK.ResourceAlreadyExistsException, iot.CreateThing({ thingName: 'js:pump', thingTypeName: 'js-pump' }));
const seen = await iot.DescribeThing({ thingName: 'js:pump' });
assert.equal(seen.version, 1);
assert.deepEqual({ ...seen.attributes }, { site: 'north' });
await iot.DeleteThing({ thingName: 'js:pump' });
await refused(iotSDK.ResourceNotFoundException, iot.DescribeThing({ thingName: 'js:pump' }));

// Groups.
await newThing('js-member');
await newGroup('js-plant');
await iot.CreateThingGroup({ thingGroupName: 'js-hall', parentGroupName: 'js-plant' });
await iot.AddThingToThingGroup({ thingGroupName: 'js-hall', thingName: 'js-member' });
assert.deepEqual((await iot.ListThingsInThingGroup({ thingGroupName: 'js-plant' })).things, []);
assert.deepEqual((await iot.ListThingsInThingGroup({ thingGroupName: 'js-plant', recursive: true })).things, ['js-member']);
await refused(iotSDK.ResourceNotFoundException, iot.AddThingToThingGroup({ thingGroupName: 'js-hall', thingName: 'js-nobody' }));

// Pages. Other journeys create things meanwhile, so look for these only: none missing, none twice.
const names = Array.from({ length: 1000 }, (_, i) => `js-paging-${String(i).padStart(4, '0')}`);
for (let i = 0; i < names.length; i += 50) await Promise.all(names.slice(i, i + 50).map(newThing));
const client = new iotSDK.IoTClient({ endpoint: process.env.MUSTER_URL, region: 'us-east-1', maxAttempts: 1 });
for (const pageSize of [undefined, 100, 250]) {
  const listed = [];
  for await (const page of iotSDK.paginateListThings({ client, pageSize }, {})) {
    listed.push(...page.things.map((t) => t.thingName).filter((name) => name.startsWith('js-paging-')));
  }
  assert.deepEqual(listed.sort(), names, `pages of ${pageSize}`);
}

// Endpoints.
for (const endpointType of ['iot:Data', 'iot:Data-ATS', 'iot:Jobs', 'iot:CredentialProvider']) {
  const { endpointAddress } = await iot.DescribeEndpoint({ endpointType });
  assert.ok(endpointAddress && !endpointAddress.includes('/'), `${endpointType}: ${endpointAddress}`);
}
