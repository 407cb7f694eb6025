package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// machine is what a reader needs to know before comparing two tables.
type machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	MemoryMiB  int64  `json:"memory_mib,omitempty"`
	OS         string `json:"os"`
	Go         string `json:"go"`
	Pebble     string `json:"pebble,omitempty"`
	Dir        string `json:"-"` // where it happens to be says nothing to others
	FileSystem string `json:"file_system,omitempty"`
}

func describeMachine(dir string) machine {
	m := machine{
		CPU:        procField("/proc/cpuinfo", "model name"),
		Cores:      runtime.NumCPU(),
		OS:         runtime.GOOS + "/" + runtime.GOARCH,
		Go:         runtime.Version(),
		Dir:        dir,
		FileSystem: fileSystem(dir),
	}
	if m.CPU == "" {
		m.CPU = runtime.GOARCH
	}
	if kb, ok := strings.CutSuffix(procField("/proc/meminfo", "MemTotal"), " kB"); ok {
		n, _ := strconv.ParseInt(kb, 10, 64)
		m.MemoryMiB = n >> 10
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.OS += " " + strings.TrimSpace(string(release))
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if strings.HasPrefix(dep.Path, "github.com/cockroachdb/pebble") {
				m.Pebble = dep.Version
			}
		}
	}
	return m
}

func (m machine) String() string {
	s := fmt.Sprintf("%s, %d cores, %s MiB, %s, %s, pebble %s, data on %s",
		m.CPU, m.Cores, thousands(m.MemoryMiB), m.OS, m.Go, m.Pebble, m.FileSystem)
	if m.FileSystem == "tmpfs" {
		s += "\nwarning: syncing to tmpfs costs nothing; choose a disk with -dir"
	}
	return s
}

// procField returns the first value of "name : value" in a /proc file, or "".
func procField(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
