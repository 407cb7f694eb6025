package awsapi

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"muster"
	"muster/internal/engine"
)

// A StreamEvent is an event that the feed tells to one who reads all of them: the message that AWS has below
// $aws/events/, whether it is switched on there or not; and what AWS has no event for in the same form.
type StreamEvent struct {
	ID      string           // the same whenever the event is told
	Type    string           // JOB, JOB_EXECUTION, THING_EVENT, …
	Topic   string           // $aws/events/…
	Job     muster.JobID     // that it is about; empty: none
	Thing   muster.ThingName // likewise
	Payload []byte           // JSON
	// Place is where reading goes on after this event: give it to Stream.
	Place string
}

// An EventFilter chooses events. Empty fields choose all; an event must match one entry of each of the others.
type EventFilter struct {
	Jobs   []muster.JobID     `json:"jobs,omitempty"`   // jobs and their executions
	Things []muster.ThingName `json:"things,omitempty"` // things, their executions and memberships
	// Groups choose the groups and those below them, their memberships, the things that are in them when the event is
	// told, their executions, and jobs that have one of the groups as a target.
	Groups []muster.GroupName `json:"groups,omitempty"`
	Types  []string           `json:"types,omitempty"` // such as JOB_EXECUTION
}

// EventTypes are the types of events there are.
var EventTypes = []string{"JOB", "JOB_EXECUTION", "THING_EVENT", "THING_TYPE_EVENT", "THING_TYPE_ASSOCIATION_EVENT",
	"THING_GROUP_EVENT", "THING_GROUP_HIERARCHY_EVENT", "THING_GROUP_MEMBERSHIP_EVENT"}

// maxFilter is how many entries a filter may have in all.
const maxFilter = 100

// Check says what is wrong with a filter.
func (f *EventFilter) Check() error {
	if n := len(f.Jobs) + len(f.Things) + len(f.Groups) + len(f.Types); n > maxFilter {
		return muster.Errorf(muster.Invalid, "The filter names %d jobs, things, groups and types; at most %d are allowed", n, maxFilter)
	}
	for _, t := range f.Types {
		if !slices.Contains(EventTypes, t) {
			return muster.Errorf(muster.Invalid, "type %q is not one of %s", t, strings.Join(EventTypes, ", "))
		}
	}
	if slices.Contains(f.Jobs, "") || slices.Contains(f.Things, "") || slices.Contains(f.Groups, "") {
		return muster.Errorf(muster.Invalid, "A name in the filter is empty")
	}
	return nil
}

// admits says whether a fact may give events that the filter chooses, as far as the fact itself tells.
func (f *EventFilter) admits(x *muster.Fact) bool {
	job, thing := x.Job, x.Thing
	switch x.Kind {
	case muster.FactJob:
		job = muster.JobID(x.Name)
	case muster.FactThing:
		thing = muster.ThingName(x.Name)
	case muster.FactThingType:
		if len(f.Groups) > 0 {
			return false
		}
	}
	return (len(f.Jobs) == 0 || slices.Contains(f.Jobs, job)) && (len(f.Things) == 0 || slices.Contains(f.Things, thing))
}

// inGroups says whether a fact is about one of the groups or what belongs to it.
func (f *EventFilter) inGroups(l engine.Glance, x *muster.Fact) bool {
	below := func(name muster.GroupName) bool {
		if slices.Contains(f.Groups, name) {
			return true // also if it is gone
		}
		return slices.ContainsFunc(l.Lineage(name), func(g muster.Group) bool { return slices.Contains(f.Groups, g.Name) })
	}
	switch x.Kind {
	case muster.FactGroup:
		if below(muster.GroupName(x.Name)) {
			return true
		}
		var row struct{ Parent muster.GroupName }
		return json.Unmarshal([]byte(x.Before), &row) == nil && row.Parent != "" && below(row.Parent)
	case muster.FactMembership:
		return below(x.Group)
	case muster.FactJob:
		text := x.After
		if text == "" {
			text = x.Before
		}
		var row struct{ Targets []muster.Target }
		return json.Unmarshal([]byte(text), &row) == nil &&
			slices.ContainsFunc(row.Targets, func(t muster.Target) bool { return t.Group != "" && slices.Contains(f.Groups, t.Group) })
	}
	thing := x.Thing
	if x.Kind == muster.FactThing {
		thing = muster.ThingName(x.Name)
	}
	return slices.ContainsFunc(l.GroupsOf(thing), func(m muster.Membership) bool { return below(m.Group) })
}

