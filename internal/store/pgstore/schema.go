package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"muster"
)

// migrations are the steps from an empty database to the format of this program. A step that has been released
// never changes; the format's number is how many of them the database has seen.
//
// Only what wire-compatible engines take as well: no extensions, no advisory locks, no triggers. Names are
// compared byte by byte, as the embedded store does.
var migrations = []string{`
CREATE SEQUENCE moment;
CREATE SEQUENCE writer_ids AS integer;

CREATE TABLE node (
	id text PRIMARY KEY,
	beat bigint NOT NULL DEFAULT 0,
	manual boolean NOT NULL DEFAULT false,
	aside boolean NOT NULL DEFAULT false,
	ended boolean NOT NULL DEFAULT false
);
CREATE TABLE writer (
	id integer PRIMARY KEY,
	node text NOT NULL,
	batch bigint NOT NULL DEFAULT 0,
	trimmed bigint NOT NULL DEFAULT 0,
	fenced boolean NOT NULL DEFAULT false
);
CREATE TABLE lease (part smallint PRIMARY KEY, node text NOT NULL);
INSERT INTO lease SELECT p, '' FROM generate_series(0, 15) p;
CREATE TABLE registry (id smallint PRIMARY KEY);
INSERT INTO registry VALUES (0);

CREATE TABLE thing (
	name text COLLATE "C" PRIMARY KEY,
	ord bigint NOT NULL,
	type text COLLATE "C" NOT NULL,
	data bytea
) WITH (fillfactor = 80);
CREATE INDEX thing_ord ON thing (ord);
CREATE INDEX thing_type_ord ON thing (type, ord);
CREATE TABLE thing_type (name text COLLATE "C" PRIMARY KEY, data text NOT NULL);
CREATE TABLE thing_group (name text COLLATE "C" PRIMARY KEY, parent text COLLATE "C" NOT NULL, data text NOT NULL);
CREATE INDEX thing_group_parent ON thing_group (parent, name);
CREATE TABLE member (
	grp text COLLATE "C" NOT NULL,
	thing text COLLATE "C" NOT NULL,
	seq bigint NOT NULL,
	PRIMARY KEY (grp, thing)
);
CREATE INDEX member_thing ON member (thing);
CREATE TABLE template (id text COLLATE "C" PRIMARY KEY, data text NOT NULL);
CREATE TABLE tags (kind text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, data bytea NOT NULL, PRIMARY KEY (kind, name));
CREATE TABLE setting (name bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);

CREATE TABLE job (
	id text COLLATE "C" PRIMARY KEY,
	ord bigint NOT NULL,
	status smallint NOT NULL,
	selection smallint NOT NULL,
	namespace text COLLATE "C" NOT NULL,
	data text NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX job_ord ON job (ord);
CREATE INDEX job_status ON job (status, ord);
CREATE TABLE job_target (grp text COLLATE "C" NOT NULL, ord bigint NOT NULL, job text COLLATE "C" NOT NULL, PRIMARY KEY (grp, ord, job));
CREATE INDEX job_target_job ON job_target (job);
CREATE TABLE document (job text COLLATE "C" PRIMARY KEY, body text NOT NULL, source text NOT NULL);

CREATE TABLE execution (
	thing text COLLATE "C" NOT NULL,
	job text COLLATE "C" NOT NULL,
	number bigint NOT NULL,
	status smallint NOT NULL,
	data bytea NOT NULL,
	PRIMARY KEY (thing, job, number)
) WITH (fillfactor = 80);
CREATE INDEX execution_job ON execution (job, status, thing, number);
CREATE INDEX execution_pending ON execution (thing) WHERE status <= 2;
CREATE TABLE spent (job text COLLATE "C" NOT NULL, thing text COLLATE "C" NOT NULL, number bigint NOT NULL, PRIMARY KEY (job, thing));
CREATE TABLE sums (
	job text COLLATE "C" NOT NULL,
	writer integer NOT NULL,
	c1 bigint NOT NULL, c2 bigint NOT NULL, c3 bigint NOT NULL, c4 bigint NOT NULL,
	c5 bigint NOT NULL, c6 bigint NOT NULL, c7 bigint NOT NULL, c8 bigint NOT NULL,
	t1 bigint NOT NULL, t2 bigint NOT NULL, t3 bigint NOT NULL, t4 bigint NOT NULL,
	t5 bigint NOT NULL, t6 bigint NOT NULL, t7 bigint NOT NULL, t8 bigint NOT NULL,
	PRIMARY KEY (job, writer)
) WITH (fillfactor = 70);

CREATE TABLE deadline (
	part smallint NOT NULL,
	due bigint NOT NULL,
	kind smallint NOT NULL,
	subject text COLLATE "C" NOT NULL,
	cursor bytea NOT NULL,
	PRIMARY KEY (part, due, kind, subject)
);
CREATE TABLE feed (
	writer integer NOT NULL,
	seq bigint NOT NULL,
	moment bigint NOT NULL,
	at bigint NOT NULL,
	kept bigint NOT NULL,
	facts bytea NOT NULL,
	PRIMARY KEY (writer, seq)
);
`}

const formatTable = `CREATE TABLE IF NOT EXISTS muster_format (id smallint PRIMARY KEY, version integer NOT NULL)`

// migrate brings the database to this program's format. Several nodes may try at once: they wait for each
// other at the one row of the table that says the format.
func migrate(ctx context.Context, conn *pgx.Conn) error {
	// Two nodes that make the first table of all at once may collide in the catalogue; the loser finds it made.
	for try := 0; ; try++ {
		_, err := conn.Exec(ctx, formatTable)
		if err == nil {
			break
		}
		if state := sqlState(err); try > 5 || state != "23505" && state != "42P07" && state != "42710" {
			return err
		}
	}
	if _, err := conn.Exec(ctx, `INSERT INTO muster_format VALUES (0, 0) ON CONFLICT DO NOTHING`); err != nil {
		return err
	}
	var version int
	if err := conn.QueryRow(ctx, `SELECT version FROM muster_format WHERE id = 0`).Scan(&version); err != nil {
		return err
	}
	if version == len(migrations) {
		return nil
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := tx.QueryRow(ctx, `SELECT version FROM muster_format WHERE id = 0 FOR UPDATE`).Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return muster.Errorf(muster.Invalid, "The database has format %d, which is of a newer version of Muster; this one knows formats up to %d", version, len(migrations))
	}
	for i, step := range migrations[version:] {
		for _, statement := range strings.Split(step, ";\n") {
			if statement = strings.TrimSpace(statement); statement == "" {
				continue
			}
			if _, err := tx.Exec(ctx, statement); err != nil {
				return fmt.Errorf("step %d of the schema: %w", version+i+1, err)
			}
		}
	}
	if _, err := tx.Exec(ctx, `UPDATE muster_format SET version = $1 WHERE id = 0`, len(migrations)); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// sqlState is the five letters of an error that the database has sent, empty for any other.
func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}
