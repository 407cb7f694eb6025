package awsapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/internal/awsapi/wire"
)

func (f *site) post(h http.Handler, target, payload string, header ...string) (status int, typ, body string) {
	r := httptest.NewRequest("POST", target, strings.NewReader(payload))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Header().Get("X-Amzn-Errortype"), uuids.ReplaceAllString(w.Body.String(), "UUID")
}

func TestPublish(t *testing.T) {
	f := newSite(t)
	user := base64.StdEncoding.EncodeToString([]byte(`[{"b":"1","a":"2"},{"b":"3"}]`))
	for _, c := range []struct {
		name, target, payload string
		header                []string
		want                  Publication
	}{
		{"a plain topic", "/topics/a/b", "hello", nil, Publication{Topic: "a/b", Payload: []byte("hello")}},
		{"an encoded one", "/topics/a%2Fb%20%c3%bc%2b?qos=1", "", nil, Publication{}},
		{"with qos and retain", "/topics/a%2Fb%20%c3%bc?qos=1&retain=true", "\x00\xff", nil, Publication{Topic: "a/b ü", Payload: []byte("\x00\xff"), QoS: 1, Retain: true}},
		{"with all properties", "/topics/x?qos=0&contentType=text%2Fplain&responseTopic=r%2Fs&messageExpiry=60", "p",
			[]string{"x-amz-mqtt5-payload-format-indicator", "UTF8_DATA", "x-amz-mqtt5-correlation-data", "AQI=", "x-amz-mqtt5-user-properties", user},
			Publication{Topic: "x", Payload: []byte("p"), Properties: &Properties{UTF8: true, ContentType: "text/plain", ResponseTopic: "r/s", CorrelationData: []byte{1, 2},
				Expiry: time.Minute, User: []UserProperty{{"b", "1"}, {"a", "2"}, {"b", "3"}}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.tape = nil
			status, typ, body := f.post(f.api.Handler(0), c.target, c.payload, c.header...)
			if c.want.Topic == "" {
				if status != 400 || len(f.tape) > 0 {
					t.Errorf("%d %s %s, published %v", status, typ, body, f.tape)
				}
				return
			}
			if status != 200 || body != `{"message":"OK","traceId":"UUID"}` || len(f.tape) != 1 {
				t.Fatalf("%d %s %s, published %v", status, typ, body, f.tape)
			}
			got, want := f.tape[0], c.want
			if got.Topic != want.Topic || string(got.Payload) != string(want.Payload) || got.QoS != want.QoS || got.Retain != want.Retain ||
				fmt.Sprintf("%+v", got.Properties) != fmt.Sprintf("%+v", want.Properties) {
				t.Errorf("published %+v %+v", got, got.Properties)
			}
		})
	}
}

func TestPublishRefuses(t *testing.T) {
	f := newSite(t)
	for target, want := range map[string]string{
		"/topics/":                                "400 InvalidRequestException",
		"/topics/a?qos=2":                         "400 InvalidRequestException",
		"/topics/a?qos=x":                         "400 InvalidRequestException",
		"/topics/a?retain=yes":                    "400 InvalidRequestException",
		"/topics/a?messageExpiry=-1":              "400 InvalidRequestException",
		"/topics/a?responseTopic=%23":             "400 InvalidRequestException",
		"/topics/%ff":                             "400 InvalidRequestException",
		"/topics/a%00":                            "400 InvalidRequestException",
		"/topics/%23":                             "400 InvalidRequestException",
		"/topics/1/2/3/4/5/6/7/8/9":               "400 InvalidRequestException",
		"/topics/" + strings.Repeat("x", 257):     "400 InvalidRequestException",
		"/topics/$aws/events/job/a/completed":     "403 ForbiddenException",
		"/topics/%24SYS":                          "403 ForbiddenException",
		"/topics/$aws/things/lamp/jobs":           "403 ForbiddenException",
		"/topics/$aws/things/lamp/jobs/notify":    "200 ",
		"/topics/$aws/things/lamp/jobs/a/b/c/d/e": "400 InvalidRequestException",
	} {
		status, typ, body := f.post(f.device, target, "x")
		if got := fmt.Sprintf("%d %s", status, typ); got != want || len(f.tape) > 0 {
			t.Errorf("%s: %s %s, published %v", target, got, body, f.tape)
		}
	}
	for name, header := range map[string]string{"x-amz-mqtt5-payload-format-indicator": "TEXT", "x-amz-mqtt5-correlation-data": "*", "x-amz-mqtt5-user-properties": "e30="} {
		if status, _, body := f.post(f.device, "/topics/a", "x", name, header); status != 400 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, typ, _ := f.post(f.device, "/topics/a", strings.Repeat("x", maxPayload+1)); status != 413 || typ != "InvalidRequestException" {
		t.Errorf("a large payload: %d %s", status, typ)
	}
	if status, typ, _ := f.post(f.api.Handler(wire.Control), "/topics/a", "x"); status != 404 || typ != "UnknownOperationException" {
		t.Errorf("on the control plane's own port: %d %s", status, typ)
	}
	f.config.Publish = func(context.Context, Publication) error { return muster.Errorf(muster.Unavailable, "") }
	f.open()
	if status, typ, body := f.post(f.device, "/topics/a", "x"); status != 503 || typ != "ServiceUnavailableException" {
		t.Errorf("when the broker refuses: %d %s %s", status, typ, body)
	}
	f.config.Publish = nil
	f.open()
	if status, typ, body := f.post(f.device, "/topics/a", "x"); status != 501 || typ != "NotImplementedException" {
		t.Errorf("without a broker: %d %s %s", status, typ, body)
	}
}

// A request of a device may come by HTTPS: it is done, and answered to nobody.
func TestPublishToJobs(t *testing.T) {
	f := newSite(t)
	f.act("things lamp")
	f.job("a")
	f.act("tick")
	status, _, body := f.post(f.device, "/topics/%24aws%2Fthings%2Flamp%2Fjobs%2Fa%2Fupdate?qos=1&retain=true", `{"status":"SUCCEEDED"}`)
	if status != 200 || body != `{"message":"OK","traceId":"UUID"}` {
		t.Errorf("%d %s", status, body)
	}
	if e, err := f.engine.DescribeExecution(t.Context(), "lamp", "a", 0); err != nil || e.Status != muster.Succeeded {
		t.Errorf("%v %v", e.Status, err)
	}
	want := "~ $aws/things/lamp/jobs/notify {\"timestamp\":1735689600,\"jobs\":{}}\n~ $aws/things/lamp/jobs/notify-next {\"timestamp\":1735689600}\n"
	if got := f.drain(); got != want {
		t.Errorf("told\n%s", got)
	}
}

// Publishing is signed for iotdata, and the signature is that of the path as it was sent.
func TestPublishIsSigned(t *testing.T) {
	f := newSite(t)
	f.config.Auth = verifier(t, noon)
	f.open()
	h := f.api.Handler(0)
	for _, c := range []struct {
		name string
		signing
		want string
	}{
		{"signed", signing{service: "iotdata"}, "200 "},
		{"with an encoded topic", signing{service: "iotdata", target: "/topics/%24aws%2Fthings%2Flamp%2Fjobs%2Fget?qos=1"}, "200 "},
		{"with a wrong secret", signing{service: "iotdata", secret: "x"}, "403 InvalidSignatureException"},
		{"for another service", signing{service: "s3"}, "403 InvalidSignatureException"},
	} {
		c.method, c.body = "POST", "hello"
		if c.target == "" {
			c.target = "/topics/a?qos=1"
		}
		r, body := c.request(t)
		r.Body = io.NopCloser(bytes.NewReader(body))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := fmt.Sprintf("%d %s", w.Code, w.Header().Get("X-Amzn-Errortype")); got != c.want {
			t.Errorf("%s: %s %s", c.name, got, w.Body)
		}
	}
	if status, typ, _ := f.post(h, "/topics/a", "x"); status != 403 || typ != "MissingAuthenticationTokenException" {
		t.Errorf("unsigned: %d %s", status, typ)
	}
	if len(f.tape) != 1 || f.tape[0].Topic != "a" {
		t.Errorf("published %v", f.tape)
	}
}
