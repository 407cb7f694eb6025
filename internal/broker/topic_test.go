package broker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, x := range []struct {
		filter, topic string
		want          bool
	}{
		// The examples of section 4.7 of both specifications.
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true},
		{"#", "sport", true},
		{"#", "/", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+", "finance", true},
		{"+", "/finance", false},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+/tennis/#", "sport/tennis", true},
		{"sport/+/player1", "sport/tennis/player1", true},
		{"ACCOUNTS", "Accounts", false},
		{"Accounts payable", "Accounts payable", true},
		// [MQTT-4.7.2-1]
		{"#", "$SYS/uptime", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"$SYS/#", "$SYS/uptime", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		// What devices subscribe.
		{"$aws/things/T/jobs/+/update/accepted", "$aws/things/T/jobs/fw/update/accepted", true},
		{"$aws/things/T/jobs/+/get/accepted", "$aws/things/T/jobs/$next/get/accepted", true},
		{"$aws/things/T/jobs/#", "$aws/things/T/jobs/notify", true},
		{"$aws/things/T/jobs/#", "$aws/things/U/jobs/notify", false},
		{"a//b", "a//b", true},
		{"a/+/b", "a//b", true},
		{"a/b", "a/b/", false},
		{"a/b/", "a/b", false},
	} {
		if got := Match(x.filter, x.topic); got != x.want {
			t.Errorf("Match(%q, %q) = %v", x.filter, x.topic, got)
		}
		if got := len(matching(t, []string{x.filter}, x.topic)) == 1; got != x.want {
			t.Errorf("index: %q, %q = %v", x.filter, x.topic, got)
		}
	}
}

func TestValidFiltersAndTopics(t *testing.T) {
	for f, want := range map[string]bool{
		"#": true, "+": true, "a/#": true, "+/+/#": true, "/": true, "//": true, "a/+/b": true, " ": true, "$a/+": true,
		"": false, "a#": false, "a/#/b": false, "#/a": false, "a+": false, "+a/b": false, "a/b+": false, "a\x00": false, "##": false, "a/++": false,
	} {
		if validFilter(f) != want {
			t.Errorf("filter %q: %v", f, !want)
		}
	}
	for topic, want := range map[string]bool{
		"a": true, "/": true, "a/b c": true, "$aws/x": true, "": false, "a/+": false, "#": false, "a\x00b": false, "a+b": false,
	} {
		if validTopic(topic) != want {
			t.Errorf("topic %q: %v", topic, !want)
		}
	}
	for f, want := range map[string][3]string{
		"$share/g/a/+":  {"g", "a/+", "ok"},
		"$share/g//":    {"g", "/", "ok"},
		"$share/g/$a/b": {"g", "$a/b", "ok"},
		"$shared/g/a":   {"", "$shared/g/a", "ok"},
		"a/$share/b":    {"", "a/$share/b", "ok"},
		"$share":        {}, "$share/": {}, "$share/g": {}, "$share/g/": {}, "$share//a": {}, "$share/g+/a": {}, "$share/#/a": {},
	} {
		group, inner, ok := SplitShare(f)
		if group != want[0] || inner != want[1] || ok != (want[2] == "ok") {
			t.Errorf("SplitShare(%q) = %q %q %v", f, group, inner, ok)
		}
	}
}

// matching returns which of filters the index finds for topic.
func matching(t *testing.T, filters []string, topic string) []string {
	x := newIndex()
	var added []*subscription
	for i, f := range filters {
		u := &subscription{s: &session{number: uint64(i)}, filter: f}
		x.add(u, "")
		added = append(added, u)
	}
	list, _ := x.match(nil, topic, 1)
	if x.has(topic) != (len(list) > 0) {
		t.Errorf("has(%q) is wrong", topic)
	}
	var found []string
	for _, u := range list {
		found = append(found, u.filter)
	}
	for _, u := range added {
		x.remove(u)
	}
	if x.has(topic) || len(x.count) != 0 || x.size.Load() != 0 {
		t.Errorf("index is not empty after all: %v", x.count)
	}
	for i := range x.shards {
		if len(x.shards[i].leaves) != 0 {
			t.Errorf("leaves are left: %v", x.shards[i].leaves)
		}
	}
	slices.Sort(found)
	return found
}

