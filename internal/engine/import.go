package engine

import (
	"context"

	"muster"
	"muster/internal/store"
)

// An ImportRow is one line of a bulk import: exactly one of the fields is set.
type ImportRow struct {
	Type   *muster.ThingType
	Group  *muster.Group
	Thing  *muster.Thing
	Member *muster.Membership
}

// ImportSlice is how many rows an import should hand over at a time.
const ImportSlice = 1000

// Import takes rows in order, in one transaction, as the operations for one of them would, and says
// what became of each: nil when it is there now (made, or there before and the same). A row that is
// refused leaves the others as they are.
func (g *Engine) Import(ctx context.Context, rows []ImportRow) (refused []error, err error) {
	refused = make([]error, len(rows))
	err = g.update(ctx, store.Keys{}, func(tx store.Tx, now muster.Time) error {
		clear(refused)
		for i, r := range rows {
			switch {
			case r.Type != nil:
				_, _, refused[i] = createThingType(tx, *r.Type, "", now)
			case r.Group != nil:
				_, _, refused[i] = createGroup(tx, *r.Group, "", now)
			case r.Thing != nil:
				_, _, refused[i] = createThing(tx, *r.Thing)
			case r.Member != nil:
				refused[i] = updateGroups(tx, r.Member.Thing, []muster.GroupName{r.Member.Group}, nil, now)
			}
		}
		return nil
	})
	return refused, err
}
