package awsapi

import (
	"net/url"
	"strings"

	"muster/internal/awsapi/iot"
	"muster/internal/awsapi/jobsdata"
	"muster/internal/awsapi/wire"
)

// routes is the one table of operations that are served.
var routes = []route{
	on(jobsdata.Operations, "GetPendingJobExecutions", "jobs/get", (*call).getPending),
	on(jobsdata.Operations, "StartNextPendingJobExecution", "jobs/start-next", (*call).startNext),
	on(jobsdata.Operations, "DescribeJobExecution", "jobs/{jobId}/get", (*call).describeForDevice),
	on(jobsdata.Operations, "UpdateJobExecution", "jobs/{jobId}/update", (*call).update),

	on(iot.Operations, "CreateJob", "", (*call).createJob),
	on(iot.Operations, "DescribeJob", "", (*call).describeJob),
	on(iot.Operations, "UpdateJob", "", (*call).updateJob),
	on(iot.Operations, "CancelJob", "", (*call).cancelJob),
	on(iot.Operations, "DeleteJob", "", (*call).deleteJob),
	on(iot.Operations, "ListJobs", "", (*call).listJobs),
	on(iot.Operations, "GetJobDocument", "", (*call).getJobDocument),
	on(iot.Operations, "AssociateTargetsWithJob", "", (*call).associateTargets),
	on(iot.Operations, "ListJobExecutionsForJob", "", (*call).listExecutionsForJob),
	on(iot.Operations, "ListJobExecutionsForThing", "", (*call).listExecutionsForThing),
	on(iot.Operations, "DescribeJobExecution", "", (*call).describeExecution),
	on(iot.Operations, "CancelJobExecution", "", (*call).cancelExecution),
	on(iot.Operations, "DeleteJobExecution", "", (*call).deleteExecution),

	on(iot.Operations, "CreateJobTemplate", "", (*call).createTemplate),
	on(iot.Operations, "DescribeJobTemplate", "", (*call).describeTemplate),
	on(iot.Operations, "ListJobTemplates", "", (*call).listTemplates),
	on(iot.Operations, "DeleteJobTemplate", "", (*call).deleteTemplate),
	on(iot.Operations, "DescribeManagedJobTemplate", "", (*call).describeManagedTemplate),
	on(iot.Operations, "ListManagedJobTemplates", "", (*call).listManagedTemplates),

	on(iot.Operations, "TagResource", "", (*call).tagResource),
	on(iot.Operations, "UntagResource", "", (*call).untagResource),
	on(iot.Operations, "ListTagsForResource", "", (*call).listTags),
	on(iot.Operations, "DescribeEndpoint", "", (*call).describeEndpoint),
	on(iot.Operations, "DescribeEventConfigurations", "", (*call).describeEvents),
	on(iot.Operations, "UpdateEventConfigurations", "", (*call).updateEvents),

	on(iot.Operations, "CreateThing", "", (*call).createThing),
	on(iot.Operations, "DescribeThing", "", (*call).describeThing),
	on(iot.Operations, "UpdateThing", "", (*call).updateThing),
	on(iot.Operations, "DeleteThing", "", (*call).deleteThing),
	on(iot.Operations, "ListThings", "", (*call).listThings),

	on(iot.Operations, "CreateThingType", "", (*call).createThingType),
	on(iot.Operations, "DescribeThingType", "", (*call).describeThingType),
	on(iot.Operations, "UpdateThingType", "", (*call).updateThingType),
	on(iot.Operations, "DeprecateThingType", "", (*call).deprecateThingType),
	on(iot.Operations, "DeleteThingType", "", (*call).deleteThingType),
	on(iot.Operations, "ListThingTypes", "", (*call).listThingTypes),

	on(iot.Operations, "CreateThingGroup", "", (*call).createGroup),
	on(iot.Operations, "DescribeThingGroup", "", (*call).describeGroup),
	on(iot.Operations, "UpdateThingGroup", "", (*call).updateGroup),
	on(iot.Operations, "DeleteThingGroup", "", (*call).deleteGroup),
	on(iot.Operations, "ListThingGroups", "", (*call).listGroups),
	on(iot.Operations, "AddThingToThingGroup", "", (*call).addToGroup),
	on(iot.Operations, "RemoveThingFromThingGroup", "", (*call).removeFromGroup),
	on(iot.Operations, "ListThingsInThingGroup", "", (*call).listThingsInGroup),
	on(iot.Operations, "ListThingGroupsForThing", "", (*call).listGroupsForThing),
	on(iot.Operations, "UpdateThingGroupsForThing", "", (*call).updateGroupsForThing),
}

// A router finds the operation of a method and a raw path. Labels are matched on the encoded path and
// decoded afterwards, so that an ARN with %2F stays one label.
type router struct {
	byShape map[string][]*entry // method and number of segments
}

type entry struct {
	route    *route // nil: modelled, not built
	op       wire.Operation
	segments []string // a label is {name}, anything else is literal
}

func newRouter() router {
	r := router{byShape: map[string][]*entry{}}
	built := map[string]*route{}
	for i := range routes {
		built[routes[i].Plane.String()+routes[i].Name] = &routes[i]
	}
	for _, operations := range [][]wire.Operation{jobsdata.Operations, iot.Operations} {
		for _, op := range operations {
			e := &entry{op: op, route: built[op.Plane.String()+op.Name], segments: strings.Split(strings.Trim(op.Path, "/"), "/")}
			shape := shapeOf(op.Method, len(e.segments))
			r.byShape[shape] = append(r.byShape[shape], e)
		}
	}
	return r
}

func shapeOf(method string, segments int) string { return method + string(rune('0'+segments)) }

// A match is what a path stands for on each plane; nil where the plane has no such operation.
type match struct {
	data, control *entry
	labels        []string // the decoded segments
}

// find matches a raw path. ok is false when no plane has an operation there.
func (r *router) find(method, rawPath string) (m match, ok bool) {
	raw := strings.Split(strings.TrimPrefix(rawPath, "/"), "/")
	candidates := r.byShape[shapeOf(method, len(raw))]
	if len(candidates) == 0 {
		return m, false
	}
	labels := raw
	for i, s := range raw {
		text, err := url.PathUnescape(s)
		if err != nil {
			return m, false
		}
		labels[i] = text
	}
	for _, e := range candidates {
		if !e.fits(labels) {
			continue
		}
		switch best := &m.data; {
		case e.op.Plane == wire.Control:
			if m.control == nil || e.literals() > m.control.literals() {
				m.control = e
			}
		case *best == nil || e.literals() > (*best).literals():
			*best = e
		}
	}
	m.labels = labels
	return m, m.data != nil || m.control != nil
}

func (e *entry) fits(labels []string) bool {
	for i, s := range e.segments {
		if s[0] != '{' && s != labels[i] {
			return false
		}
		if labels[i] == "" {
			return false
		}
	}
	return true
}

// jobs reports whether the entry is of a device's jobs, whose operations have the documented REST form.
func (e *entry) jobs() bool { return e.segments[0] == "things" }

// literals counts the segments that are not labels: the more of them, the closer the match.
func (e *entry) literals() int {
	n := 0
	for _, s := range e.segments {
		if s[0] != '{' {
			n++
		}
	}
	return n
}

// label returns a path label of a matched entry.
func (e *entry) label(labels []string, name string) string {
	for i, s := range e.segments {
		if s[0] == '{' && s[1:len(s)-1] == name {
			return labels[i]
		}
	}
	return ""
}
