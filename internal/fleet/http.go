package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// HTTP says where devices send requests, and how.
type HTTP struct {
	URL    string // of the data plane
	Region string
	Keys   aws.CredentialsProvider // nil: requests are not signed
	// Client is that of a device; devices may share one.
	Client func(thing string) (*http.Client, error)
}

// signingName is the data plane's in signatures (data-plane.md §1).
const signingName = "iot-jobs-data"

// An httpWire is a device's wire over HTTP.
type httpWire struct {
	d      *device
	client *http.Client
	signer *v4.Signer
}

// open has nothing to connect: connections come and go with requests.
func (w *httpWire) open() (err error) {
	if w.client == nil {
		w.client, err = w.d.f.HTTP.Client(w.d.name)
	}
	return err
}

func (w *httpWire) close(bool) {}

func (w *httpWire) noticed() (*execution, bool) { return nil, false }

func (w *httpWire) rest(until time.Time, _ bool) (bool, error) {
	return false, w.d.f.sleep(time.Until(until))
}

// longestAnswer is more than an answer can be, documents included.
const longestAnswer = 256 << 10

func (w *httpWire) send(method, path string, body []byte) (a answer, err error) {
	h := w.d.f.HTTP
	ctx, cancel := context.WithTimeout(w.d.f.ctx, answerPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(h.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if h.Keys != nil {
		keys, err := h.Keys.Retrieve(ctx)
		if err != nil {
			return a, fmt.Errorf("there are no credentials: %w", err)
		}
		sum := sha256.Sum256(body)
		if err := w.signer.SignHTTP(ctx, keys, req, hex.EncodeToString(sum[:]), signingName, h.Region, time.Now()); err != nil {
			return a, err
		}
	}
	response, err := w.client.Do(req)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, longestAnswer))
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(text, &a); err != nil && response.StatusCode == http.StatusOK {
		return a, err
	}
	if response.StatusCode == http.StatusOK {
		return a, nil
	}
	a.Code = inMQTT(response.Header.Get("X-Amzn-Errortype"), a)
	return a, a.refusal()
}

// inMQTT is the code that MQTT has for an error of HTTP.
func inMQTT(shape string, a answer) string {
	shape, _, _ = strings.Cut(shape, ":")
	switch {
	case a.Code == codeVersion || shape == "InvalidStateTransitionException" && strings.HasPrefix(a.Message, "Expected version"):
		return codeVersion
	case shape == "TerminalStateException":
		return codeTerminal
	case shape == "ThrottlingException":
		return codeThrottled
	case shape == "ServiceUnavailableException" || strings.HasPrefix(shape, "Internal"):
		return codeInternal
	}
	return strings.TrimSuffix(shape, "Exception")
}

func (w *httpWire) path(job string) string {
	return "/things/" + url.PathEscape(w.d.name) + "/jobs/" + job
}

func (w *httpWire) next() (*execution, error) {
	a, err := w.send(http.MethodGet, w.path("$next")+"?includeJobDocument=false", nil)
	return a.Execution, err
}

func (w *httpWire) startNext() (*execution, error) {
	a, err := w.send(http.MethodPut, w.path("$next"), []byte("{}"))
	return a.Execution, err
}

func (w *httpWire) update(job string, r report) error {
	_, err := w.send(http.MethodPost, w.path(job), r.append(make([]byte, 0, 160), 0))
	return err
}

func (w *httpWire) twice(job string, r report) (errs [2]error) {
	for i := range errs {
		errs[i] = w.update(job, r)
	}
	return errs
}

// isRefused says whether the service refused with one of some codes.
func isRefused(err error, codes ...string) (*Refused, bool) {
	r, ok := errors.AsType[*Refused](err)
	if !ok {
		return nil, false
	}
	for _, c := range codes {
		if r.Code == c {
			return r, true
		}
	}
	return r, len(codes) == 0
}
