// Package store is the seam between the engine and what keeps its rows. A store knows nothing of
// rules: it keeps what it is told, finds it again, and makes one act look like one moment. It never
// derives a status, a queue order is the one that package muster defines, and time is whatever the
// rows say.
package store

import (
	"context"
	"iter"
	"strconv"
	"strings"
	"time"

	"muster"
)

// A Batch is what one commit did, for who watches.
type Batch struct {
	Updates int
	Bytes   int           // given to the log; 0 where the log is somebody else's
	Took    time.Duration // from the first function to durable, tries included
	Sync    time.Duration // of that, the wait for the disk, or for the database to write and to commit
	Err     error         // nil: it is durable
}

// Keys name the things, jobs and groups whose rows an Update writes. Other rows may be read at their
// last committed state. Stores without row locks ignore them.
type Keys struct {
	Things []muster.ThingName
	Jobs   []muster.JobID
	Groups []muster.GroupName
}

// A Store keeps rows durably.
//
// Errors are *muster.Error of kind Unavailable when durability cannot be promised (a full disk, a
// failed sync, a closed store), or whatever the given function returned.
type Store interface {
	// Update runs fn so that it and every other Update on the same keys appear to happen one at a time,
	// and returns once what it wrote is durable. fn may run more than once; it must touch nothing but tx.
	// Many Updates may share one commit. Update never returns while fn runs; a ctx that ends keeps fn from being begun. When fn returns an error nothing it wrote is kept, and the
	// error is returned once everything fn could see is durable.
	Update(ctx context.Context, on Keys, fn func(Tx) error) error

	// View runs fn on a committed state that does not change meanwhile, and returns once everything fn
	// could see is durable. fn must be short: on some stores writers wait for it.
	View(ctx context.Context, fn func(Reader) error) error

	// Feed returns up to limit entries behind a place, those of one thing in commit order, none skipped. The feed
	// is kept for a bounded time; an entry that follows on others that are gone says so. A place that the
	// store never gave is an error of kind Invalid.
	Feed(ctx context.Context, after muster.Place, limit int) ([]muster.Entry, error)

	// FeedEnd is the place behind the newest entry.
	FeedEnd(ctx context.Context) (muster.Place, error)

	// Exact reports whether an Update has the store to itself while it runs, so that the sums it reads are final. Where
	// several write at a time sums are those of what is committed, and jobs are settled behind the feed.
	Exact() bool

	// Share says which of the background work is this process's: that on jobs and things whose names it owns, so that
	// each is done by one of several processes. version changes when the share does.
	Share() (owns func(name string) bool, version uint64)

	// Changed delivers after commits: at least once after the last of them, many may share one delivery.
	Changed() <-chan struct{}

	// Backup writes a consistent copy of the store into dir, which must not exist, while the store is in use.
	Backup(ctx context.Context, dir string) error

	// Dump gives every row of one committed state but the feed, in an order that Load takes: what a row speaks of comes
	// before it, things, groups and jobs come as they were made, the executions of a thing at a job by number. Counters,
	// queues and indexes are not rows. What fn returns ends it.
	Dump(ctx context.Context, fn func(Row) error) error

	// Load fills an empty store with what Dump gave, and makes counters, queues and indexes; the feed is told nothing. ok is
	// false behind the last row. Nobody else may use the store meanwhile. A store that has things, types, groups, templates,
	// tags, jobs or deadlines is refused as Invalid; settings that it has are replaced. After an error, one of next's
	// included, the store is either as it was, or fails and cannot be opened again.
	Load(ctx context.Context, next func() (row Row, ok bool, err error)) error

	// Check verifies what is kept (counters against a recount, queues, indexes, the feed) and reports
	// each problem as a sentence.
	Check(ctx context.Context, problem func(string)) error

	// Health is nil while the store can promise durability.
	Health() error

	// Close makes everything acknowledged durable and releases the store.
	Close() error
}

// A Shared store is used by several processes at a time. Each is a node of it.
type Shared interface {
	Store
	// Node is this process's name; it has another one after it was taken for dead.
	Node() string
	// Alive reports whether a node lives. In doubt it does.
	Alive(ctx context.Context, node string) bool
	// Lonely reports whether no other node lives, as far as this one has seen lately.
	Lonely() bool
	// Lost delivers when this process was taken for dead: what it held by being alive is others' now.
	Lost() <-chan struct{}
	// Earliest is the place behind which two readers of the feed, at given places, have all still to read.
	Earliest(a, b muster.Place) (muster.Place, error)
}

