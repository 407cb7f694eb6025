// Command muster is an AWS IoT Jobs service of one's own: muster serve.
//
// It is the only place that reads flags, the environment and the files they name; what it finds goes
// to package server as plain values.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"muster"
)

type cli struct {
	Serve    serveCmd    `cmd:"" help:"Run the service."`
	Apply    applyCmd    `cmd:"" help:"Make jobs, templates and groups as a file says, after showing the plan."`
	Import   importCmd   `cmd:"" help:"Take things, types, groups and memberships in bulk, or an export of everything, as JSON lines."`
	Export   exportCmd   `cmd:"" help:"Write everything a store holds as JSON lines, to move it to another one."`
	Backup   backupCmd   `cmd:"" help:"Copy a store, also while a server uses it."`
	Cert     certCmd     `cmd:"" help:"Make certificates for trying out TLS and devices that show who they are."`
	Check    checkCmd    `cmd:"" help:"Verify the store of a stopped server."`
	Demo     demoCmd     `cmd:"" help:"See it move: a server, a thousand devices, a firmware job. Start here."`
	DryRun   dryRunCmd   `cmd:"" name:"dry-run" help:"Tell what a job would come to, without creating it."`
	Explain  explainCmd  `cmd:"" help:"Tell why a job does not move."`
	Job      jobCmd      `cmd:"" help:"Hold a job, resume it, or try again what failed in it."`
	Ready    readyCmd    `cmd:"" help:"Ask a running server whether it can take requests."`
	Simulate simulateCmd `cmd:"" help:"Play a fleet of devices, and hold what comes out against its seed."`
	Watch    watchCmd    `cmd:"" help:"Follow a job to its end, of any service."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
}

// A world is what a command may touch.
type world struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

// open is a file to be read, of which - is the standard input.
func (w world) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(w.stdin), nil
	}
	return os.Open(name)
}

// An exit ends the process with a code; what there is to say has been said.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// What the process ends with. check and import use exitProblems for what they found.
const (
	exitProblems = 1
	exitFailed   = 2
)

func main() {
	os.Exit(run(os.Args[1:], world{os.Stdin, os.Stdout, os.Stderr}))
}

func run(args []string, w world) (code int) {
	ended := -1
	parser, err := kong.New(new(cli),
		kong.Name("muster"),
		kong.Description("A self-hosted, drop-in AWS IoT Jobs service: AWS SDKs, the AWS CLI and devices use it in place of AWS."),
		kong.Writers(w.stdout, w.stderr),
		kong.Exit(func(code int) { ended = code; panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 110}),
		kong.ExplicitGroups(groups),
		kong.Bind(w),
	)
	if err != nil {
		panic(err) // the structs above are wrong
	}
	// Kong asks to end the process after it has printed help.
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(exit); !ok {
				panic(p)
			}
			code = ended
		}
	}()
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(w.stderr, "muster: %s\nmuster --help, or --help behind a command, tells what there is.\n", sentence(err))
		return exitFailed
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks to stop; the second one, not caught any more, ends the process at once.
	context.AfterFunc(ctx, stop)
	command.BindTo(ctx, (*context.Context)(nil))

	err = command.Run()
	if code, ok := errors.AsType[exit](err); ok {
		return int(code)
	}
	if err != nil {
		fmt.Fprintf(w.stderr, "muster: %s\n", sentence(err))
		return exitFailed
	}
	return 0
}

// sentence is an error as one readable line. What lies below an error of the domain is for the person
// at the terminal too, unlike for clients.
func sentence(err error) string {
	text := err.Error()
	if known, ok := errors.AsType[*muster.Error](err); ok && known.Kind == muster.Unavailable && known.Cause != nil && strings.HasSuffix(known.Message, "in use by another process") {
		text = known.Message // how the lock was refused adds nothing
	}
	return strings.ReplaceAll(text, "\n", "; ")
}

// logger makes the log that the flags ask for.
func logger(w io.Writer, format, level string) *slog.Logger {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		panic(err) // the flag allows only levels
	}
	o := &slog.HandlerOptions{Level: least}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// warnings is the log of commands that are not the server: only what somebody has to know.
func warnings(w world) *slog.Logger { return logger(w.stderr, "text", "warn") }
