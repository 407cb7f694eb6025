package broker

import "strings"

// maxLevels bounds the levels of a topic, whatever the settings say: the index keeps a bit for each.
const maxLevels = 31

const sharePrefix = "$share/"

// validTopic reports whether t may name a topic: at least one character [MQTT-4.7.3-1]
// [MQTT3-4.7.3-1], no wildcard [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT3-3.3.2-2] [MQTT3-4.7.1-1], no NUL [MQTT-4.7.3-2]
// [MQTT3-4.7.3-2], at most 65,535 bytes [MQTT-4.7.3-3] [MQTT3-4.7.3-3].
func validTopic(t string) bool {
	return t != "" && len(t) <= 65535 && strings.IndexByte(t, '+') < 0 && strings.IndexByte(t, '#') < 0 &&
		strings.IndexByte(t, 0) < 0
}

// validFilter reports whether f may be a topic filter, without a share name. Length and NUL are as for topics.
func validFilter(f string) bool {
	if f == "" || len(f) > 65535 || strings.IndexByte(f, 0) >= 0 {
		return false
	}
	for i := 0; i < len(f); i++ {
		switch f[i] {
		case '#': // [MQTT-4.7.1-1] [MQTT3-4.7.1-2]: last, alone in its level
			if i != len(f)-1 || i > 0 && f[i-1] != '/' {
				return false
			}
		case '+': // [MQTT-4.7.1-2] [MQTT3-4.7.1-3]: alone in its level
			if i > 0 && f[i-1] != '/' || i < len(f)-1 && f[i+1] != '/' {
				return false
			}
		}
	}
	return true
}

// SplitShare splits $share/{group}/{filter}. ok is false when a filter begins like a shared one and is none.
// A filter that is not shared comes back whole, with an empty group.
// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
func SplitShare(filter string) (group, inner string, ok bool) {
	if filter != "$share" && !strings.HasPrefix(filter, sharePrefix) {
		return "", filter, true
	}
	if filter == "$share" {
		return "", "", false
	}
	group, inner, ok = strings.Cut(filter[len(sharePrefix):], "/")
	if !ok || group == "" || inner == "" || strings.ContainsAny(group, "+#") {
		return "", "", false
	}
	return group, inner, true
}

// Match reports whether a valid filter, without a share name, matches a valid topic.
func Match(filter, topic string) bool {
	if topic != "" && topic[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false // [MQTT-4.7.2-1] [MQTT3-4.7.2-1]
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, trest, tmore := strings.Cut(topic, "/")
		if f != "+" && f != t { // [MQTT-4.7.3-4] [MQTT3-4.7.3-4]: as they are
			return false
		}
		switch {
		case fmore && tmore:
			filter, topic = frest, trest
		case fmore:
			return frest == "#" // the parent level is matched too
		default:
			return !tmore
		}
	}
}

// fits reports whether a topic or filter is within the limits of length and depth.
func (l *Limits) fits(t string) bool {
	return len(t) <= l.Topic && strings.Count(t, "/") <= l.Slashes
}
