package awsapi

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"muster"
	"muster/internal/engine"
)

// ToldPrefix is what the names of the settings begin with that say how far processes have told the feed.
const ToldPrefix = "mqtt/told"

const (
	// cursorSetting is where the store keeps how far the feed has been told.
	cursorSetting = ToldPrefix
	// saveAfter is how long the cursor may lag behind: what is told once more after a crash.
	saveAfter = time.Second
	// retryAfter is how long telling rests after the store or the subscribers refused.
	retryAfter = time.Second

	batchEntries = 32 // read from the feed at a time
	batchLooks   = 64 // looked at at one moment, and published together
)

// Follow publishes what the feed tells: notices to devices and events, in feed order, until ctx ends.
//
// publish hands messages on in their order and returns once those that have to outlive the process do:
// only then does the feed pass them. After an error they come again, so that each is published at least
// once. listening reports whether anybody, connected or away, would get a message on a topic: what nobody
// would get costs no more than that question.
//
// How far the feed has been told is kept in the store. After a restart it goes on there, and what devices
// are told then is rendered from their queues as they are.
func (a *API) Follow(ctx context.Context, publish func(context.Context, []Publication) error, listening func(topic string) bool) {
	f := &follower{API: a, publish: publish, listening: listening}
	for ctx.Err() == nil {
		if err := f.run(ctx); err != nil && ctx.Err() == nil {
			a.log.Error("notices and events are held up; they will be tried again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryAfter):
			}
		}
	}
	if f.unsaved() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), retryAfter)
		defer cancel()
		if err := f.save(last); err != nil {
			a.log.Warn("how far notices and events have been told could not be kept; some will be told again", "error", err)
		}
	}
}

// A follower is one reading of the feed.
type follower struct {
	*API
	publish   func(context.Context, []Publication) error
	listening func(string) bool

	begun       bool
	told, saved muster.Place
	savedAs     string // the name of the setting; that of a node changes when it was taken for dead
	// namespaces are those of jobs whose executions the feed has spoken of lately. A job keeps its namespace
	// as long as it lives.
	namespaces map[muster.JobID]string
}

func (f *follower) run(ctx context.Context) error {
	if err := f.begin(ctx); err != nil {
		return err
	}
	grown, stop := f.engine.Changes()
	defer stop()
	var due <-chan time.Time // when the cursor is to be saved
	for {
		if err := f.goBack(); err != nil {
			return err
		}
		more, err := f.step(ctx)
		if err != nil {
			return err
		}
		if due == nil && f.unsaved() {
			due = time.After(saveAfter)
		}
		var changed <-chan struct{}
		if !more {
			changed = grown
		}
		select {
		case <-ctx.Done():
			return nil
		case <-due:
			due = nil
			if err := f.save(ctx); err != nil {
				return err
			}
		case <-changed:
		case <-f.back.asked:
		case <-ready(more):
		}
	}
}

// ready is a channel that delivers at once, or never.
func ready(now bool) <-chan struct{} {
	if now {
		return always
	}
	return nil
}

var always = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// begin finds out where telling goes on.
func (f *follower) begin(ctx context.Context) error {
	if f.begun {
		return nil
	}
	text, err := f.engine.Setting(ctx, f.cursor())
	if err != nil {
		return err
	}
	if text == "" && f.config.Cursor != nil {
		end, err := f.engine.FeedEnd(ctx)
		if err != nil {
			return err
		}
		if err := f.engine.SetSetting(ctx, f.cursor(), string(end)); err != nil {
			return err
		}
		text = string(end)
	}
	f.told = muster.Place(text)
	f.saved, f.savedAs, f.begun = f.told, f.cursor(), true
	f.API.told.reach(f.told, nil)
	return f.loadEvents(ctx)
}

func (a *API) cursor() string {
	if a.config.Cursor != nil {
		return a.config.Cursor()
	}
	return cursorSetting
}

// back is where telling is to go on from, because others have told no further.
type back struct {
	mu     sync.Mutex
	places []muster.Place
	asked  chan struct{}
}

// Rewind makes Follow tell again from a place on, if it is further: this process has taken over those to whom another
// one has told no more than that.
func (a *API) Rewind(to muster.Place) {
	a.back.mu.Lock()
	a.back.places = append(a.back.places, to)
	a.back.mu.Unlock()
	select {
	case a.back.asked <- struct{}{}:
	default:
	}
}

func (f *follower) goBack() error {
	f.back.mu.Lock()
	places := f.back.places
	f.back.places = nil
	f.back.mu.Unlock()
	for _, to := range places {
		place, err := f.engine.Earliest(f.told, to)
		if err != nil {
			return err
		}
		f.told = place
	}
	return nil
}

