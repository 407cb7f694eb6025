package broker

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// These measure a server in a process of its own, so that the load's memory and time are not counted.

const serverEnv = "BROKER_TEST_SERVER" // kind and address file of the server that this process is to be

// server starts one: "broker", "tls" or "bare".
func server(b *testing.B, kind string) (addr string, pid int) {
	addrFile := filepath.Join(b.TempDir(), "addr")
	cmd := testBinary(b, "-test.run=^$", "-test.bench=^BenchmarkServer$", "-test.benchtime=1x")
	cmd.Env = append(os.Environ(), serverEnv+"="+kind+" "+addrFile, "GODEBUG=madvdontneed=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); cmd.Wait() })
	until(b, func() bool { _, err := os.Stat(addrFile); return err == nil })
	text, err := os.ReadFile(addrFile)
	if err != nil {
		b.Fatal(err)
	}
	return string(text), cmd.Process.Pid
}

// BenchmarkServer is that process; by itself it does nothing.
func BenchmarkServer(b *testing.B) {
	kind, addrFile, ok := strings.Cut(os.Getenv(serverEnv), " ")
	if !ok {
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	if kind == "bare" {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go bare(conn)
			}
		}()
	} else {
		if kind == "tls" {
			cert, _ := certificate(b, "server")
			l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true})
		}
		go open(b, Options{Hooks: echo}).b.Serve(l)
	}
	os.WriteFile(addrFile+".tmp", []byte(l.Addr().String()), 0o600)
	os.Rename(addrFile+".tmp", addrFile)
	io.Copy(io.Discard, os.Stdin)
}

// BenchmarkServerCPU: what a round trip costs the server.
func BenchmarkServerCPU(b *testing.B) {
	for _, n := range []int{100, 1000} {
		for _, kind := range []string{"broker", "bare"} {
			b.Run(fmt.Sprint(kind, "-", n), func(b *testing.B) {
				addr, pid := server(b, kind)
				devices := make([]*device, n)
				for i := range devices {
					devices[i] = dialDevice(b, addr, i)
					defer devices[i].conn.Close()
				}
				before := cpuTicks(b, pid)
				b.ResetTimer()
				var wg sync.WaitGroup
				for _, d := range devices {
					wg.Go(func() {
						for range b.N/n + 1 {
							if err := d.trip(); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64(cpuTicks(b, pid)-before)*10_000/float64((b.N/n+1)*n), "server-µs/op")
			})
		}
	}
}

// BenchmarkIdleConnection: the server's resident memory for a connection at rest with three subscriptions.
func BenchmarkIdleConnection(b *testing.B) {
	const n = 4000
	for _, kind := range []string{"broker", "tls", "bare"} {
		b.Run(kind, func(b *testing.B) {
			for range b.N {
				b.ReportMetric(float64(idle(b, kind, n))/n, "B/conn")
			}
		})
	}
}

// idle returns by how much a server grows with n connections.
func idle(b *testing.B, kind string, n int) int {
	addr, pid := server(b, kind)
	for i := range 50 { // so that what comes with the first ones is not counted
		defer connectIdle(b, addr, kind, n+i).Close()
	}
	before := resident(b, pid)
	for i := range n {
		defer connectIdle(b, addr, kind, i).Close()
	}
	return resident(b, pid) - before
}

func connectIdle(b *testing.B, addr, kind string, i int) net.Conn {
	if kind != "tls" {
		return dialDevice(b, addr, i).conn
	}
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		b.Fatal(err)
	}
	return newDevice(b, conn, i).conn
}

func proc(b *testing.B, pid int, file string) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// cpuTicks is a process's time so far, in hundredths of a second.
func cpuTicks(b *testing.B, pid int) int {
	text := proc(b, pid, "stat")
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}

// resident is a process's resident memory.
func resident(b *testing.B, pid int) int {
	s := bufio.NewScanner(strings.NewReader(proc(b, pid, "status")))
	for s.Scan() {
		if rest, ok := strings.CutPrefix(s.Text(), "VmRSS:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kb << 10
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
