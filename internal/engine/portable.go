package engine

import (
	"muster/internal/store"
)

// Portable is a row as another store can go on with it. How far work has come is kept with places in lists, which
// mean something to one store only: such work begins its present target, or its list, again. What it has done already it finds done.
func Portable(row store.Row) store.Row {
	switch r := row.(type) {
	case store.Job:
		if r.Parked != "" {
			parked := *r.Job
			parked.Parked = atTarget(r.Parked)
			return store.Job{Job: &parked}
		}
	case store.Deadline:
		switch r.Kind {
		case store.Rollout:
			r.Cursor = atTarget(r.Cursor)
		case store.Count:
			_, cursor, _ := cutLast(r.Cursor, '/')
			if c, err := parseRolloutCursor(cursor); err == nil {
				r.Cursor = "0/" + rolloutCursor{Job: c.Job, Slot: c.Slot}.String()
			}
		case store.Shown:
			_, seq, _ := cutLast(r.Cursor, '/')
			r.Cursor = "/" + seq
		}
		return r
	}
	return row
}

// atTarget is a cursor at the beginning of its target. One that cannot be read is for the rollout to refuse.
func atTarget(cursor string) string {
	c, err := parseRolloutCursor(cursor)
	if err != nil {
		return cursor
	}
	c.Place = treePage{}
	return c.String()
}