func (f *follower) unsaved() bool { return f.told != f.saved || f.cursor() != f.savedAs }

// save keeps the cursor, and has a look at the switches of events when it does.
func (f *follower) save(ctx context.Context) error {
	name := f.cursor()
	if err := f.engine.SetSetting(ctx, name, string(f.told)); err != nil {
		return err
	}
	f.saved, f.savedAs = f.told, name
	return f.loadEvents(ctx)
}

// step tells one batch of the feed, and reports whether there was any.
func (f *follower) step(ctx context.Context) (more bool, err error) {
	entries, err := f.engine.Feed(ctx, f.told, batchEntries)
	if err != nil {
		return false, err
	}
	if len(entries) == 0 {
		f.count.untold.Store(0)
		return false, nil
	}
	f.count.untold.Store(int64(entries[0].At))
	for i := range entries {
		if e := &entries[i]; e.Missed {
			f.log.Warn("the feed was cut off before it was told; some devices have missed notices", "told", f.told, "next", e.Place)
		}
	}
	if err := f.tell(ctx, entries); err != nil {
		return false, err
	}
	f.told = entries[len(entries)-1].Place
	f.API.told.reach(f.told, entries)
	f.count.read(entries, f.engine.Now())
	return true, nil
}

// A matter is something to be told: it is looked at, together with others, and then rendered.
type matter interface {
	look(engine.Glance)
	publications(context.Context) []Publication
}

// A telling is one batch of the feed on its way to subscribers.
type telling struct {
	*follower
	on      map[string]bool // events
	all     bool            // those too that AWS does not have
	notices map[noticeKey]*notice
	gone    rowsGone
	matters []matter // in feed order
}

// tell finds out what entries give to tell, and publishes it some at a time.
func (f *follower) tell(ctx context.Context, entries []muster.Entry) error {
	t := &telling{follower: f, on: f.events.enabled(), notices: map[noticeKey]*notice{}}
	if err := f.learn(ctx, entries); err != nil {
		return err
	}
	for i := range entries {
		for k := range entries[i].Facts {
			switch fact := &entries[i].Facts[k]; {
			case fact.Kind == muster.FactExecution:
				t.notice(fact)
			case fact.Kind == muster.FactMessage && !entries[i].Here && t.listening(fact.Name):
				t.matters = append(t.matters, message{fact})
			}
			if len(t.on) > 0 {
				t.event(&entries[i], k, entries)
			}
		}
	}
	for todo := t.matters; len(todo) > 0; {
		n := min(len(todo), batchLooks)
		err := f.engine.Look(ctx, func(l engine.Glance) {
			for _, m := range todo[:n] {
				m.look(l)
			}
		})
		if err != nil {
			return err
		}
		var all []Publication
		for _, m := range todo[:n] {
			all = append(all, m.publications(ctx)...)
		}
		if err := f.publish(ctx, all); err != nil {
			return err
		}
		f.count.told(todo[:n])
		todo = todo[n:]
	}
	return nil
}

// maxNamespaces bounds how many jobs' namespaces are remembered.
const maxNamespaces = 4096

// learn finds out the namespaces of jobs that the entries speak of. The facts of executions do not tell them.
func (f *follower) learn(ctx context.Context, entries []muster.Entry) error {
	if f.namespaces == nil || len(f.namespaces) > maxNamespaces {
		f.namespaces = map[muster.JobID]string{}
	}
	// What the feed itself says of jobs that come and go also holds for those that are gone by now.
	for i := range entries {
		for k := range entries[i].Facts {
			fact := &entries[i].Facts[k]
			if fact.Kind != muster.FactJob || fact.Before != "" && fact.After != "" {
				continue
			}
			var job struct{ Namespace string }
			if err := json.Unmarshal([]byte(fact.Before+fact.After), &job); err != nil {
				return err
			}
			f.namespaces[muster.JobID(fact.Name)] = job.Namespace
		}
	}
	var unknown []muster.JobID
	for i := range entries {
		for k := range entries[i].Facts {
			fact := &entries[i].Facts[k]
			if fact.Kind != muster.FactExecution || fact.Job == "" {
				continue
			}
			if _, known := f.namespaces[fact.Job]; !known {
				f.namespaces[fact.Job] = ""
				unknown = append(unknown, fact.Job)
			}
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	err := f.engine.Look(ctx, func(l engine.Glance) {
		for _, id := range unknown {
			if job, ok := l.Job(id); ok {
				f.namespaces[id] = job.Namespace
			}
		}
	})
	if err != nil {
		f.namespaces = nil // what was noted is not known
	}
	return err
}
