package awsapi

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"muster"
)

// noonSigner signs at noon, so that URLs can be compared as a whole.
type noonSigner struct{ *v4.Signer }

func (n noonSigner) PresignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, hash, service, region string, _ time.Time, o ...func(*v4.SignerOptions)) (string, http.Header, error) {
	return n.Signer.PresignHTTP(ctx, c, r, hash, service, region, noon, o...)
}

func atNoon(o *s3.PresignOptions) {
	o.Presigner = noonSigner{v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })}
}

func newS3(t testing.TB, endpoint string) *S3 {
	t.Helper()
	s, err := NewS3(S3Options{Endpoint: endpoint, AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFill(t *testing.T) {
	const (
		common = "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20261124%2FREGION%2Fs3%2Faws4_request" +
			"&X-Amz-Date=20261124T120000Z&X-Amz-Expires=EXPIRES&X-Amz-SignedHeaders=host"
		get = common + "&x-id=GetObject&X-Amz-Signature=*"
		put = common + "&x-id=PutObject&X-Amz-Signature=*"
	)
	job := &muster.Job{ID: "fw-42"}
	short := &muster.Job{ID: "fw-42", Settings: muster.Settings{Presign: &muster.Presign{ExpiresIn: time.Minute}}}
	e := muster.Execution{Job: "fw-42", Thing: "a:b", Number: 3}
	for _, c := range []struct {
		name, endpoint  string
		job             *muster.Job
		text, want      string // want empty: the text stays
		region, expires string
	}{
		{name: "no placeholders", text: `{"a":"${thingName}"}`},
		{name: "literal key", text: "${aws:iot:s3-presigned-url:https://s3.eu-west-1.amazonaws.com/bucket/a%20b/c d?e}",
			want: "https://s3.eu-west-1.amazonaws.com/bucket/a%2520b/c%20d%3Fe" + get, region: "eu-west-1"},
		{name: "key and a short life", job: short, text: "${aws:iot:s3-presigned-url:https://s3.amazonaws.com/bucket/fw.bin}",
			want: "https://s3.us-east-1.amazonaws.com/bucket/fw.bin" + get, expires: "60"},
		{name: "encoded key with a version", text: "${aws:iot:s3-presigned-url-v2:https://bucket.s3.eu-west-1.amazonaws.com/a%20b/c+d%3FversionId%3Dv1}",
			want: "https://bucket.s3.eu-west-1.amazonaws.com/a%20b/c%2Bd" + strings.Replace(get, "&x-id", "&versionId=v1&x-id", 1), region: "eu-west-1"},
		{name: "version as a query", text: "${aws:iot:s3-presigned-url-v2:https://s3.eu-west-1.amazonaws.com/bucket/key?versionId=v1}",
			want: "https://s3.eu-west-1.amazonaws.com/bucket/key" + strings.Replace(get, "&x-id", "&versionId=v1&x-id", 1), region: "eu-west-1"},
		{name: "two in a document", text: `{"a":"${aws:iot:s3-presigned-url:https:\/\/s3.amazonaws.com\/b1\/k}","b":"${aws:iot:s3-presigned-url:s3://bucket2/k}"}`,
			want: `{"a":"https://s3.us-east-1.amazonaws.com/b1/k` + get + `","b":"https://bucket2.s3.us-east-1.amazonaws.com/k` + get + `"}`},
		{name: "upload", text: "${aws:iot:s3-presigned-url-upload:https://s3.amazonaws.com/bucket/logs/${jobId}/${thingName}/${executionNumber}-${thingName}.txt}",
			want: "https://s3.us-east-1.amazonaws.com/bucket/logs/fw-42/a%3Ab/3-a%3Ab.txt" + put},
		{name: "upload without key", text: "${aws:iot:s3-presigned-url-upload:https://s3.amazonaws.com/bucket}",
			want: "https://s3.us-east-1.amazonaws.com/bucket/fw-42/a%3Ab/3" + put},
		{name: "upload with a slash and no key", text: "${aws:iot:s3-presigned-url-upload:https://bucket.s3.amazonaws.com/}",
			want: "https://bucket.s3.us-east-1.amazonaws.com/fw-42/a%3Ab/3" + put},
		{name: "own endpoint", endpoint: "http://minio.test:9000/", text: "${aws:iot:s3-presigned-url-v2:https://bucket.s3.eu-west-1.amazonaws.com/key}",
			want: "http://minio.test:9000/bucket/key" + get},
		{name: "URL of the own endpoint", endpoint: "http://minio.test:9000", text: "${aws:iot:s3-presigned-url:http://minio.test:9000/bucket/a/key}",
			want: "http://minio.test:9000/bucket/a/key" + get},
		{name: "upload that names the thing too often", text: "${aws:iot:s3-presigned-url-upload:https://s3.amazonaws.com/b/${thingName}${thingName}${thingName}}"},
		{name: "no object", text: "${aws:iot:s3-presigned-url:https://s3.amazonaws.com/bucket}"},
		{name: "not S3", text: "${aws:iot:s3-presigned-url:https://example.com/bucket/key}"},
		{name: "broken encoding", text: "${aws:iot:s3-presigned-url-v2:https://s3.amazonaws.com/bucket/%zz}"},
		{name: "signature", text: "${aws:iot:code-sign-signature:s3://us-east-1.bucket/key@1}"},
		{name: "package", text: "${aws:iot:package:p:version:1:artifact-location:s3-presigned-url}"},
	} {
		var log bytes.Buffer
		d := newDelivery(newS3(t, c.endpoint), slog.New(slog.NewTextHandler(&log, nil)), atNoon)
		if c.job == nil {
			c.job = job
		}
		got := d.Fill(t.Context(), c.job, e, c.text)
		want := c.text
		if c.want != "" {
			region, expires := "us-east-1", "3600"
			if c.region != "" {
				region = c.region
			}
			if c.expires != "" {
				expires = c.expires
			}
			want = strings.NewReplacer("REGION", region, "EXPIRES", expires).Replace(c.want)
		}
		if starred(got) != want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, starred(got), want)
		}
		if warned := log.Len() > 0; warned != (c.want == "" && muster.HasPlaceholders(c.text)) {
			t.Errorf("%s: log: %s", c.name, log.String())
		}
	}
}

// starred has stars in place of signatures.
func starred(text string) string {
	parts := strings.Split(text, "X-Amz-Signature=")
	for i := range parts[1:] {
		parts[i+1] = "*" + parts[i+1][64:]
	}
	return strings.Join(parts, "X-Amz-Signature=")
}

// The URL is one that whoever has the secret accepts.
func TestFillSignature(t *testing.T) {
	d := newDelivery(newS3(t, ""), nil, atNoon)
	got := d.Fill(t.Context(), &muster.Job{}, muster.Execution{}, "${aws:iot:s3-presigned-url:https://s3.amazonaws.com/bucket/a b}")
	r, _ := http.NewRequest("GET", "https://s3.us-east-1.amazonaws.com/bucket/a%20b?X-Amz-Expires=3600&x-id=GetObject", nil)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	want, _, err := signer.PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret}, r, unsignedBody, "s3", "us-east-1", noon)
	if err != nil || got != want {
		t.Errorf("got\n%s, %v, want\n%s", got, err, want)
	}
}