// The index against a walk over all filters, with a world small enough for everything to collide.
func TestIndexAgainstNaive(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"a", "b", "", "$x", "cc"}
	level := func(wild bool) string {
		if wild && r.IntN(3) == 0 {
			return "+"
		}
		return words[r.IntN(len(words))]
	}
	path := func(wild bool) string {
		levels := make([]string, 1+r.IntN(5))
		for i := range levels {
			levels[i] = level(wild)
		}
		if wild && r.IntN(4) == 0 {
			levels[len(levels)-1] = "#"
		}
		p := strings.Join(levels, "/")
		if p == "" {
			return "a"
		}
		return p
	}
	x := newIndex()
	sessions := make([]*session, 20)
	for i := range sessions {
		sessions[i] = &session{number: uint64(i)}
		sessions[i].online.Store(true)
	}
	type key struct {
		s             *session
		group, filter string
	}
	live := map[key]*subscription{}
	for step := range 30_000 {
		s := sessions[r.IntN(len(sessions))]
		switch k := (key{s, []string{"", "", "g", "h"}[r.IntN(4)], path(true)}); {
		case live[k] != nil:
			x.remove(live[k])
			delete(live, k)
		case r.IntN(3) > 0 && len(live) > 300:
			for k, u := range live {
				x.remove(u)
				delete(live, k)
				break
			}
		default:
			u := &subscription{s: s, filter: k.filter}
			x.add(u, k.group)
			live[k] = u
		}
		if step%10 > 0 {
			continue
		}
		topic := path(false)
		var want []string
		for k := range live {
			switch {
			case !Match(k.filter, topic):
			case k.group != "":
				want = append(want, k.group+" "+k.filter)
			default:
				want = append(want, fmt.Sprint(k.s.number, " ", k.filter))
			}
		}
		slices.Sort(want)
		want = slices.Compact(want) // one of each group
		list, several := x.match(nil, topic, 1)
		var got []string
		for _, u := range list {
			if u.group != nil {
				got = append(got, u.group.name+" "+u.filter)
			} else {
				got = append(got, fmt.Sprint(u.s.number, " ", u.filter))
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("step %d, topic %q:\n got %q\nwant %q", step, topic, got, want)
		}
		twice := map[*session]bool{}
		for _, u := range list {
			if twice[u.s] && !several {
				t.Fatalf("step %d, topic %q: a session is there twice", step, topic)
			}
			twice[u.s] = true
		}
	}
}

func FuzzTopic(f *testing.F) {
	for _, seed := range [][2]string{{"a/+/#", "a/b/c"}, {"#", "$aws/x"}, {"$share/g/a", "a"}, {"+", "/"}, {"a//", "a//"}} {
		f.Add(seed[0], seed[1])
	}
	l := Limits{Topic: 400, Slashes: 30}.withDefaults()
	f.Fuzz(func(t *testing.T, filter, topic string) {
		group, inner, ok := SplitShare(filter)
		if ok && group != "" && sharePrefix+group+"/"+inner != filter {
			t.Fatalf("SplitShare(%q) = %q %q", filter, group, inner)
		}
		if !ok || !validFilter(inner) || !validTopic(topic) || !l.fits(inner) || !l.fits(topic) {
			return
		}
		want := matchSlowly(strings.Split(inner, "/"), strings.Split(topic, "/"), topic[0] == '$')
		if got := Match(inner, topic); got != want {
			t.Fatalf("Match(%q, %q) = %v", inner, topic, got)
		}
		x := newIndex()
		u := &subscription{s: &session{}, filter: inner}
		x.add(u, "")
		if x.has(topic) != want {
			t.Fatalf("index: %q, %q = %v", inner, topic, !want)
		}
		x.remove(u)
		root := &retained{b: &Broker{limits: Limits{}.withDefaults()}}
		root.set(&Message{Topic: topic, Payload: []byte("x")})
		if got := len(root.match(inner)) == 1; got != want {
			t.Fatalf("retained: %q, %q = %v", inner, topic, got)
		}
		if !root.cut(topic) || len(root.root.next) != 0 || root.bytes != 0 || root.count != 0 {
			t.Fatalf("retained: %q is still there", topic)
		}
	})
}

func matchSlowly(filter, topic []string, hidden bool) bool {
	switch {
	case len(filter) == 0:
		return len(topic) == 0
	case filter[0] == "#":
		return !hidden
	case len(topic) == 0:
		return false
	case filter[0] == "+":
		return !hidden && matchSlowly(filter[1:], topic[1:], false)
	}
	return filter[0] == topic[0] && matchSlowly(filter[1:], topic[1:], false)
}

// A million devices with three subscriptions each.
func BenchmarkIndex(b *testing.B) {
	x := newIndex()
	s := &session{}
	for i := range 1_000_000 {
		for _, f := range deviceFilters(i) {
			x.add(&subscription{s: s, filter: f}, "")
		}
	}
	topics := make([]string, 1024)
	for i := range topics {
		topics[i] = deviceFilters(i * 977)[0]
	}
	var list []*subscription
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if list, _ = x.match(list[:0], topics[i%len(topics)], 1); len(list) != 1 {
			b.Fatal(len(list))
		}
	}
	b.ReportMetric(float64(heapOf(x))/3e6, "heap-B/sub")
}
