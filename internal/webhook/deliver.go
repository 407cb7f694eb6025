package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"muster"
	"muster/internal/awsapi"
)

const (
	// saveAfter is how far the place of a hook may lag behind what was delivered: what comes again after a crash.
	saveAfter = time.Second
	// retryAfter is how long a hook rests after the store refused.
	retryAfter = time.Second
)

// A runner delivers for one hook. One goroutine reads and keeps the books; each lane that has something to deliver has one of
// its own, which also waits between attempts.
type runner struct {
	s      *Service
	hook   Hook
	cancel context.CancelFunc
	ended  chan struct{}
	room   chan struct{} // a dead letter is gone
	places chan struct{} // of requests under way
	done   chan *item

	lanes  map[string]*lane
	sent   []*item // in the order of the feed, from the oldest that is not done
	read   string  // how far the feed has been read
	behind int     // events in memory

	mu        sync.Mutex // the rest is for others to see
	waiting   int
	dead      int
	failing   string
	delivered muster.Time
	oldest    time.Time
}

// A lane is the events of one job, or those of no job, in their order.
type lane struct{ queue []*item }

// An item is an event on its way.
type item struct {
	id, topic, place string
	job              muster.JobID
	payload          []byte
	attempts         int
	came             time.Time
	finished         bool
}

func (s *Service) start(ctx context.Context, h Hook) *runner {
	r := &runner{s: s, hook: h, ended: make(chan struct{}), room: make(chan struct{}, 1), places: make(chan struct{}, maxAtOnce),
		done: make(chan *item), lanes: map[string]*lane{}}
	ctx, r.cancel = context.WithCancel(ctx)
	go func() {
		defer close(r.ended)
		r.run(ctx)
	}()
	return r
}

// stop ends the runner and waits until it has.
func (r *runner) stop() {
	r.cancel()
	<-r.ended
}

func (r *runner) run(ctx context.Context) {
	var lanes sync.WaitGroup
	defer lanes.Wait()
	for ctx.Err() == nil {
		if err := r.begin(ctx); err == nil {
			break
		} else if ctx.Err() == nil {
			r.s.Log.Error("a webhook cannot begin; it will be tried again", "webhook", r.hook.ID, "error", err)
			wait(ctx, retryAfter)
		}
	}
	if ctx.Err() != nil {
		return
	}
	grown, leave := r.s.Engine.Changes()
	defer leave()
	saved := r.read
	var due, rest <-chan time.Time
	more := true
	for {
		for more && rest == nil && !r.full() {
			var err error
			if more, err = r.fill(ctx, &lanes); err != nil && ctx.Err() == nil {
				r.s.Log.Error("a webhook is held up; it will be tried again", "webhook", r.hook.ID, "error", err)
				rest = time.After(retryAfter)
			}
			if ctx.Err() != nil {
				break
			}
		}
		if due == nil && r.place() != saved {
			due = time.After(saveAfter)
		}
		select {
		case <-ctx.Done():
			lanes.Wait()
			if at := r.place(); at != saved {
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), retryAfter)
				defer cancel()
				if err := r.save(last, at); err != nil {
					r.s.Log.Warn("how far a webhook has come could not be kept; some events will come again", "webhook", r.hook.ID, "error", err)
				}
			}
			return
		case i := <-r.done:
			r.finish(i, ctx, &lanes)
		case <-grown:
			more = true
		case <-rest:
			rest, more = nil, true
		case <-due:
			due = nil
			at := r.place()
			if err := r.save(ctx, at); err == nil {
				saved = at
			}
		}
	}
}

// begin finds out where delivering goes on.
func (r *runner) begin(ctx context.Context) (err error) {
	if r.read, err = r.s.Engine.Setting(ctx, placeSetting+r.hook.ID); err != nil {
		return err
	}
	letters, err := r.s.Engine.Settings(ctx, deadSetting+r.hook.ID+"/")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead = len(letters)
	return err
}

func (r *runner) save(ctx context.Context, place string) error {
	return r.s.Engine.SetSetting(ctx, placeSetting+r.hook.ID, place)
}

// place is the one behind which everything is done or read.
func (r *runner) place() string {
	if len(r.sent) == 0 {
		return r.read
	}
	return r.sent[0].place
}

func (r *runner) full() bool { return r.behind >= maxWaiting || len(r.sent) >= maxAhead }

var errFull = errors.New("webhook: enough is read")

// fill reads some of the feed. An item's place is the one before it: where to go on as long as it is not done.
func (r *runner) fill(ctx context.Context, lanes *sync.WaitGroup) (more bool, err error) {
	before := r.read
	take := func(i *item) error {
		if r.full() {
			return errFull
		}
		i.place = before
		r.add(ctx, i, lanes)
		return nil
	}
	missed := func() error {
		r.s.Log.Warn("the feed was cut off before a webhook was told; it has missed events", "webhook", r.hook.ID)
		return take(&item{id: uuid.NewString(), topic: "$aws/events/gap", payload: awsapi.Gap(r.read)})
	}
	r.read, more, err = r.s.API.Stream(ctx, r.read, &r.hook.Filter, missed, func(e *awsapi.StreamEvent) error {
		err := take(&item{id: e.ID, topic: e.Topic, job: e.Job, payload: e.Payload})
		if err == nil {
			before = e.Place
		}
		return err
	})
	if errors.Is(err, errFull) {
		return true, nil
	}
	return more, err
}

