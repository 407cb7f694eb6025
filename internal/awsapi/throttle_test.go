package awsapi

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/internal/awsapi/wire"
)

// Requests beyond the bound wait for a while, and are then told to come again: by MQTT RequestThrottled, by
// HTTP 429.
func TestConcurrentRequestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(Throttle{Concurrent: 1})
		device, control := wire.Operation{Plane: wire.Data, Method: http.MethodGet}, wire.Operation{Plane: wire.Control}
		if err := l.enter(t.Context(), device); err != nil {
			t.Fatal(err)
		}
		if err := l.enter(t.Context(), control); err != nil {
			t.Errorf("the control plane: %v", err)
		}
		began := time.Now()
		var known *muster.Error
		if err := l.enter(t.Context(), device); !errors.As(err, &known) || mqttCodes[known.Kind] != "RequestThrottled" || dressOf(known.Kind, wire.Data).status != 429 {
			t.Errorf("the second one: %v", err)
		}
		if waited := time.Since(began); waited != patience {
			t.Errorf("it waited %v", waited)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.enter(ctx, device); !errors.Is(err, context.Canceled) {
			t.Errorf("one that has gone: %v", err)
		}
		let := make(chan error)
		go func() { let <- l.enter(t.Context(), device) }()
		synctest.Wait()
		l.leave(control)
		l.leave(device)
		if err := <-let; err != nil {
			t.Errorf("the one that waited: %v", err)
		}
		none := newLimits(Throttle{Concurrent: -1})
		for range defaultConcurrent + 1 {
			if err := none.enter(t.Context(), device); err != nil {
				t.Fatal(err)
			}
		}
	})
}
