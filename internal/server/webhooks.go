package server

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"muster"
	"muster/internal/awsapi"
	"muster/internal/webhook"
)

// maxHookBody is more than any hook takes.
const maxHookBody = 64 << 10

// routeWebhooks puts the endpoints of webhooks on a mux.
func (s *Server) routeWebhooks(own *http.ServeMux) {
	hooks := s.webhooks
	read := func(answer func(*http.Request) (any, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			err := s.readable(r)
			if err == nil {
				var out any
				if out, err = answer(r); err == nil {
					reply(w, http.StatusOK, out)
					return
				}
			}
			s.refuseFor(w, err)
		}
	}
	act := func(status int, in func() any, answer func(*http.Request, any) (any, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, err := s.admitted(r, maxHookBody)
			var given any
			if err == nil && in != nil {
				given = in()
				err = readJSON(body, given)
			}
			if err == nil {
				var out any
				if out, err = answer(r, given); err == nil {
					reply(w, status, out)
					return
				}
			}
			s.refuseFor(w, err)
		}
	}
	type dropped struct {
		Dropped int `json:"dropped"`
	}
	type retried struct {
		Delivered int    `json:"delivered"`
		Refused   string `json:"refused,omitempty"`
	}
	id := func(r *http.Request) string { return r.PathValue("id") }
	retry := func(r *http.Request, _ any) (any, error) {
		var out retried
		var err error
		out.Delivered, out.Refused, err = hooks.Retry(r.Context(), id(r), r.PathValue("event"))
		return out, err
	}
	drop := func(r *http.Request, _ any) (any, error) {
		n, err := hooks.Drop(r.Context(), id(r), r.PathValue("event"))
		return dropped{n}, err
	}
	own.HandleFunc("GET /_muster/webhooks", read(func(r *http.Request) (any, error) {
		all, err := hooks.List(r.Context())
		return struct {
			Webhooks []webhook.State `json:"webhooks"`
		}{all}, err
	}))
	own.HandleFunc("POST /_muster/webhooks", act(http.StatusCreated, func() any { return new(newHook) }, func(r *http.Request, in any) (any, error) {
		h := in.(*newHook)
		return hooks.Create(r.Context(), webhook.Hook{ID: h.ID, URL: h.URL, Secret: h.Secret, Attempts: h.Attempts, Paused: h.Paused, Filter: h.filter()})
	}))
	own.HandleFunc("GET /_muster/webhooks/{id}", read(func(r *http.Request) (any, error) { return hooks.Get(r.Context(), id(r)) }))
	own.HandleFunc("PATCH /_muster/webhooks/{id}", act(http.StatusOK, func() any { return new(webhook.Change) }, func(r *http.Request, in any) (any, error) {
		return hooks.Alter(r.Context(), id(r), *in.(*webhook.Change))
	}))
	own.HandleFunc("DELETE /_muster/webhooks/{id}", act(http.StatusOK, nil, func(r *http.Request, _ any) (any, error) {
		return struct{}{}, hooks.Remove(r.Context(), id(r))
	}))
	own.HandleFunc("GET /_muster/webhooks/{id}/dead", read(func(r *http.Request) (any, error) {
		all, err := hooks.Dead(r.Context(), id(r))
		return struct {
			Dead []webhook.DeadLetter `json:"deadLetters"`
		}{all}, err
	}))
	own.HandleFunc("POST /_muster/webhooks/{id}/dead/retry", act(http.StatusOK, nil, retry))
	own.HandleFunc("DELETE /_muster/webhooks/{id}/dead", act(http.StatusOK, nil, drop))
	own.HandleFunc("POST /_muster/webhooks/{id}/dead/{event}/retry", act(http.StatusOK, nil, retry))
	own.HandleFunc("DELETE /_muster/webhooks/{id}/dead/{event}", act(http.StatusOK, nil, drop))
}

// newHook is what makes a hook.
type newHook struct {
	ID       string              `json:"id"`
	URL      string              `json:"url"`
	Secret   string              `json:"secret"`
	Filter   *awsapi.EventFilter `json:"filter"`
	Attempts int                 `json:"attempts"`
	Paused   bool                `json:"paused"`
}

func (h *newHook) filter() (f awsapi.EventFilter) {
	if h.Filter != nil {
		f = *h.Filter
	}
	return f
}

// readJSON reads one object, and refuses members that it does not know: a filter that is misspelt would let everything through.
func readJSON(body io.Reader, into any) error {
	d := json.NewDecoder(io.LimitReader(body, maxHookBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil && d.More() {
		err = errors.New("there is more behind the object")
	}
	if err != nil {
		return muster.Errorf(muster.Invalid, "The body is not as it should be: %v", err)
	}
	return nil
}