// A Page asks for part of a list. After is empty for the first page, or what the last page returned as
// next; Limit is at least 1. An after that the list never returned is an error of kind Invalid.
type Page struct {
	After string
	Limit int
}

// A Row is something that Put keeps and Delete removes, found by the fields that name it.
type Row interface{ row() }

type (
	// Thing and the other rows without more text are the nouns of package muster.
	Thing     struct{ muster.Thing }
	ThingType struct{ muster.ThingType }
	Group     struct{ muster.Group }
	Member    struct{ muster.Membership }
	Template  struct{ muster.Template }
	// Job replaces the job row. Deleting it deletes its document and every execution it has left,
	// without telling of each; the engine deletes pending executions by Keep before.
	Job struct{ *muster.Job }
	// Document is the document of a job.
	Document struct {
		Job muster.JobID
		muster.Document
	}
	// Tags are all tags of a resource; empty ones delete the row.
	Tags struct {
		Of   muster.Ref
		Tags muster.Pairs
	}
	// Setting is a value that the service itself keeps, by name. An empty value deletes it.
	Setting struct{ Name, Value string }
	// Message is kept by the feed alone: it tells what a client of this process has published to other processes.
	Message struct {
		Topic, Payload string
		QoS            byte
	}
	// Deadline is something to be done at a time; its name is all fields but Cursor.
	Deadline struct {
		Due     muster.Time
		Kind    DeadlineKind
		Subject string // a job id: what the kind says
		Cursor  string // how far the work has come
	}
)

// Rows that only Dump gives and Load takes.
type (
	// Execution is one execution, pending or over.
	Execution struct{ muster.Execution }
	// Spent is the last number that a thing had of a job, where that execution was deleted.
	Spent struct {
		Job    muster.JobID
		Thing  muster.ThingName
		Number int64
	}
	// Seq is at least what NextSeq returned last.
	Seq uint64
)

func (Thing) row()     {}
func (ThingType) row() {}
func (Group) row()     {}
func (Member) row()    {}
func (Template) row()  {}
func (Job) row()       {}
func (Document) row()  {}
func (Tags) row()      {}
func (Setting) row()   {}
func (Message) row()   {}
func (Deadline) row()  {}
func (Execution) row() {}
func (Spent) row()     {}
func (Seq) row()       {}

// A DeadlineKind says what is due.
type DeadlineKind uint8

const (
	Rollout   DeadlineKind = iota + 1 // materialise executions of job Subject
	Sweep                             // cancel what a canceled job Subject takes along
	Delete                            // delete executions of job Subject, then the job
	Timer                             // a timer of an execution: Subject is TimerSubject
	Schedule                          // job Subject starts, ends, or opens or closes its maintenance window
	Shown                             // devices are told that executions of job Subject came into or went out of sight
	Retention                         // job Subject has been over for long
	Count                             // count the things that staged job Subject is to reach, then roll it out
	Bake                              // the bake time of a stage of job Subject is over
	Room                              // the parked rollout of job Subject may have room again
	Turn                              // jobs whose rollout waits for others to be done may have their turn; no Subject
)

