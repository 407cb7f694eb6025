package awsapi

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"muster"
)

const (
	defaultExpiry = time.Hour // of presignedUrlConfig.expiresInSec
	maxWarned     = 1024      // jobs and kinds that are remembered as warned of
	maxInKey      = 2         // how often each variable may be in an upload key (control-plane.md §2)
)

// A delivery signs the S3 URLs of documents as they are handed to devices.
type delivery struct {
	s3   *S3 // nil: no placeholder can be filled
	sign *s3.PresignClient
	log  *slog.Logger

	mu     sync.Mutex
	warned map[warning]bool
}

type warning struct {
	job  muster.JobID
	kind string
}

// NewDelivery fills the S3 placeholders of job documents, each time with a fresh URL. Others, and all
// of them when s is nil, stay as they are and are logged once for a job and a kind.
func NewDelivery(s *S3, log *slog.Logger) Delivery {
	return newDelivery(s, log)
}

func newDelivery(s *S3, log *slog.Logger, options ...func(*s3.PresignOptions)) *delivery {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &delivery{s3: s, log: log, warned: map[warning]bool{}}
	if s != nil {
		d.sign = s3.NewPresignClient(s.client, options...)
	}
	return d
}

func (d *delivery) Fill(ctx context.Context, job *muster.Job, e muster.Execution, text string) string {
	if !muster.HasPlaceholders(text) {
		return text
	}
	return muster.Replace(text, func(p muster.Placeholder) (string, bool) {
		value, err := d.value(ctx, job, e, p)
		if err != nil {
			d.warn(job.ID, p, err)
		}
		return value, err == nil
	})
}

// value is what stands for a placeholder.
func (d *delivery) value(ctx context.Context, job *muster.Job, e muster.Execution, p muster.Placeholder) (string, error) {
	form := literalKey
	switch p.Kind {
	case muster.PlaceholderPresign, muster.PlaceholderUpload:
	case muster.PlaceholderPresignV2:
		form = encodedKey
	default:
		return "", fmt.Errorf("placeholders of this kind are not filled")
	}
	if d.s3 == nil {
		return "", fmt.Errorf("the server has no S3 credentials")
	}
	o, ok := d.s3.object(p.Arg, form)
	if !ok {
		return "", fmt.Errorf("it is not the URL of an S3 object")
	}
	if p.Kind == muster.PlaceholderUpload {
		key, err := uploadKey(o.key, e)
		if err != nil {
			return "", err
		}
		put, err := d.sign.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: &o.bucket, Key: &key}, d.options(job, o))
		if err != nil {
			return "", err
		}
		return put.URL, nil
	}
	if o.key == "" {
		return "", fmt.Errorf("it names a bucket and no object")
	}
	get, err := d.sign.PresignGetObject(ctx, o.get(), d.options(job, o))
	if err != nil {
		return "", err
	}
	return get.URL, nil
}

func (d *delivery) options(job *muster.Job, o object) func(*s3.PresignOptions) {
	return func(p *s3.PresignOptions) {
		p.ClientOptions = append(p.ClientOptions, d.s3.at(o))
		p.Expires = defaultExpiry
		if job.Settings.Presign != nil {
			p.Expires = cmp.Or(job.Settings.Presign.ExpiresIn, defaultExpiry)
		}
	}
}

// uploadKey is the key under which an execution uploads. Without one, each execution has its own, the
// same at every delivery.
func uploadKey(key string, e muster.Execution) (string, error) {
	key = cmp.Or(key, "${jobId}/${thingName}/${executionNumber}")
	variables := []string{
		"${thingName}", string(e.Thing),
		"${jobId}", string(e.Job),
		"${executionNumber}", strconv.FormatInt(e.Number, 10),
	}
	for i := 0; i < len(variables); i += 2 {
		if n := strings.Count(key, variables[i]); n > maxInKey {
			return "", fmt.Errorf("%s is %d times in the key; at most %d are allowed", variables[i], n, maxInKey)
		}
	}
	return strings.NewReplacer(variables...).Replace(key), nil
}

// warn tells that a placeholder stays: once for a job and a kind, not once for each of a million
// devices. What was told is forgotten when there is too much of it, so some may be told again.
func (d *delivery) warn(job muster.JobID, p muster.Placeholder, err error) {
	w := warning{job, p.Kind}
	d.mu.Lock()
	told := d.warned[w]
	if !told && len(d.warned) >= maxWarned {
		clear(d.warned)
	}
	d.warned[w] = true
	d.mu.Unlock()
	if !told {
		d.log.Warn("placeholder of a job document is left as it is", "job", job, "kind", p.Kind, "argument", p.Arg, "reason", err)
	}
}
