package fleet

import (
	"errors"
	"sync/atomic"
	"time"

	"muster"
	"muster/internal/broker"
)

// A device is one simulated device: an agent that finds its executions and works on them, on one goroutine. What it
// remembers outlives its connections, as flash memory does.
type device struct {
	f        *Fleet
	name     string
	index    int
	style    Style
	wire     wire
	conn     atomic.Pointer[broker.Conn] // to be interrupted
	attempts []attempt
	opened   bool // the last connection came to be
}

// An attempt is what a device knows of an execution.
type attempt struct {
	number  int64
	job     uint32 // index in Fleet.jobs
	nth     uint16 // of the job on this device, from 0
	step    uint16 // steps that are done
	state   state
	status  muster.Status // that it has reported, or tried to
	crashed bool
	erred   bool // a stale version has been tried
}

type state byte

const (
	open   state = iota // at work, or begun and not over
	flying              // the last report is on its way; nobody knows whether it arrived
	hung                // nothing more will be reported
	ended               // the report of the end was accepted
	lost                // the service ended it
	unsure              // it is over, by the last report or by the service
)

var (
	errCrashed = errors.New("the power was cut")
	errOffline = errors.New("it goes offline")
)

// Waits between attempts to connect.
const (
	firstBackoff = time.Second
	lastBackoff  = 30 * time.Second
)

func (d *device) topic(rest string) string { return "$aws/things/" + d.name + "/jobs/" + rest }

// run is the life of a device, until the fleet stops.
func (d *device) run() {
	f := d.f
	if f.sleep(f.Plan.Arrive.at(f.Plan.unit(d.name, facetArrival))) != nil {
		return
	}
	backoff := firstBackoff
	phase := f.Plan.unit(d.name, facetPhase)
	for f.ctx.Err() == nil {
		if off, _ := f.Plan.Online.away(phase, time.Since(f.started)); off > 0 {
			_ = f.sleep(off)
			continue
		}
		d.opened = false
		err := d.live(phase)
		if d.opened {
			f.stats.Online.Add(-1)
			backoff = firstBackoff
		}
		switch {
		case f.ctx.Err() != nil:
			d.wire.close(true)
		case errors.Is(err, errCrashed):
			d.wire.close(false)
			f.stats.Crashes.Add(1)
			_ = f.sleep(f.Plan.Down.at(f.Plan.unit(d.name, facetDown, uint64(len(d.attempts)))))
		case errors.Is(err, errOffline):
			d.wire.close(true)
		default:
			d.wire.close(false)
			f.broke(d, err)
			_ = f.sleep(backoff)
			backoff = min(2*backoff, lastBackoff)
		}
	}
}

// live is one connection. It returns why the connection is over.
func (d *device) live(phase float64) error {
	if err := d.wire.open(); err != nil {
		return err
	}
	d.opened = true
	d.f.stats.Connects.Add(1)
	d.f.stats.Online.Add(1)
	var offered *execution
	for ask := true; ; {
		if ask {
			var err error
			if offered, err = d.ask(phase); err != nil {
				return err
			}
		}
		idle := offered == nil || d.waits(offered)
		if !idle {
			again, err := d.work(offered, phase)
			if err != nil {
				return err
			}
			// Who lives by notices is told what is next; others ask at once.
			if ask = again || d.style != Notify; ask {
				continue
			}
		}
		news, err := d.pause(d.f.Plan.Poll, d.style != Poll, phase)
		if err != nil {
			return err
		}
		if ask = !news || d.style != Notify; !ask {
			offered, _ = d.wire.noticed()
			d.reconcile(offered)
		}
	}
}

// waits says whether an execution that is offered is one that nothing can be done about.
func (d *device) waits(e *execution) bool {
	a := d.find(e)
	return a != nil && (a.state == hung || a.state == ended)
}

// ask asks for what is next, in the device's style.
func (d *device) ask(phase float64) (e *execution, err error) {
	d.wire.noticed() // the answer says more than what was said before it
	err = d.patiently(phase, func() error {
		if d.style == StartNext {
			e, err = d.wire.startNext()
		} else {
			e, err = d.wire.next()
		}
		return err
	})
	if err == nil {
		d.reconcile(e)
	}
	return e, err
}

// patiently asks again while the service says that it is busy.
func (d *device) patiently(phase float64, ask func() error) error {
	for wait := firstBackoff / 4; ; wait = min(2*wait, lastBackoff) {
		began := time.Now()
		err := ask()
		d.f.stats.request(time.Since(began), err)
		if _, busy := isRefused(err, codeThrottled, codeInternal); !busy {
			return err
		}
		if _, err := d.pause(wait, false, phase); err != nil {
			return err
		}
	}
}

// pause waits while the device is online; then it goes.
func (d *device) pause(wait time.Duration, wake bool, phase float64) (news bool, err error) {
	_, on := d.f.Plan.Online.away(phase, time.Since(d.f.started))
	news, err = d.wire.rest(time.Now().Add(min(wait, on)), wake)
	if err == nil && !news && on < wait {
		err = errOffline
	}
	return news, err
}

func (d *device) find(e *execution) *attempt {
	job := d.f.job(e.JobID)
	for i := range d.attempts {
		if a := &d.attempts[i]; a.job == job && a.number == e.Number {
			return a
		}
	}
	return nil
}

