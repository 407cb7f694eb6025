package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

type versionCmd struct{}

// Run prints the version, the commit and what it was built with.
func (versionCmd) Run(w world) error {
	fmt.Fprintf(w.stdout, "muster %s\n", version())
	if info, ok := debug.ReadBuildInfo(); ok {
		var commit, at, changed string
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				commit = s.Value
			case "vcs.time":
				at = " of " + s.Value
			case "vcs.modified":
				if s.Value == "true" {
					changed = ", with changes"
				}
			}
		}
		if commit != "" {
			fmt.Fprintf(w.stdout, "commit %s%s%s\n", commit, at, changed)
		}
	}
	fmt.Fprintf(w.stdout, "%s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// version is what this binary was built from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
