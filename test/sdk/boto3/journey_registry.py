"""Things, types and groups, and listing a thousand things page by page."""

import collections
from concurrent.futures import ThreadPoolExecutor

from muster import iot, new_group, new_thing, refused

# Types and things.
iot.create_thing_type(thingTypeName="py-pump", thingTypeProperties={"thingTypeDescription": "moves water"})
assert iot.describe_thing_type(thingTypeName="py-pump")["thingTypeProperties"]["thingTypeDescription"] == "moves water"
pump = {"thingName": "py:pump", "thingTypeName": "py-pump", "attributePayload": {"attributes": {"site": "north"}}}
assert iot.create_thing(**pump)["thingId"] == iot.create_thing(**pump)["thingId"]
refused(iot.exceptions.ResourceAlreadyExistsException, iot.create_thing, thingName="py:pump", thingTypeName="py-pump")
seen = iot.describe_thing(thingName="py:pump")
assert (seen["version"], seen["attributes"], seen["defaultClientId"]) == (1, {"site": "north"}, "py:pump"), seen
refused(iot.exceptions.VersionConflictException, iot.update_thing, thingName="py:pump", expectedVersion=7, removeThingType=True)
iot.delete_thing(thingName="py:pump")
refused(iot.exceptions.ResourceNotFoundException, iot.describe_thing, thingName="py:pump")

# Groups.
new_thing("py-member")
new_group("py-plant")
iot.create_thing_group(thingGroupName="py-hall", parentGroupName="py-plant")
iot.add_thing_to_thing_group(thingGroupName="py-hall", thingName="py-member")
assert iot.list_things_in_thing_group(thingGroupName="py-plant")["things"] == []
assert iot.list_things_in_thing_group(thingGroupName="py-plant", recursive=True)["things"] == ["py-member"]
assert [g["groupName"] for g in iot.list_thing_groups_for_thing(thingName="py-member")["thingGroups"]] == ["py-hall"]
refused(iot.exceptions.ResourceNotFoundException, iot.add_thing_to_thing_group, thingGroupName="py-hall", thingName="py-nobody")

# Pages. Other journeys create things meanwhile, so look for these only: none missing, none twice.
names = [f"py-paging-{i:04d}" for i in range(1000)]
with ThreadPoolExecutor(8) as pool:
    list(pool.map(new_thing, names))
for size in (None, 100, 250):
    pages = iot.get_paginator("list_things").paginate(PaginationConfig={"PageSize": size})
    listed = collections.Counter(t["thingName"] for page in pages for t in page["things"] if t["thingName"].startswith("py-paging-"))
    assert sorted(listed.elements()) == names, f"pages of {size}: {len(listed)} things, some {max(listed.values())} times"
refused(iot.exceptions.InvalidRequestException, iot.list_things, nextToken="not a token")

# Endpoints.
for kind in ("iot:Data", "iot:Data-ATS", "iot:Jobs", "iot:CredentialProvider"):
    host = iot.describe_endpoint(endpointType=kind)["endpointAddress"]
    assert host and "/" not in host, (kind, host)
