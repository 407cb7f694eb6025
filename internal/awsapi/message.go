package awsapi

import (
	"context"

	"muster"
	"muster/internal/engine"
)

// A message is what a client of another process has published. It is handed on as it is.
type message struct{ fact *muster.Fact }

func (message) look(engine.Glance) {}

func (m message) publications(context.Context) []Publication {
	p := Publication{Topic: m.fact.Name, Payload: []byte(m.fact.After)}
	if m.fact.Before == "1" {
		p.QoS = 1
	}
	return []Publication{p}
}