func (r *runner) add(ctx context.Context, i *item, lanes *sync.WaitGroup) {
	i.came = r.s.Now()
	r.sent = append(r.sent, i)
	r.behind++
	r.show()
	key := string(i.job)
	l := r.lanes[key]
	if l == nil {
		l = &lane{}
		r.lanes[key] = l
	}
	if l.queue = append(l.queue, i); len(l.queue) == 1 {
		r.send(ctx, i, lanes)
	}
}

// finish takes an item off the books, and lets the next of its lane go.
func (r *runner) finish(i *item, ctx context.Context, lanes *sync.WaitGroup) {
	i.finished, i.payload = true, nil
	r.behind--
	l := r.lanes[string(i.job)]
	if l.queue = l.queue[1:]; len(l.queue) > 0 {
		r.send(ctx, l.queue[0], lanes)
	} else {
		delete(r.lanes, string(i.job))
	}
	for len(r.sent) > 0 && r.sent[0].finished {
		r.sent = r.sent[1:]
	}
	r.show()
}

func (r *runner) show() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting, r.oldest = r.behind, time.Time{}
	if len(r.sent) > 0 {
		r.oldest = r.sent[0].came
	}
}

// send delivers an item, or makes a dead letter of it, on a goroutine of its own.
func (r *runner) send(ctx context.Context, i *item, lanes *sync.WaitGroup) {
	lanes.Go(func() {
		if !r.deliver(ctx, i) && !r.bury(ctx, i) {
			return // told to stop
		}
		select {
		case r.done <- i:
		case <-ctx.Done():
		}
	})
}

// deliver tries until the item is taken. It gives up after the hook's attempts, or when ctx ends.
func (r *runner) deliver(ctx context.Context, i *item) bool {
	for ctx.Err() == nil {
		select {
		case r.places <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		i.attempts++
		why, after := r.s.attempt(ctx, &r.hook, i)
		<-r.places
		if ctx.Err() != nil && why != "" {
			return false
		}
		r.mu.Lock()
		if r.failing = why; why == "" {
			r.delivered = r.s.Engine.Now()
		}
		r.mu.Unlock()
		if why == "" {
			r.s.counters.delivered.Add(1)
			return true
		}
		r.s.counters.failed.Add(1)
		r.s.Log.Debug("a webhook was not taken", "webhook", r.hook.ID, "event", i.id, "attempt", i.attempts, "reason", why)
		if i.attempts >= r.hook.Attempts {
			return false
		}
		wait(ctx, max(r.s.Pause(i.attempts), after))
	}
	return false
}

// bury makes a dead letter of an item, when there is room for one. It returns false when ctx ends first.
func (r *runner) bury(ctx context.Context, i *item) bool {
	told := false
	for ctx.Err() == nil {
		r.mu.Lock()
		full, why := r.dead >= MaxDead, r.failing
		if !full {
			r.dead++
		}
		r.mu.Unlock()
		if full {
			if !told {
				told = true
				r.s.Log.Error("a webhook rests: its dead letters are full; retry or drop some", "webhook", r.hook.ID, "deadLetters", MaxDead)
			}
			select {
			case <-ctx.Done():
			case <-r.room:
			case <-time.After(longestPause): // another process may have made room, which is not told here
			}
			continue
		}
		err := r.s.keepDead(ctx, r.hook.ID, DeadLetter{ID: i.id, Topic: i.topic, Job: i.job, Attempts: i.attempts, Reason: why, Failed: r.s.Engine.Now(), Event: i.payload})
		if err == nil {
			r.s.counters.dead.Add(1)
			r.s.Log.Warn("an event was not taken by a webhook and is a dead letter now", "webhook", r.hook.ID, "event", i.id, "attempts", i.attempts, "reason", why)
			return true
		}
		r.mu.Lock()
		r.dead--
		r.mu.Unlock()
		wait(ctx, retryAfter)
	}
	return false
}

// attempt sends an item once. why is empty if it was taken; after is how long the receiver asked to be left alone.
func (s *Service) attempt(ctx context.Context, h *Hook, i *item) (why string, after time.Duration) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(i.payload))
	if err != nil {
		return err.Error(), 0
	}
	request.Header = http.Header{"Content-Type": {"application/json"}, "User-Agent": {s.Agent},
		SignatureHeader: {Sign(h.Secret, s.Now(), i.payload)}, EventHeader: {i.id}, TopicHeader: {i.topic}, AttemptHeader: {strconv.Itoa(i.attempts)}}
	response, err := s.client.Do(request)
	if err != nil {
		return err.Error(), 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection can be used again
	if response.StatusCode/100 == 2 {
		return "", 0
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		after = min(time.Duration(seconds)*time.Second, longestPause)
	}
	return fmt.Sprintf("the receiver answered %s", response.Status), after
}

// wait waits, unless ctx ends first.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
