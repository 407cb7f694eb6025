package pebblestore

import (
	"context"
	"encoding/binary"
	"strconv"

	"muster"
	"muster/internal/store/codec"
)

// An entry collects the facts of a batch. On disk it is the number of facts in it and in all
// entries before, the time, and the facts, most of them about ten bytes: executions by the numbers
// of job and thing. Names are put in when it is read.
type entry struct {
	facts []byte
	n     uint64
	at    muster.Time
}

func (e *entry) cut(length int, n uint64, at muster.Time) {
	e.facts, e.n, e.at = e.facts[:length], n, at
}

func (e *entry) execution(tid, jid uint32, c *muster.Change, n muster.Notice) {
	e.facts = codec.AppendFact(e.facts, c, n, func(b []byte) []byte {
		return binary.AppendUvarint(binary.AppendUvarint(b, uint64(tid)), uint64(jid))
	})
	e.n++
	e.at = max(e.at, c.Execution().UpdatedAt)
}

func (t *tx) rowFact(kind muster.FactKind, name string, before, after []byte) {
	t.s.entry.row(kind, name, "", "", before, after)
}

func (t *tx) memberFact(g muster.GroupName, th muster.ThingName, before, after []byte) {
	t.s.entry.row(muster.FactMembership, "", th, g, before, after)
}

func (e *entry) row(kind muster.FactKind, name string, th muster.ThingName, g muster.GroupName, before, after []byte) {
	e.facts = codec.AppendRowFact(e.facts, &muster.Fact{Kind: kind, Name: name, Thing: th, Group: g, Before: string(before), After: string(after)})
	e.n++
}

// Feed reads what is durable, from RAM if it is young.
func (s *Store) Feed(ctx context.Context, place muster.Place, limit int) ([]muster.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var after uint64
	if place != "" {
		var err error
		if after, err = strconv.ParseUint(string(place), 10, 64); err != nil {
			return nil, muster.Errorf(muster.Invalid, "%q is not a place in the feed of this store", place)
		}
	}
	durable := s.durableFeed.Load()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if after >= durable || limit < 1 {
		return nil, s.open()
	}
	var out []muster.Entry
	r := &reader{state: s.state, s: s}
	if err := s.open(); err != nil {
		return nil, err
	}
	from := max(after+1, s.feedFirst)
	for ; from <= durable && len(out) < limit; from++ {
		v := s.recent.get(from)
		if v == nil {
			break
		}
		e, ok := r.decodeEntry(from, v)
		if !ok {
			return nil, r.err
		}
		out = append(out, e)
	}
	if len(out) == 0 {
		r.scan(feedKey(from), feedKey(durable+1), func(k, v []byte) bool {
			e, ok := r.decodeEntry(binary.BigEndian.Uint64(k[1:]), v)
			if ok {
				out = append(out, e)
			}
			return ok && len(out) < limit
		})
	}
	if r.err != nil {
		return nil, r.err
	}
	if len(out) > 0 {
		out[0].Missed = place != "" && out[0].Seq != after+1
	}
	return out, nil
}

// FeedEnd is the number of the newest entry that is durable.
func (s *Store) FeedEnd(ctx context.Context) (muster.Place, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return feedPlace(s.durableFeed.Load()), s.open()
}

func feedPlace(seq uint64) muster.Place { return muster.Place(strconv.FormatUint(seq, 10)) }

// decodeHead takes off an entry what stands before the facts.
func decodeHead(v []byte) (d codec.Decoder, total, n uint64, at muster.Time) {
	d = codec.Decoder{B: v}
	total = d.Uvarint()
	n = d.Uvarint()
	at = muster.Time(d.Uvarint())
	return d, total, n, at
}

func (r *reader) decodeEntry(seq uint64, v []byte) (muster.Entry, bool) {
	d, _, n, at := decodeHead(v)
	e := muster.Entry{Seq: seq, Place: feedPlace(seq), Here: true, At: at}
	if n <= uint64(len(d.B)) { // every fact takes more than a byte
		e.Facts = make([]muster.Fact, 0, n)
	}
	for len(d.B) > 0 && !d.Bad {
		e.Facts = append(e.Facts, d.Fact(r.factNames))
	}
	if d.Bad || uint64(len(e.Facts)) != n {
		r.fail(r.s.broken("entry %d of the feed does not decode", seq))
		return e, false
	}
	return e, true
}

// factNames puts in the names of an execution for the numbers that are on disk.
func (r *reader) factNames(d *codec.Decoder, f *muster.Fact) {
	f.Thing = r.thingName(uint32(d.Uvarint()))
	f.Job = r.jobID(uint32(d.Uvarint()))
}

// recent keeps the newest entries as they are on disk, for readers that keep up with the feed.
type recent struct {
	entries [256][]byte
	last    uint64
}

// maxRecent is the size of an entry that is not kept.
const maxRecent = 16 << 10

func (r *recent) put(seq uint64, v []byte) {
	if len(v) > maxRecent {
		v = nil
	}
	i := seq % uint64(len(r.entries))
	r.entries[i] = append(r.entries[i][:0], v...)
	r.last = seq
}

func (r *recent) get(seq uint64) []byte {
	if seq > r.last || r.last-seq >= uint64(len(r.entries)) {
		return nil
	}
	if v := r.entries[seq%uint64(len(r.entries))]; len(v) > 0 {
		return v
	}
	return nil
}
