package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// publication is a message of QoS 1 as a server sends it.
func publication(id uint16, topic, payload string) []byte {
	out := mqttText(mqttLength([]byte{mqttPublish<<4 | 2}, 4+len(topic)+len(payload)), topic)
	return append(binary.BigEndian.AppendUint16(out, id), payload...)
}

func TestTripTellsAnswersByTopic(t *testing.T) {
	const topics = "$aws/things/thing-0000007/jobs/"
	answer := publication(2, topics+naiveJob+"/update/accepted", cannedAccepted)
	acked := []byte{mqttPuback << 4, 2, 0, 1}
	for name, c := range map[string]struct {
		packets [][]byte
		fails   string
	}{
		"acknowledged first":           {packets: [][]byte{acked, answer}},
		"answered first":               {packets: [][]byte{answer, acked}},
		"told of something before":     {packets: [][]byte{publication(9, topics+"notify-next", `{"timestamp":1}`), acked, answer}},
		"told of something in between": {packets: [][]byte{acked, publication(9, topics+"notify-next", `{"timestamp":1}`), answer}},
		"rejected":                     {packets: [][]byte{publication(2, topics+naiveJob+"/update/rejected", `{}`)}, fails: "/update/rejected"},
		"another's answer":             {packets: [][]byte{publication(2, topics+"other/update/accepted", cannedAccepted)}, fails: "other"},
		"another version":              {packets: [][]byte{publication(2, topics+naiveJob+"/update/accepted", `{"versionNumber":9}`)}, fails: "version 2 expected"},
		"acknowledged for another":     {packets: [][]byte{{mqttPuback << 4, 2, 0, 7}}, fails: "identifier 7"},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			near.SetDeadline(time.Now().Add(time.Minute))
			go func() {
				r := bufio.NewReader(far)
				r.ReadByte() // a pipe is unbuffered: the report has to be read before it is answered
				go io.Copy(io.Discard, r)
				for _, p := range c.packets {
					far.Write(p)
				}
			}()
			m := newDevice(near, 7)
			err := m.trip()
			switch {
			case c.fails == "" && err != nil:
				t.Error(err)
			case c.fails == "" && m.version != 2:
				t.Errorf("version %d", m.version)
			case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
				t.Errorf("%v, not an error that names %q", err, c.fails)
			}
		})
	}
}
