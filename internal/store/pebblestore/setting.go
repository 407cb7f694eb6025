package pebblestore

import "muster/internal/store"

func (r *reader) Setting(name string) string {
	v, _ := r.get(keyText(kSetting, name))
	return string(v)
}

// Settings reads the names as they lie on disk.
func (r *reader) Settings(prefix string, p store.Page) (out []store.Setting, next string, err error) {
	list := "settings\x00" + prefix
	place, err := store.PagePlace(list, p.After)
	if err != nil {
		return nil, "", err
	}
	lower := keyText(kSetting, prefix)
	if place != nil {
		lower = append(keyText(kSetting, string(place)), 0)
	}
	limit := max(1, p.Limit)
	r.scan(lower, after(keyText(kSetting, prefix)), func(k, v []byte) bool {
		if len(out) == limit {
			next = store.PageToken(list, []byte(out[limit-1].Name))
			return false
		}
		out = append(out, store.Setting{Name: string(k[1:]), Value: string(v)})
		return true
	})
	return out, next, nil
}
