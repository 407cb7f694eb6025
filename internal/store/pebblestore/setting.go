package pebblestore

import (
	"strings"

	"muster"
	"muster/internal/store"
)

func (r *reader) Setting(name string) string {
	v, _ := r.get(keyText(kSetting, name))
	return string(v)
}

// Settings pages by name: what it returned last is where the next page begins.
func (r *reader) Settings(prefix string, p store.Page) (out []store.Setting, next string, err error) {
	from := keyText(kSetting, prefix)
	if p.After != "" {
		if !strings.HasPrefix(p.After, prefix) {
			return nil, "", muster.Errorf(muster.Invalid, "the page token is not one that this list returned")
		}
		from = append(keyText(kSetting, p.After), 0)
	}
	r.scan(from, after(keyText(kSetting, prefix)), func(k, v []byte) bool {
		if len(out) == p.Limit {
			next = out[len(out)-1].Name
			return false
		}
		out = append(out, store.Setting{Name: string(k[1:]), Value: string(v)})
		return true
	})
	return out, next, nil
}
