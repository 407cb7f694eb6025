package server

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"muster/internal/awsapi/wire"
	"muster/internal/broker"
)

// mqttPath is where MQTT is spoken over WebSocket.
const mqttPath = "/mqtt"

// serveWebSocket makes an MQTT connection of a request. Where signatures are asked for, its query is signed
// for the service iotdevicegateway, unless the client has shown a device's certificate.
func (s *Server) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	if s.mqtt == nil {
		refuse(w, http.StatusNotFound, "MQTT is not spoken here: devices connect to the broker that this server is attached to")
		return
	}
	l := link{anonymous: s.credentials == nil}
	presigned := false
	_, known, err := s.identify(r)
	switch {
	case err != nil:
		s.refuseFor(w, err)
		return
	case s.sigv4 != nil && !known:
		id, err := s.sigv4.VerifyMQTT(r)
		if err == nil {
			err = id.Allows(wire.Data, true)
		}
		if err != nil {
			s.refuseFor(w, err)
			return
		}
		presigned = true
		l.peer = &peer{key: id.AccessKeyID, readOnly: id.Allows(wire.Data, false) != nil}
	}
	// A page of another origin must bring a signature: loopback and a certificate are there for every page
	// that the user looks at.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"mqtt", "mqttv3.1"}, InsecureSkipVerify: presigned})
	if err != nil {
		s.log.Debug("no WebSocket", "remote", r.RemoteAddr, "error", err)
		return
	}
	// Not the request's context: that ends with what HTTP has begun, and the broker says goodbye by itself.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	if p := s.arrivals; p != nil && p.Wait(s.mqtt.ctx) != nil {
		conn.Close(websocket.StatusGoingAway, "")
		return
	}
	p := &parting{Conn: websocket.NetConn(ctx, conn, websocket.MessageBinary), gone: make(chan struct{})}
	defer p.wait()
	s.mqtt.broker.ServeConn(p, broker.ConnInfo{TLS: r.TLS, Value: &l})
}

// A parting connection takes its time to close, for at WebSocket the other end has to agree, and lets nobody
// wait for it: the broker closes connections while it holds what others need.
type parting struct {
	net.Conn
	once sync.Once
	gone chan struct{}
}

func (p *parting) Close() error {
	p.once.Do(func() {
		go func() {
			defer close(p.gone)
			_ = p.Conn.Close() // it is over either way
		}()
	})
	return nil
}

// wait returns when the connection is closed.
func (p *parting) wait() {
	p.Close()
	<-p.gone
}

// asksForMQTT says whether a request is for MQTT over WebSocket.
func asksForMQTT(r *http.Request) bool { return r.URL.Path == mqttPath && r.Method == http.MethodGet }