// reconcile takes note of what the service says is next: what is in progress would come first, so whatever else this device
// has begun is over.
func (d *device) reconcile(offered *execution) {
	for i := range d.attempts {
		a := &d.attempts[i]
		if offered != nil && a.number == offered.Number && d.f.job(offered.JobID) == a.job {
			continue
		}
		switch a.state {
		case open:
			a.state = lost
			d.f.stats.InHand.Add(-1)
		case hung:
			a.state = lost
		case flying: // it may have arrived
			a.state = unsure
			d.f.stats.InHand.Add(-1)
		}
	}
}

// begin finds what the device knows of an execution, or begins to know it.
func (d *device) begin(e *execution) *attempt {
	if a := d.find(e); a != nil {
		switch a.state {
		case lost, unsure:
			d.f.stats.InHand.Add(1)
			a.state = open // it is not over, whatever it looked like
		case flying:
			a.state = open
		}
		return a
	}
	a := attempt{number: e.Number, job: d.f.job(e.JobID)}
	for _, b := range d.attempts {
		if b.job == a.job {
			a.nth++
		}
	}
	d.attempts = append(d.attempts, a)
	d.f.stats.Begun.Add(1)
	d.f.stats.InHand.Add(1)
	return &d.attempts[len(d.attempts)-1]
}

// work works on an execution until it is over, hangs or the connection ends. again: the service refused something, and
// what it thinks should be asked for.
func (d *device) work(e *execution, phase float64) (again bool, err error) {
	a := d.begin(e)
	if a.state != open {
		return false, nil
	}
	p, nth := &d.f.Plan, int(a.nth)
	outcome, turn := p.Outcome(d.name, nth), p.turn(d.name, nth)
	r := report{number: e.Number, expected: e.Version, of: p.Steps, step: int(a.step)}
	if outcome == Reject {
		r.reason = "not-for-this-model"
		return d.end(a, e.JobID, muster.Rejected, r, outcome, phase)
	}
	if e.Status == muster.Queued.String() {
		if again, err := d.report(a, e.JobID, muster.InProgress, &r, outcome, phase); again || err != nil {
			return again, err
		}
	}
	for step := int(a.step); step < p.Steps; step++ {
		if _, err := d.pause(p.think(d.name, nth, step), false, phase); err != nil {
			return false, err
		}
		r.step = step + 1
		if step == turn {
			switch {
			case outcome == Hang:
				a.state = hung
				d.f.stats.Hung.Add(1)
				d.f.stats.InHand.Add(-1)
				d.f.tell(d, e.JobID, nth, "hangs")
				return false, nil
			case outcome == Fail:
				r.reason = "checksum"
				return d.end(a, e.JobID, muster.Failed, r, outcome, phase)
			case outcome == Crash && !a.crashed:
				a.crashed = true
				d.f.tell(d, e.JobID, nth, "loses power")
				return false, errCrashed
			case outcome == Stale && !a.erred:
				if again, err := d.stale(a, e.JobID, r, phase); again || err != nil {
					return again, err
				}
			}
		}
		if step == p.Steps-1 {
			break // the last step is the end
		}
		if again, err := d.report(a, e.JobID, muster.InProgress, &r, outcome, phase); again || err != nil {
			return again, err
		}
		a.step = uint16(step + 1)
	}
	return d.end(a, e.JobID, muster.Succeeded, r, outcome, phase)
}

// report sends an update. Afterwards r expects the version that it made.
func (d *device) report(a *attempt, job string, status muster.Status, r *report, outcome Outcome, phase float64) (again bool, err error) {
	r.status = status.String()
	err = d.patiently(phase, func() error {
		if outcome != Duplicate {
			return d.wire.update(job, *r)
		}
		errs := d.wire.twice(job, *r)
		_, refused := isRefused(errs[1], codeVersion, codeState)
		switch {
		case errs[0] == nil && errs[1] == nil:
			d.f.wrong("%s: a report of %s, sent twice, was accepted twice", d.name, job)
		case errs[0] == nil && refused:
			d.f.stats.Duplicates.Add(1)
		case errs[0] == nil && errs[1] != nil:
			return errs[1]
		}
		return errs[0]
	})
	if _, refused := isRefused(err); refused {
		d.f.refused(d, job, err)
		return true, nil
	}
	if err == nil {
		r.expected++
	}
	return false, err
}

// end reports the end of an attempt.
func (d *device) end(a *attempt, job string, status muster.Status, r report, outcome Outcome, phase float64) (again bool, err error) {
	a.state, a.status = flying, status
	again, err = d.report(a, job, status, &r, outcome, phase)
	switch {
	case again:
		a.state = open
	case err == nil:
		a.state = ended
		d.f.stats.Ended[status].Add(1)
		d.f.stats.InHand.Add(-1)
		if status != muster.Succeeded {
			d.f.tell(d, job, int(a.nth), "reports "+status.String()+": "+r.reason)
		}
	}
	return again, err
}

// stale expects a version that is not the present one, which must be refused with the present one.
func (d *device) stale(a *attempt, job string, r report, phase float64) (again bool, err error) {
	present := r.expected
	r.expected, r.status = present-1, muster.InProgress.String()
	err = d.patiently(phase, func() error { return d.wire.update(job, r) })
	refusal, refused := isRefused(err)
	switch {
	case err == nil:
		a.erred = true
		d.f.wrong("%s: a report of %s that expected version %d was accepted at version %d", d.name, job, r.expected, present)
		return true, nil
	case !refused:
		return false, err
	case refusal.Code != codeVersion || refusal.Version != present:
		d.f.refused(d, job, err) // it is over, or somebody else has changed it
		return true, nil
	}
	a.erred = true
	d.f.stats.StaleRefused.Add(1)
	return false, nil
}