// everyEvent switches all types on.
var everyEvent = func() map[string]bool {
	on := map[string]bool{}
	for _, t := range eventTypes {
		on[t] = true
	}
	return on
}()

// A place in the stream is a place in the feed, and if it is between two events of an entry, the id of the one before.
const placeSeparator = "~"

// CheckPlace says whether the feed has such a place.
func (a *API) CheckPlace(ctx context.Context, place string) error {
	feed, _, _ := strings.Cut(place, placeSeparator)
	_, err := a.engine.Feed(ctx, muster.Place(feed), 1)
	return err
}

// StreamEnd is the place behind all that has happened.
func (a *API) StreamEnd(ctx context.Context) (string, error) {
	place, err := a.engine.FeedEnd(ctx)
	return string(place), err
}

// Stream tells fn the events behind a place that the filter chooses, in feed order, as far as one reading of the feed goes. A
// place that the store never gave is an error of kind Invalid. After an error of fn, which Stream returns, reading goes
// on at next, behind the last event that fn took. more says whether there was anything to read.
//
// missed is called before the first event that follows on others that are gone.
func (a *API) Stream(ctx context.Context, place string, filter *EventFilter, missed func() error, fn func(*StreamEvent) error) (next string, more bool, err error) {
	feed, last, _ := strings.Cut(place, placeSeparator)
	entries, err := a.engine.Feed(ctx, muster.Place(feed), batchEntries)
	if err != nil || len(entries) == 0 {
		return place, false, err
	}
	listening := func(string) bool { return true }
	for i := range entries {
		entry := &entries[i]
		if entry.Missed {
			last = "" // it is gone too
			if err := missed(); err != nil {
				return place, true, err
			}
		}
		t := &telling{follower: &follower{API: a, listening: listening}, on: everyEvent, all: true}
		var facts []*muster.Fact // of matters
		for k := range entry.Facts {
			if !filter.admits(&entry.Facts[k]) {
				continue
			}
			t.event(entry, k, entries)
			for len(facts) < len(t.matters) {
				facts = append(facts, &entry.Facts[k])
			}
		}
		before := 0
		if last != "" {
			// On some stores another entry may come first when the feed is read again; it has not been told.
			if n := slices.IndexFunc(t.matters, func(m matter) bool { return m.(*event).head.EventID == last }); n >= 0 {
				before, last = n+1, ""
			}
		}
		from := feed
		if place, err = t.stream(ctx, place, from, before, facts, filter, fn); err != nil {
			return place, true, err
		}
		feed = string(entry.Place)
		place = feed
		if last != "" {
			place += placeSeparator + last
		}
	}
	return place, true, nil
}

// stream renders the events of one entry, from one of them on. from is the place of the feed before the entry.
func (t *telling) stream(ctx context.Context, place, from string, begin int, facts []*muster.Fact, filter *EventFilter, fn func(*StreamEvent) error) (string, error) {
	for begin < len(t.matters) {
		n := min(begin+batchLooks, len(t.matters))
		chosen := make([]bool, n-begin)
		err := t.engine.Look(ctx, func(l engine.Glance) {
			for i := begin; i < n; i++ {
				e := t.matters[i].(*event)
				ok := (len(filter.Types) == 0 || slices.Contains(filter.Types, e.head.EventType)) &&
					(len(filter.Groups) == 0 || filter.inGroups(l, facts[i]))
				if ok {
					e.look(l)
				}
				chosen[i-begin] = ok
			}
		})
		if err != nil {
			return place, err
		}
		for i := begin; i < n; i++ {
			e := t.matters[i].(*event)
			after := from + placeSeparator + e.head.EventID
			if chosen[i-begin] {
				out := &StreamEvent{ID: e.head.EventID, Type: e.head.EventType, Topic: eventsPrefix + e.topic, Place: after, Payload: marshal(e.body)}
				switch f := facts[i]; f.Kind {
				case muster.FactExecution:
					out.Job, out.Thing = f.Job, f.Thing
				case muster.FactJob:
					out.Job = muster.JobID(f.Name)
				case muster.FactThing:
					out.Thing = muster.ThingName(f.Name)
				case muster.FactMembership:
					out.Thing = f.Thing
				}
				if err := fn(out); err != nil {
					return place, err
				}
			}
			place = after
		}
		begin = n
	}
	return place, nil
}

// A Gap is the event that stands for those that are gone.
func Gap(what string) []byte {
	return marshal(struct {
		EventType string `json:"eventType"`
		Message   string `json:"message"`
	}{"GAP", fmt.Sprintf("The feed does not keep what happened after %s any more: events are missing here. Read the present state from the service.", what)})
}
