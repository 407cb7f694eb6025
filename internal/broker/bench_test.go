package broker

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// echo answers every request with a canned message, as an engine would that costs nothing.
var echo = Hooks{
	InterceptPrefix: "$aws/",
	Intercept: func(c *Client, m *Message) bool {
		c.Reply(&Message{Topic: m.Topic + "/accepted", Payload: canned})
		return true
	},
}

var (
	request = []byte(`{"status":"IN_PROGRESS","statusDetails":{"step":"download","progress":"42","rate":"1200"},` +
		`"expectedVersion":2,"includeJobExecutionState":false,"clientToken":"5f0c9a3e-8a57-4f0e-9d3b-0123456789ab"}`)
	canned = []byte(`{"clientToken":"5f0c9a3e-8a57-4f0e-9d3b-0123456789ab","timestamp":1753000100}`)
)

func deviceFilters(i int) [3]string {
	t := "$aws/things/device-" + strconv.Itoa(i) + "/jobs/"
	return [3]string{t + "notify-next", t + "start-next/accepted", t + "+/update/accepted"}
}

func updateTopic(i int) string { return "$aws/things/device-" + strconv.Itoa(i) + "/jobs/fw-42/update" }

// BenchmarkRoundTrip: an update with QoS 1 over loopback, its PUBACK, its answer with QoS 1, and the PUBACK of that.
// The load is made in the same process, so compare with "bare", a loop of the same shape with no broker in it.
func BenchmarkRoundTrip(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run("broker-"+strconv.Itoa(n), func(b *testing.B) {
			h := open(b, Options{Hooks: echo})
			roundTrips(b, h.addr, n)
		})
		b.Run("bare-"+strconv.Itoa(n), func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					go bare(conn)
				}
			}()
			roundTrips(b, l.Addr().String(), n)
		})
	}
}

func roundTrips(b *testing.B, addr string, n int) {
	devices := make([]*device, n)
	for i := range devices {
		devices[i] = dialDevice(b, addr, i)
		defer devices[i].conn.Close()
	}
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, d := range devices {
		trips := b.N / n
		if i < b.N%n {
			trips++
		}
		wg.Go(func() {
			for range trips {
				if err := d.trip(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// device is the cheapest client there can be.
type device struct {
	conn net.Conn
	r    *bufio.Reader
	ask  []byte
	body []byte
}

func dialDevice(t testing.TB, addr string, i int) *device {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newDevice(t, conn, i)
}

func newDevice(t testing.TB, conn net.Conn, i int) *device {
	d := &device{conn: conn, r: bufio.NewReaderSize(conn, 1024), body: make([]byte, 512)}
	b := call{id: "device-" + strconv.Itoa(i)}.packet(V311)
	body := join(uint16(1))
	for _, f := range deviceFilters(i) {
		body = join(body, str(f), 1)
	}
	conn.Write(append(b, packet(0x82, body)...))
	for range 2 {
		if _, err := d.read(); err != nil {
			t.Fatal(err)
		}
	}
	d.ask = word{topic: updateTopic(i), payload: string(request), qos: 1, id: 1}.packet(V311)
	return d
}

func (d *device) read() (first byte, err error) {
	if first, err = d.r.ReadByte(); err != nil {
		return
	}
	var n, shift int
	for {
		c, err := d.r.ReadByte()
		if err != nil {
			return 0, err
		}
		n |= int(c&0x7F) << shift
		if c < 0x80 {
			break
		}
		shift += 7
	}
	_, err = io.ReadFull(d.r, d.body[:n])
	return
}

func (d *device) trip() error {
	if _, err := d.conn.Write(d.ask); err != nil {
		return err
	}
	for acked, answered := false, false; !acked || !answered; {
		first, err := d.read()
		if err != nil {
			return err
		}
		switch first >> 4 {
		case tPuback:
			acked = true
		case tPublish:
			answered = true
			n := 2 + int(binary.BigEndian.Uint16(d.body))
			if _, err := d.conn.Write([]byte{0x40, 2, d.body[n], d.body[n+1]}); err != nil {
				return err
			}
		}
	}
	return nil
}

// bare is a goroutine per connection that answers as the broker would, with no session, index or limit.
func bare(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 1024)
	body := make([]byte, 1024)
	var out []byte
	var id uint16
	for {
		first, err := r.ReadByte()
		if err != nil {
			return
		}
		n, shift := 0, 0
		for {
			c, err := r.ReadByte()
			if err != nil {
				return
			}
			n |= int(c&0x7F) << shift
			if c < 0x80 {
				break
			}
			shift += 7
		}
		if _, err := io.ReadFull(r, body[:n]); err != nil {
			return
		}
		out = out[:0]
		switch first >> 4 {
		case tConnect:
			out = append(out, 0x20, 2, 0, 0)
		case tSubscribe:
			out = append(out, 0x90, 5, body[0], body[1], 1, 1, 1)
		case tPublish:
			t := 2 + int(binary.BigEndian.Uint16(body))
			topic := string(body[2:t])
			payload := append([]byte(nil), body[t+2:n]...)
			_ = payload
			id++
			out = append(out, 0x40, 2, body[t], body[t+1])
			out = append(out, 0x32)
			out = appendVarint(out, 4+len(topic)+len("/accepted")+len(canned))
			out = appendText(out, topic+"/accepted")
			out = append(out, byte(id>>8), byte(id))
			out = append(out, canned...)
		}
		if len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return
			}
		}
	}
}
