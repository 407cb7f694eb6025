package pebblestore

import (
	"encoding/binary"
	"slices"
	"strings"

	"muster"
	"muster/internal/store"
	"muster/internal/store/codec"
)

func (r *reader) Group(name muster.GroupName) (muster.Group, bool) {
	g := r.groups[name]
	if g == nil {
		return muster.Group{}, false
	}
	return g.row, true
}

func (r *reader) Groups(parent muster.GroupName, p store.Page) ([]muster.Group, string, error) {
	names := r.groupNames
	if parent != "" {
		names = nil
		if c := r.children[parent]; c != nil {
			names = *c
		}
	}
	return pageOfNames("groups\x00"+string(parent), names, p.After, p.Limit, func(n muster.GroupName) muster.Group { return r.groups[n].row })
}

// Members lists by tid.
func (r *reader) Members(name muster.GroupName, p store.Page) ([]muster.Membership, string, error) {
	list := "members\x00" + string(name)
	place, err := store.PagePlace(list, p.After)
	if err != nil {
		return nil, "", err
	}
	from, err := idOf(place)
	if err != nil {
		return nil, "", err
	}
	g := r.groups[name]
	if g == nil {
		return nil, "", nil
	}
	limit := max(1, p.Limit)
	var out []muster.Membership
	for it := iterateAfter(g.members, from); it.HasNext(); {
		if len(out) == limit {
			return out, store.PageToken(list, idPlace(from)), nil
		}
		from = it.Next()
		seq, _ := r.member(from, g.gid)
		out = append(out, muster.Membership{Group: name, Thing: r.thingName(from), Seq: seq})
	}
	return out, "", nil
}

func (r *reader) GroupsOf(name muster.ThingName) []muster.Membership {
	tid, ok := r.tidOf(name)
	if !ok {
		return nil
	}
	h := at(r.state.groupsOf, tid)
	if h == 0 {
		return nil
	}
	var out []muster.Membership
	for d := (codec.Decoder{B: r.slab.get(h)}); len(d.B) > 0 && !d.Bad; {
		gid, seq := uint32(d.Uvarint()), d.Uvarint()
		if g := r.byGID[gid]; g != nil {
			out = append(out, muster.Membership{Group: g.row.Name, Thing: name, Seq: seq})
		}
	}
	slices.SortFunc(out, func(a, b muster.Membership) int { return strings.Compare(string(a.Group), string(b.Group)) })
	return out
}

// member is the sequence of a membership.
func (s *state) member(tid, gid uint32) (seq uint64, ok bool) {
	h := at(s.groupsOf, tid)
	if h == 0 {
		return 0, false
	}
	for d := (codec.Decoder{B: s.slab.get(h)}); len(d.B) > 0 && !d.Bad; {
		g, seq := uint32(d.Uvarint()), d.Uvarint()
		if g == gid {
			return seq, true
		}
	}
	return 0, false
}

// withMember appends to out a thing's memberships with one set, or taken out if seq is 0 and drop is
// true.
func withMember(out, m []byte, gid uint32, seq uint64, drop bool) []byte {
	for d := (codec.Decoder{B: m}); len(d.B) > 0 && !d.Bad; {
		g, s := uint32(d.Uvarint()), d.Uvarint()
		if g != gid {
			out = binary.AppendUvarint(binary.AppendUvarint(out, uint64(g)), s)
		}
	}
	if !drop {
		out = binary.AppendUvarint(binary.AppendUvarint(out, uint64(gid)), seq)
	}
	return out
}