// A million devices get the document that cannot be filled; the log hears of it once for each kind,
// and a million such jobs take no memory.
func TestFillWarnsOnce(t *testing.T) {
	var log bytes.Buffer
	d := newDelivery(nil, slog.New(slog.NewTextHandler(&log, nil)))
	text := "${aws:iot:s3-presigned-url:https://s3.amazonaws.com/b/k} ${aws:iot:s3-presigned-url:https://s3.amazonaws.com/b/l} ${aws:iot:package:p}"
	for i := range 100 {
		if got := d.Fill(t.Context(), &muster.Job{ID: "fw"}, muster.Execution{Number: int64(i)}, text); got != text {
			t.Fatalf("got %s", got)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "the server has no S3 credentials") {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
	for i := range 3 * maxWarned {
		d.Fill(t.Context(), &muster.Job{ID: muster.JobID(fmt.Sprint(i))}, muster.Execution{}, text)
	}
	if len(d.warned) > maxWarned {
		t.Errorf("%d are remembered", len(d.warned))
	}
}

func TestDeliveryUsesRealTime(t *testing.T) {
	got := NewDelivery(newS3(t, ""), nil).Fill(t.Context(), &muster.Job{}, muster.Execution{}, "${aws:iot:s3-presigned-url:https://s3.amazonaws.com/b/k}")
	_, date, _ := strings.Cut(got, "X-Amz-Date=")
	if at, err := time.Parse(sigTime, date[:16]); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("signed at %v, %v: %s", at, err, got)
	}
}

func BenchmarkFill(b *testing.B) {
	d := NewDelivery(newS3(b, ""), nil)
	for _, text := range []string{`{"operation":"update"}`, `{"url":"${aws:iot:s3-presigned-url:https://s3.amazonaws.com/b/k}"}`} {
		b.Run(fmt.Sprint(muster.HasPlaceholders(text)), func(b *testing.B) {
			for b.Loop() {
				d.Fill(b.Context(), &muster.Job{}, muster.Execution{}, text)
			}
		})
	}
}
