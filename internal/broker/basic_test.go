package broker

import (
	"bytes"
	"testing"
)

func TestPublishReachesSubscriber(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		h := open(t, Options{})
		a, b := h.in(v, "a"), h.in(v, "b")
		if codes := a.subscribe(1, "x/+", "y"); !bytes.Equal(codes, []byte{1, 1}) {
			t.Fatal(codes)
		}
		if code := b.say(word{topic: "x/1", payload: "hello", qos: 1}); code != Success {
			t.Fatal(code)
		}
		if w := a.hear(); w.topic != "x/1" || w.payload != "hello" || w.qos != 1 || w.dup || w.retain {
			t.Fatalf("%+v", w)
		}
		b.say(word{topic: "y", payload: "low"})
		if w := a.hear(); w.topic != "y" || w.qos != 0 {
			t.Fatalf("%+v", w)
		}
		a.unsubscribe("y")
		b.say(word{topic: "y", payload: "unheard"})
		b.quiet()
		a.quiet()
		a.leave()
		h.gone(1)
	})
}

func TestAnswerComesWithPubackAndOnlyToTheAsker(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		h := open(t, Options{Hooks: Hooks{
			InterceptPrefix: "$aws/",
			Intercept: func(c *Client, m *Message) bool {
				c.Reply(&Message{Topic: m.Topic + "/accepted", Payload: append([]byte("re "), m.Payload...)})
				return true
			},
		}})
		a, other := h.in(v, "a"), h.in(v, "other")
		a.subscribe(1, "$aws/+/accepted")
		other.subscribe(1, "$aws/#")
		a.send(word{topic: "$aws/get", payload: "q", qos: 1, id: 7}.packet(v))
		a.expect([]byte{0x40, 2, 0, 7})
		if w := a.hear(); w.topic != "$aws/get/accepted" || w.payload != "re q" || w.qos != 1 {
			t.Fatalf("%+v", w)
		}
		a.unsubscribe("$aws/+/accepted")
		a.say(word{topic: "$aws/get", payload: "q", qos: 1})
		if w := a.hear(); w.qos != 0 {
			t.Fatalf("%+v", w)
		}
		a.quiet()
		other.quiet()
	})
}
