package pgstore

import (
	"context"
	"net"
	"time"
)

// deadTime is how long a network may be silent before its connections are taken for dead. A statement that takes long is no
// silence: the server's machine answers for it.
const deadTime = 5 * time.Second

var dialer = net.Dialer{
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: deadTime / 2, Interval: deadTime / 4, Count: 2},
	Control:         unacknowledged,
}

func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return dialer.DialContext(ctx, network, addr)
}
