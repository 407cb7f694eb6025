package muster

// A FactKind says what a fact is about.
type FactKind uint8

const (
	FactExecution FactKind = iota + 1 // an execution was created, changed or deleted
	FactJob
	FactThing
	FactThingType
	FactGroup
	FactMembership
	FactMessage // what a client of one node has published, for the clients of others
)

// A Fact is one entry of the feed: something that was committed. Notices, events and webhooks are
// made from facts.
type Fact struct {
	Kind FactKind

	// For FactExecution: which one, from which status to which (NoStatus: did not exist, or is gone),
	// its version after, whether a cancel was forced, and what its device has to be told. Details are
	// read from the execution itself; those of a deleted one are carried here.
	Thing   ThingName
	Job     JobID
	Number  int64
	From    Status
	To      Status
	Version int64
	Forced  bool
	Notice  Notice
	Details Pairs

	// For the other kinds: Before and After are the row as JSON text, empty when it did not or does
	// not exist; Name is the name of the row, Thing and Group those of a membership. Of a message Name is the topic and
	// After the payload; Before is its quality of service, "0" or "1".
	Name   string
	Group  GroupName
	Before string
	After  string
}

// A Place says how far a reader of the feed has come. Only the store that gave it can read it; the empty one
// is the beginning of what is kept.
type Place string

// An Entry is what one durable batch told. Entries of one writer come in commit order; an embedded store has one
// writer.
type Entry struct {
	Writer uint32
	Seq    uint64 // of the writer, without gaps; the two name the entry for ever
	Place  Place  // where reading goes on after this entry
	Missed bool   // entries before this one were gone before they were read
	Here   bool   // this process wrote it
	At     Time
	Facts  []Fact
}
