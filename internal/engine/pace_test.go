package engine

import (
	"math"
	"testing"

	"muster"
	"muster/internal/store"
)

// A tallied store knows only how many executions there are.
type tallied struct {
	store.Reader
	notified int64
}

func (r *tallied) Tally(muster.JobID) muster.Tally {
	return muster.Tally{muster.Queued: r.notified}
}

func (r *tallied) Counts(muster.JobID) muster.Counts {
	return muster.Counts{muster.Queued: r.notified}
}

// rates are all that AWS allows, and some of those that a server may.
func rates() (all []int64) {
	for n := int64(1); n <= muster.MaxPerMinute; n++ {
		all = append(all, n)
	}
	return append(all, 1001, 5000, 59_999, 60_000, 100_000, 1_000_000)
}

// At every rate there is, also with a loop that comes late now and then, no 60 seconds see more executions
// than the rate; and a loop that is on time loses less than one in a hundred.
func TestPaceAtEveryRate(t *testing.T) {
	for _, perMinute := range rates() {
		for _, late := range []muster.Time{0, 7} {
			job := &muster.Job{ID: "job", Settings: muster.Settings{Rollout: &muster.Rollout{MaximumPerMinute: perMinute}}}
			r := &tallied{}
			p := pace{job: job}
			now := start + 123
			var made []muster.Time
			for n := int64(0); n < 3*perMinute+3; n++ {
				now = max(now, muster.Time(math.Ceil(p.slot)))
				if late > 0 && n%5 == 0 {
					now += late * muster.Time(n%3)
				}
				if !p.ready(r, now) {
					t.Fatalf("%d a minute: not ready when its slot has come", perMinute)
				}
				r.notified++
				p.made(r, now)
				made = append(made, now)
				if i := len(made) - 1 - int(perMinute); i >= 0 && now < made[i]+60_000 {
					t.Fatalf("%d a minute: %d within %d ms", perMinute, perMinute+1, now-made[i]+1)
				}
			}
			if took := made[len(made)-1] - made[0]; late == 0 && took > 3*60_000*101/100+60_000/muster.Time(perMinute)*3 {
				t.Fatalf("%d a minute: three minutes' worth took %d ms", perMinute, took)
			}
		}
	}
}
