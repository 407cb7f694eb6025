package store

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"

	"muster"
)

// PageToken is the next of a page: the place in the list where it ended, with a sum over the place and what the
// list is of: a token of another list, of another filter or of somebody's making is refused. Places
// are names or ids, never offsets, so that what comes and goes elsewhere moves nothing.
func PageToken(list string, place []byte) string {
	b := append([]byte(nil), place...)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(b, tokenSum(list, place)))
}

// PagePlace is the place of a token, nil for the first page.
func PagePlace(list, token string) ([]byte, error) {
	if token == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) < 4 {
		return nil, ErrToken()
	}
	place, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if sum != tokenSum(list, place) {
		return nil, ErrToken()
	}
	return place, nil
}

// ErrToken refuses a token.
func ErrToken() error {
	return muster.Errorf(muster.Invalid, "The nextToken is not one that this list returned")
}

func tokenSum(list string, place []byte) uint32 {
	h := fnv.New32a()
	h.Write([]byte(list))
	h.Write([]byte{0})
	h.Write(place)
	return h.Sum32()
}