// A Reader finds rows. A method that cannot read because the store fails returns its zero value and
// the surrounding View or Update returns the failure instead of what its function returned; so "not
// found" needs no second error.
type Reader interface {
	Thing(muster.ThingName) (muster.Thing, bool)
	// Things lists things in an order that never changes. The filter is part of what a page's token
	// belongs to. A page may be short, even empty, and still have a next.
	Things(ThingFilter, Page) (things []muster.Thing, next string, err error)
	ThingType(muster.TypeName) (muster.ThingType, bool)
	// ThingTypes lists by name.
	ThingTypes(Page) (types []muster.ThingType, next string, err error)
	Group(muster.GroupName) (muster.Group, bool)
	// Groups lists by name, in byte order, as the other lists by name; with parent, only its direct children.
	Groups(parent muster.GroupName, p Page) (groups []muster.Group, next string, err error)
	// Members lists a group's own things in an order that never changes.
	Members(muster.GroupName, Page) (members []muster.Membership, next string, err error)
	// GroupsOf returns the groups that a thing is directly in, by name.
	GroupsOf(muster.ThingName) []muster.Membership
	Template(muster.TemplateID) (muster.Template, bool)
	// Templates lists by id.
	Templates(Page) (templates []muster.Template, next string, err error)
	Tags(muster.Ref) muster.Pairs

	// Job returns the job row, which the caller must not change.
	Job(muster.JobID) (*muster.Job, bool)
	Document(muster.JobID) (muster.Document, bool)
	// Jobs lists newest first.
	Jobs(JobFilter, Page) (jobs []*muster.Job, next string, err error)
	// Targeting yields the CONTINUOUS jobs in progress that name the group as a target.
	Targeting(muster.GroupName) iter.Seq[*muster.Job]
	// JobCount is the number of jobs with a status.
	JobCount(muster.JobStatus) int
	// Counts are the job's executions by status.
	Counts(muster.JobID) muster.Counts
	// Tally is the job's things by the status of their latest attempt.
	Tally(muster.JobID) muster.Tally
	// Exact is that of the Store.
	Exact() bool
	// Setting is the value of a setting, empty if there is none. Settings lists those whose names begin with a
	// prefix, in the byte order of names.
	Setting(name string) string
	Settings(prefix string, p Page) (settings []Setting, next string, err error)

	// Queue is the thing's pending executions in contract order; ok is false for a thing that is not
	// registered and has none.
	Queue(muster.ThingName) (q muster.Queue, ok bool)
	// Execution finds one execution, pending or over; number 0 is the latest.
	Execution(job muster.JobID, thing muster.ThingName, number int64) (muster.Execution, bool)
	// ExecutionsOfJob lists a job's executions, attempts included, in an order that never changes;
	// status NoStatus means all.
	ExecutionsOfJob(muster.JobID, muster.Status, Page) (es []muster.Execution, next string, err error)
	// ExecutionsOfThing lists a thing's executions, newest job first; job "" means all jobs.
	ExecutionsOfThing(muster.ThingName, muster.JobID, muster.Status, Page) (es []muster.Execution, next string, err error)

	// Due returns up to limit deadlines of this process's share that are not after t, earliest first. Two calls in one
	// transaction see the same answer.
	Due(t muster.Time, limit int) []Deadline
	// NextDue is the earliest deadline of this process's share, 0 if there is none.
	NextDue() muster.Time
}

// A Tx reads and writes within one Update, and sees what it wrote itself.
type Tx interface {
	Reader
	// NextSeq returns a number larger than any returned before in a committed Update.
	NextSeq() uint64
	// NextNumber is a number larger than that of any execution the thing ever had of the job, deleted
	// ones included; 1 if it had none. It stays the same until Keep creates the execution.
	NextNumber(muster.JobID, muster.ThingName) int64
	Put(Row)
	Delete(Row)
	// Keep stores changes of one thing's executions, in the order given, and tells the feed of them with
	// the notice. The thing need not be registered any more.
	Keep(thing muster.ThingName, notice muster.Notice, changes ...muster.Change)
}

// A ThingFilter chooses things. Empty fields choose all.
type ThingFilter struct {
	Type      muster.TypeName
	Attribute string
	Value     string
	Prefix    bool // Value is a prefix of the attribute's value
}

// A JobFilter chooses jobs. Zero fields choose all.
type JobFilter struct {
	Status    muster.JobStatus
	Selection *muster.Selection
	Group     muster.GroupName // jobs that name the group as a target
	Namespace string
}

// TimerSubject names the execution that a Timer deadline is about. No thing or job has a slash in its name.
func TimerSubject(thing muster.ThingName, job muster.JobID, number int64) string {
	return string(thing) + "/" + string(job) + "/" + strconv.FormatInt(number, 10)
}

// ParseTimerSubject is the way back.
func ParseTimerSubject(s string) (thing muster.ThingName, job muster.JobID, number int64, ok bool) {
	t, rest, ok1 := strings.Cut(s, "/")
	j, n, ok2 := strings.Cut(rest, "/")
	number, err := strconv.ParseInt(n, 10, 64)
	return muster.ThingName(t), muster.JobID(j), number, ok1 && ok2 && err == nil
}

// NotEmpty refuses to load a store that has something already.
func NotEmpty(what string) error {
	return muster.Errorf(muster.Invalid, "The store is not empty, it has %s; a full export goes into an empty store", what)
}
