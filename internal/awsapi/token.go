package awsapi

import (
	"encoding/base64"
	"hash/crc32"
	"strings"

	"muster"
	"muster/internal/engine"
)

// defaultPage is how many rows a page has when the client does not say (control-plane.md §1).
const defaultPage = 100

// page reads the paging members of a request. list names the list and its filters: a token is good
// for that list only.
func page(list string, limit *int64, token *string) (engine.Page, error) {
	p := engine.Page{Limit: defaultPage}
	if limit != nil {
		p.Limit = int(*limit)
	}
	if token == nil || *token == "" {
		return p, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(*token)
	head, after, ok := strings.Cut(string(raw), "|")
	if err != nil || !ok || head != listMark(list) || after == "" {
		return p, muster.Errorf(muster.Invalid, "nextToken is not one that this list returned")
	}
	p.After = after
	return p, nil
}

// nextToken is the token of the page after, nil at the end.
func nextToken(list, after string) *string {
	if after == "" {
		return nil
	}
	token := base64.RawURLEncoding.EncodeToString([]byte(listMark(list) + "|" + after))
	return &token
}

func listMark(list string) string {
	sum := crc32.ChecksumIEEE([]byte(list))
	return base64.RawURLEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}
