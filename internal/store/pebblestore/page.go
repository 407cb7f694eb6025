package pebblestore

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"

	"muster"
)

// A page's token is the place in the list where it ended, with a sum over the place and what the
// list is of: a token of another list, of another filter or of somebody's making is refused. Places
// are ids, never offsets, so that what comes and goes elsewhere moves nothing.

func pageToken(list string, place []byte) string {
	b := append([]byte(nil), place...)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(b, tokenSum(list, place)))
}

// placeOf is the place of a token, nil for the first page.
func placeOf(list, token string) ([]byte, error) {
	if token == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) < 4 {
		return nil, errToken()
	}
	place, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if sum != tokenSum(list, place) {
		return nil, errToken()
	}
	return place, nil
}

func errToken() error {
	return muster.Errorf(muster.Invalid, "The nextToken is not one that this list returned")
}

func tokenSum(list string, place []byte) uint32 {
	h := fnv.New32a()
	h.Write([]byte(list))
	h.Write([]byte{0})
	h.Write(place)
	return h.Sum32()
}

// idPlace and idOf are places that are one id.
func idPlace(id uint32) []byte { return binary.BigEndian.AppendUint32(nil, id) }

func idOf(place []byte) (uint32, error) {
	if place == nil {
		return 0, nil
	}
	if len(place) != 4 {
		return 0, errToken()
	}
	return binary.BigEndian.Uint32(place), nil
}

// pageOfNames is a page of a list by name.
func pageOfNames[T ~string, R any](list string, names sorted[T], token string, limit int, row func(T) R) ([]R, string, error) {
	place, err := placeOf(list, token)
	if err != nil {
		return nil, "", err
	}
	rest := []T(names)
	if place != nil {
		rest = names.after(T(place))
	}
	next := ""
	if limit = max(1, limit); len(rest) > limit {
		rest = rest[:limit]
		next = pageToken(list, []byte(rest[limit-1]))
	}
	out := make([]R, len(rest))
	for i, n := range rest {
		out[i] = row(n)
	}
	return out, next, nil
}
