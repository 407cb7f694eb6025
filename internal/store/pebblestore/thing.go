package pebblestore

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"muster"
	"muster/internal/store"
	"muster/internal/store/codec"
)

// scanBound is how many rows a page of a filtered list may look at.
const scanBound = 2000

// A name's row says whether the thing is registered, what its name is and of which type it is. The
// rest of a registered thing is a row of its own, so that opening a store reads names only.
const (
	nameRegistered = iota
	nameGone       // not registered, but it has or had executions
	nameDropped    // nothing is left; the feed spoke of it up to the entry that follows
)

func encodeName(state byte, feed uint64, name muster.ThingName, typ muster.TypeName) []byte {
	b := binary.AppendUvarint([]byte{state}, feed)
	return append(codec.AppendText(b, name), typ...)
}

func decodeName(v []byte) (state byte, feed uint64, name []byte, typ muster.TypeName, ok bool) {
	d := codec.Decoder{B: v}
	state = d.Byte()
	feed = d.Uvarint()
	name = d.Bytes(d.Uvarint())
	return state, feed, name, muster.TypeName(d.B), !d.Bad && len(name) > 0
}

func encodeThing(t *muster.Thing) []byte {
	b := appendID(nil, t.ID)
	b = binary.AppendUvarint(b, uint64(t.Version))
	b = codec.AppendText(b, t.Type)
	b = codec.AppendText(b, t.BillingGroup)
	return append(b, t.Attributes...)
}

func decodeThing(v []byte, name muster.ThingName) (t muster.Thing, ok bool) {
	d := codec.Decoder{B: v}
	t.Name = name
	t.ID = decodeID(&d)
	t.Version = int64(d.Uvarint())
	t.Type = muster.TypeName(d.Text())
	t.BillingGroup = d.Text()
	t.Attributes = muster.Pairs(d.B)
	return t, !d.Bad && t.Attributes.Valid()
}

// appendID writes a UUID in 16 bytes, anything else as it is.
func appendID(b []byte, id string) []byte {
	var raw [16]byte
	if parseUUID(&raw, id) && formatUUID(raw[:]) == id {
		return append(append(b, 0), raw[:]...)
	}
	return codec.AppendText(append(b, 1), id)
}

// uuidParts are where the groups of digits lie, in the text and in the bytes.
var uuidParts = [...]struct{ text, raw, n int }{{0, 0, 4}, {9, 4, 2}, {14, 6, 2}, {19, 8, 2}, {24, 10, 6}}

func parseUUID(raw *[16]byte, id string) bool {
	if len(id) != 36 {
		return false
	}
	for _, p := range uuidParts {
		if _, err := hex.Decode(raw[p.raw:p.raw+p.n], []byte(id[p.text:p.text+2*p.n])); err != nil {
			return false
		}
	}
	return true
}

func formatUUID(raw []byte) string {
	out := [36]byte{8: '-', 13: '-', 18: '-', 23: '-'}
	for _, p := range uuidParts {
		hex.Encode(out[p.text:], raw[p.raw:p.raw+p.n])
	}
	return string(out[:])
}

func decodeID(d *codec.Decoder) string {
	if d.Byte() == 1 {
		return d.Text()
	}
	raw := d.Bytes(16)
	if d.Bad {
		return ""
	}
	return formatUUID(raw)
}

func (s *state) thingName(tid uint32) muster.ThingName { return muster.ThingName(s.names.name(tid)) }

func (r *reader) Thing(name muster.ThingName) (muster.Thing, bool) {
	tid, ok := r.tidOf(name)
	if !ok || !r.registered.Contains(tid) {
		return muster.Thing{}, false
	}
	v, ok := r.get(key1(kThing, tid))
	if !ok {
		return muster.Thing{}, false
	}
	t, ok := decodeThing(v, name)
	if !ok {
		r.fail(r.s.broken("the row of thing %s does not decode", name))
	}
	return t, ok
}

// Things lists by tid: the order in which the things were first heard of.
func (r *reader) Things(f store.ThingFilter, p store.Page) ([]muster.Thing, string, error) {
	list := fmt.Sprintf("things\x00%s\x00%s\x00%s\x00%t", f.Type, f.Attribute, f.Value, f.Prefix)
	place, err := store.PagePlace(list, p.After)
	if err != nil {
		return nil, "", err
	}
	from, err := idOf(place)
	if err != nil {
		return nil, "", err
	}
	set := r.registered
	if f.Type != "" {
		set = r.types[f.Type]
	}
	if set == nil {
		return nil, "", nil
	}
	cur := r.cursor([]byte{kThing}, []byte{kThing + 1})
	defer cur.close()
	limit := max(1, p.Limit)
	var out []muster.Thing
	it := iterateAfter(set, from)
	var key []byte
	for seen := 0; it.HasNext(); seen++ {
		if len(out) == limit || seen == max(scanBound, limit) {
			return out, store.PageToken(list, idPlace(from)), nil
		}
		tid := it.Next()
		from = tid
		key = binary.BigEndian.AppendUint32(append(key[:0], kThing), tid)
		v, ok := cur.get(key)
		if !ok {
			if r.err == nil {
				r.fail(r.s.broken("thing %s has no row", r.thingName(tid)))
			}
			return nil, "", nil
		}
		t, ok := decodeThing(v, r.thingName(tid))
		if !ok {
			r.fail(r.s.broken("the row of thing %s does not decode", r.thingName(tid)))
			return nil, "", nil
		}
		if f.Attribute != "" {
			have, ok := t.Attributes.Get(f.Attribute)
			if !ok || have != f.Value && !(f.Prefix && strings.HasPrefix(have, f.Value)) {
				continue
			}
		}
		out = append(out, t)
	}
	return out, "", nil
}

// iterateAfter goes through the ids of a set that are larger than one.
func iterateAfter(b *roaring.Bitmap, id uint32) roaring.IntPeekable {
	it := b.Iterator()
	it.AdvanceIfNeeded(id)
	if it.HasNext() && it.PeekNext() == id {
		it.Next()
	}
	return it
}

func (r *reader) ThingType(name muster.TypeName) (muster.ThingType, bool) {
	t, ok := r.typeRows[name]
	return t, ok
}

func (r *reader) ThingTypes(p store.Page) ([]muster.ThingType, string, error) {
	return pageOfNames("types", r.typeNames, p.After, p.Limit, func(n muster.TypeName) muster.ThingType { return r.typeRows[n] })
}

func (r *reader) Template(id muster.TemplateID) (muster.Template, bool) {
	t, ok := r.templates[id]
	return t, ok
}

func (r *reader) Templates(p store.Page) ([]muster.Template, string, error) {
	return pageOfNames("templates", r.tmplNames, p.After, p.Limit, func(n muster.TemplateID) muster.Template { return r.templates[n] })
}

func (r *reader) Tags(of muster.Ref) muster.Pairs {
	v, _ := r.get(tagsKey(of))
	return muster.Pairs(v)
}
