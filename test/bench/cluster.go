package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"muster/test/postgres"
)

// What is measured over PostgreSQL: one cluster for all, a database for each service.

// clusterThings bounds the executions in a database: a table that does not fit into the memory of a cluster
// would be a question of its own.
const clusterThings = 100_000

// clusterSeed is the database that those of nodes are copies of.
const clusterSeed = "seed"

// database returns the address of a database in the cluster, which it starts if it does not yet run. The database is new,
// a copy of another, "template1" being an empty one.
func (b *Bench) database(ctx context.Context, name, like string) (address string, err error) {
	if b.cluster == nil {
		// Neither what others have left in memory nor a checkpoint in the middle may decide who is faster.
		if b.cluster, err = postgres.New("shared_buffers=1GB", "max_wal_size=16GB", "checkpoint_timeout=1h"); err != nil {
			return "", err
		}
		b.onClose(b.cluster.Remove)
	}
	conn, err := pgx.Connect(ctx, b.cluster.Address("postgres"))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", pgx.Identifier{name}.Sanitize(), pgx.Identifier{like}.Sanitize()))
	return b.cluster.Address(name), err
}

func (b *Bench) clusterThings() int { return min(b.Things, clusterThings) }

// batchedUpdates measures Y5 with a number of callers; all meters with this Bench share a database.
func (b *Bench) batchedUpdates(callers int) *Meter {
	const key = "batched"
	return b.databaseMeter(fmt.Sprintf("Y5 batched statement, %d callers", callers), key, callers, func(ctx context.Context) error {
		address, err := b.database(ctx, key, "template1")
		if err != nil {
			return err
		}
		c, err := b.adopt(ctx, key, "batched", Settings{Database: address, Things: b.clusterThings()})
		if err != nil {
			return err
		}
		_, err = c.Call(Request{Op: "load"})
		return err
	})
}

// nodeUpdates measures reports over some nodes with a number of callers; all meters with so many nodes share a database.
func (b *Bench) nodeUpdates(nodes, callers int) *Meter {
	key := fmt.Sprintf("nodes-%d", nodes)
	return b.databaseMeter(fmt.Sprintf("PostgreSQL, %d nodes, %d callers", nodes, callers), key, callers, func(ctx context.Context) error {
		if err := b.seedDatabase(ctx); err != nil {
			return err
		}
		address, err := b.database(ctx, key, clusterSeed)
		if err != nil {
			return err
		}
		_, err = b.adopt(ctx, key, "nodes", Settings{Database: address, Things: b.clusterThings(), Nodes: nodes})
		return err
	})
}

func (b *Bench) databaseMeter(name, key string, callers int, open func(context.Context) error) *Meter {
	return &Meter{
		Name: name,
		Prepare: func(ctx context.Context) error {
			if b.children[key] != nil {
				return nil
			}
			return open(ctx)
		},
		Run: func(context.Context) (Sample, error) {
			return b.children[key].Call(Request{Op: "update", Callers: callers, Seconds: b.Seconds})
		},
	}
}

// seedDatabase makes a database with a job that has queued an execution for each thing, at rest.
func (b *Bench) seedDatabase(ctx context.Context) error {
	if b.seeds[clusterSeed] != "" {
		return nil
	}
	address, err := b.database(ctx, clusterSeed, "template1")
	if err != nil {
		return err
	}
	c, err := startChild(ctx, "nodes", Settings{Database: address, Things: b.clusterThings(), Nodes: 1})
	if err != nil {
		return err
	}
	defer c.Kill()
	if _, err := c.Call(Request{Op: "load"}); err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	b.seeds[clusterSeed] = address
	return nil
}

// clusterRows are Y5, P15 and P16.
func (b *Bench) clusterRows() []Row {
	const yardstick = "Y5 batched statement"
	var rows []Row
	for _, callers := range []int{64, 512} {
		one, three, against := b.nodeUpdates(1, callers), b.nodeUpdates(3, callers), b.batchedUpdates(callers)
		with := fmt.Sprintf(", %d callers", callers)
		rows = append(rows,
			Row{ID: "P15", What: "PostgreSQL, reports, one node" + with, Yardstick: yardstick, Figure: PerSecond, Unit: "/s",
				Measure: one, Against: against, Good: 0.6, Target: 0.85},
			Row{ID: "P15", What: "... p99" + with, Yardstick: yardstick, Figure: P99, Unit: "ms", Measure: one, Against: against, LowerIsBetter: true},
			Row{ID: "P15", What: "... CPU beside the database's" + with, Yardstick: yardstick, Figure: CPUPerOp, Unit: "us", Measure: one, Against: against, LowerIsBetter: true},
			Row{ID: "P15", What: "... bytes written ahead per report" + with, Yardstick: yardstick, Figure: walPerOp, Unit: "B", Measure: one, Against: against, LowerIsBetter: true},
			Row{ID: "P15", What: "... reports in a transaction" + with, Yardstick: yardstick, Figure: batchSize, Measure: one, Against: against},
			Row{ID: "P15", What: "... statements per report" + with, Yardstick: yardstick, Figure: statementsPerOp, Measure: one, Against: against, LowerIsBetter: true},
			Row{ID: "P15", What: "... round trips per report" + with, Yardstick: yardstick, Figure: tripsPerOp, Measure: one, Against: against, LowerIsBetter: true},
			Row{ID: "P15", What: "... beside the embedded store" + with, Yardstick: "embedded store", Figure: PerSecond, Unit: "/s", Measure: one, Against: b.engineUpdates(callers)},
			Row{ID: "P16", What: "PostgreSQL, reports, three nodes, no deadlock" + with, Yardstick: "one node", Figure: PerSecond, Unit: "/s",
				Measure: three, Against: one, Good: 0.7, Target: 0.85},
			Row{ID: "P16", What: "... p99" + with, Yardstick: "one node", Figure: P99, Unit: "ms", Measure: three, Against: one, LowerIsBetter: true})
	}
	if !postgres.Installed() {
		for i := range rows {
			rows[i].Skip = "PostgreSQL is not installed (apt-get install postgresql)"
		}
	}
	return rows
}
