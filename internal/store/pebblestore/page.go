package pebblestore

import (
	"encoding/binary"

	"muster/internal/store"
)

// idPlace and idOf are places that are one id.
func idPlace(id uint32) []byte { return binary.BigEndian.AppendUint32(nil, id) }

func idOf(place []byte) (uint32, error) {
	if place == nil {
		return 0, nil
	}
	if len(place) != 4 {
		return 0, store.ErrToken()
	}
	return binary.BigEndian.Uint32(place), nil
}

// pageOfNames is a page of a list by name.
func pageOfNames[T ~string, R any](list string, names sorted[T], token string, limit int, row func(T) R) ([]R, string, error) {
	place, err := store.PagePlace(list, token)
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
		next = store.PageToken(list, []byte(rest[limit-1]))
	}
	out := make([]R, len(rest))
	for i, n := range rest {
		out[i] = row(n)
	}
	return out, next, nil
}
