package pebblestore

import (
	"encoding/binary"

	"muster"
	"muster/internal/store"
)

// Every key begins with the byte of its kind. Ids are big endian, so that keys sort as the ids do.
//
//	M             meta            counters of ids, sequence
//	V             format          version of this layout, as text
//	t tid         thing name      state, name, type
//	a tid         thing           the rest of a registered thing's row
//	n tid gid     membership      sequence
//	g gid         group           JSON
//	y name        thing type      JSON
//	p id          template        JSON
//	k kind 0 name tags            pairs
//	d due kind subject  deadline  cursor
//	j jid         job             JSON
//	o jid         document        text, source
//	c jid         counters        by status
//	s jid         sealed sets     of a job that is over
//	e jid tid num execution       record
//	z jid tid     spent           empty: all executions of the job on the thing are deleted; else some
//	h tid ^jid    history         the last number the thing had of the job
//	q jid         garbage         things whose history of a deleted job is still to be removed
//	x jid         dead job        its id, while the feed may speak of it
//	f seq         feed            an entry
//	w name        setting         its value
//	L             loading         there while Load fills the store
const (
	kMeta     = 'M'
	kFormat   = 'V'
	kName     = 't'
	kThing    = 'a'
	kMember   = 'n'
	kGroup    = 'g'
	kType     = 'y'
	kTemplate = 'p'
	kTags     = 'k'
	kDeadline = 'd'
	kJob      = 'j'
	kDocument = 'o'
	kCounts   = 'c'
	kSealed   = 's'
	kExec     = 'e'
	kSpent    = 'z'
	kHistory  = 'h'
	kGarbage  = 'q'
	kDead     = 'x'
	kFeed     = 'f'
	kSetting  = 'w'
	kLoading  = 'L'
)

func key1(kind byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, id)
}

func key2(kind byte, a, b uint32) []byte {
	k := make([]byte, 0, 9)
	return appendKey2(k, kind, a, b)
}

func appendKey2(k []byte, kind byte, a, b uint32) []byte {
	k = append(k, kind)
	k = binary.BigEndian.AppendUint32(k, a)
	return binary.BigEndian.AppendUint32(k, b)
}

func keyText(kind byte, name string) []byte {
	return append([]byte{kind}, name...)
}

func appendExecKey(k []byte, jid, tid uint32, number int64) []byte {
	return appendNumber(appendKey2(k, kExec, jid, tid), number)
}

func execKey(jid, tid uint32, number int64) []byte {
	return appendExecKey(make([]byte, 0, 12), jid, tid, number)
}

func historyKey(tid, jid uint32) []byte { return key2(kHistory, tid, ^jid) }

func feedKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kFeed}, seq)
}

func tagsKey(of muster.Ref) []byte {
	k := append([]byte{kTags}, of.Kind...)
	return append(append(k, 0), of.Name...)
}

func deadlineKey(d store.Deadline) []byte {
	k := binary.BigEndian.AppendUint64([]byte{kDeadline}, uint64(d.Due)^1<<63)
	return append(append(k, byte(d.Kind)), d.Subject...)
}

// splitDeadline takes a deadline's key of at least ten bytes apart.
func splitDeadline(k []byte) store.Deadline {
	return store.Deadline{Due: muster.Time(binary.BigEndian.Uint64(k[1:]) ^ 1<<63), Kind: store.DeadlineKind(k[9]), Subject: string(k[10:])}
}

// appendNumber encodes a number from 0 up in as few bytes as it takes, in an order that is the
// numbers': below 240 in one byte, else a byte that tells the length.
func appendNumber(k []byte, n int64) []byte {
	u := uint64(n)
	if u < 240 {
		return append(k, byte(u))
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], u)
	i := 0
	for b[i] == 0 {
		i++
	}
	return append(append(k, byte(240+8-i)), b[i:]...)
}

func cutNumber(k []byte) (n int64, rest []byte, ok bool) {
	if len(k) == 0 {
		return 0, nil, false
	}
	if k[0] < 240 {
		return int64(k[0]), k[1:], true
	}
	l := int(k[0]) - 240
	if l < 1 || l > 8 || len(k) < 1+l {
		return 0, nil, false
	}
	var u uint64
	for _, c := range k[1 : 1+l] {
		u = u<<8 | uint64(c)
	}
	return int64(u), k[1+l:], true
}

// splitExecKey takes an execution's key apart.
func splitExecKey(k []byte) (jid, tid uint32, number int64, ok bool) {
	if len(k) < 10 || k[0] != kExec {
		return 0, 0, 0, false
	}
	number, rest, ok := cutNumber(k[9:])
	return binary.BigEndian.Uint32(k[1:]), binary.BigEndian.Uint32(k[5:]), number, ok && len(rest) == 0
}

// split2 takes a key of two ids apart.
func split2(k []byte) (a, b uint32, ok bool) {
	if len(k) != 9 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(k[1:]), binary.BigEndian.Uint32(k[5:]), true
}

// split1 takes a key of one id apart.
func split1(k []byte) (id uint32, ok bool) {
	if len(k) != 5 {
		return 0, false
	}
	return binary.BigEndian.Uint32(k[1:]), true
}

// after is the first key that does not begin with prefix.
func after(prefix []byte) []byte {
	k := append([]byte(nil), prefix...)
	for i := len(k) - 1; i >= 0; i-- {
		if k[i]++; k[i] != 0 {
			return k[:i+1]
		}
	}
	return nil
}
