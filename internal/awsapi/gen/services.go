package main

import "strings"

// service says what to generate from one model.
type service struct {
	model, pkg, doc string
	plane           string // constant of package wire
	nouns           []noun
	amend           map[string]amendment // by shape name

	scalars map[string]bool   // map shapes that take numbers and booleans as text
	aliases map[string]string // "InputType.member" -> wrong name=right name
	mqtt    *mqtt             // nil: this service has no MQTT face
}

// noun is a file of the generated package and the operations it holds.
type noun struct {
	file string
	ops  string
}

// amendment adds a constraint that the model has lost and AWS's documentation
// still states, or takes away an upper bound that is a setting of the server's:
// package muster checks it.
type amendment struct {
	min, max float64
	open     bool
}

// mqtt names what differs between a service's HTTP and MQTT payloads.
type mqtt struct {
	raw  string // string shape that MQTT carries as the JSON value itself
	omit string // "Struct.member" left out over MQTT
}

// statusDetails values are 1..1024 characters in AWS's documentation; the
// models name only the lower bound.
var detailsValue = amendment{max: 1024}

var services = []service{
	{
		model: "iot.service-2.json",
		pkg:   "iot",
		doc: "Package iot holds the shapes of AWS IoT's control plane, as far as they are\n" +
			"served: types, JSON codecs and validation, and the HTTP binding of every\n" +
			"operation that AWS models.",
		plane: "Control",
		nouns: []noun{
			{"job", "CreateJob DescribeJob UpdateJob CancelJob DeleteJob ListJobs GetJobDocument AssociateTargetsWithJob"},
			{"execution", "ListJobExecutionsForJob ListJobExecutionsForThing DescribeJobExecution CancelJobExecution DeleteJobExecution"},
			{"template", "CreateJobTemplate DescribeJobTemplate ListJobTemplates DeleteJobTemplate DescribeManagedJobTemplate ListManagedJobTemplates"},
			{"tag", "TagResource UntagResource ListTagsForResource"},
			{"endpoint", "DescribeEndpoint"},
			{"event", "DescribeEventConfigurations UpdateEventConfigurations"},
			{"thing", "CreateThing DescribeThing UpdateThing DeleteThing ListThings"},
			{"thingtype", "CreateThingType DescribeThingType UpdateThingType DeprecateThingType DeleteThingType ListThingTypes"},
			{"thinggroup", "CreateThingGroup DescribeThingGroup UpdateThingGroup DeleteThingGroup ListThingGroups AddThingToThingGroup RemoveThingFromThingGroup ListThingsInThingGroup ListThingGroupsForThing UpdateThingGroupsForThing"},
		},
		amend:   map[string]amendment{"DetailsValue": detailsValue, "RolloutRatePerMinute": {open: true}},
		scalars: map[string]bool{"DetailsMap": true},
	},
	{
		model: "iot-jobs-data.service-2.json",
		pkg:   "jobsdata",
		doc: "Package jobsdata holds the shapes of AWS IoT's jobs data plane, the device's\n" +
			"side: types, JSON codecs and validation, and the HTTP binding of every\n" +
			"operation that AWS models. The same shapes serve MQTT, where they look a\n" +
			"little different: see the MQTT methods.",
		plane: "Data",
		nouns: []noun{
			{"execution", "DescribeJobExecution GetPendingJobExecutions StartNextPendingJobExecution UpdateJobExecution"},
		},
		amend: map[string]amendment{
			"DetailsValue":              detailsValue,
			"DescribeJobExecutionJobId": {min: 1, max: 64},
		},
		scalars: map[string]bool{"DetailsMap": true},
		// The first published description of this operation names SUCCESS.
		aliases: map[string]string{"UpdateJobExecutionInput.status": "SUCCESS=SUCCEEDED"},
		mqtt:    &mqtt{raw: "JobDocument", omit: "JobExecution.thingName"},
	},
}

// built returns the operations to generate, each with its file.
func (s service) built() map[string]string {
	ops := map[string]string{}
	for _, n := range s.nouns {
		for _, op := range strings.Fields(n.ops) {
			ops[op] = n.file
		}
	}
	return ops
}
