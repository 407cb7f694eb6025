package awsapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"muster"
)

const (
	fetchTimeout = 10 * time.Second // CreateJob waits for it
	maxRedirects = 5
)

// SourcesOptions say from where job documents may come. The zero value allows http and https only.
type SourcesOptions struct {
	Dir    string       // of the document store; empty: there is none
	S3     *S3          // nil: https URLs of S3 are fetched like any other, s3: URLs are refused
	Client *http.Client // nil: one that does not talk to link-local addresses
}

// Sources fetch job documents. They are the engine's Documents.
type Sources struct{ o SourcesOptions }

// NewSources makes Sources.
func NewSources(o SourcesOptions) *Sources {
	if o.Client == nil {
		o.Client = newFetcher()
	}
	return &Sources{o}
}

// newFetcher is a client that stays away from the metadata services of clouds: their answers are JSON
// objects, and so would be job documents that anybody who may create a job may read.
func newFetcher() *http.Client {
	dialer := &net.Dialer{Timeout: fetchTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if ip := to.Addr().Unmap().WithZone(""); err != nil || ip.IsLinkLocalUnicast() || ip == netip.MustParseAddr("fd00:ec2::254") {
			return fmt.Errorf("%s is a link-local address", address)
		}
		return nil
	}}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = dialer.DialContext
	return &http.Client{Transport: transport, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		return nil
	}}
}

// Fetch returns the text at a source: an http or https URL, s3://BUCKET/KEY, one of the three forms of
// an S3 object's URL, file:///PATH or PATH below the directory of the document store. The error is a
// *muster.Error of kind Invalid. Whether the text is a job document is for the caller to see.
func (s *Sources) Fetch(ctx context.Context, source string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if !strings.Contains(source, "://") {
		return s.file(source, source)
	}
	u, err := url.Parse(source)
	if err != nil {
		return "", muster.Errorf(muster.Invalid, "documentSource %q is not a URL", source)
	}
	// A URL that was signed by somebody else needs no keys of ours.
	if s.o.S3 != nil && !u.Query().Has("X-Amz-Signature") || u.Scheme == "s3" {
		if o, ok := s.o.S3.object(source, encodedKey); ok {
			return s.object(ctx, source, o)
		}
	}
	switch u.Scheme {
	case "http", "https":
		return s.get(ctx, u)
	case "file":
		if u.Host != "" && u.Host != "localhost" {
			return "", muster.Errorf(muster.Invalid, "documentSource %s names the host %s; write file:///PATH, below the document store", source, u.Host)
		}
		return s.file(source, strings.TrimPrefix(u.Path, "/"))
	}
	return "", muster.Errorf(muster.Invalid, "documentSource %s cannot be read; it must be an http, https, s3 or file URL", u.Redacted())
}

func (s *Sources) get(ctx context.Context, u *url.URL) (string, error) {
	shown := u.Redacted()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", muster.Errorf(muster.Invalid, "documentSource %s is not a URL that can be fetched", shown)
	}
	answer, err := s.o.Client.Do(r)
	if err != nil {
		// What is around it is the method and the URL, with its password.
		if outer := (*url.Error)(nil); errors.As(err, &outer) {
			err = outer.Err
		}
		return "", unreadable(shown, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "", muster.Errorf(muster.Invalid, "documentSource %s was answered with status %s", shown, answer.Status)
	}
	return readDocument(shown, answer.Body)
}

func (s *Sources) object(ctx context.Context, source string, o object) (string, error) {
	if s.o.S3 == nil {
		return "", muster.Errorf(muster.Invalid, "documentSource %s is in S3, and this server has no S3 credentials", source)
	}
	out, err := s.o.S3.client.GetObject(ctx, o.get(), s.o.S3.at(o))
	if err != nil {
		var known smithy.APIError
		if errors.As(err, &known) {
			return "", muster.Errorf(muster.Invalid, "documentSource %s was answered by S3 with %s: %s", source, known.ErrorCode(), known.ErrorMessage())
		}
		return "", unreadable(source, err)
	}
	defer out.Body.Close()
	return readDocument(source, out.Body)
}

// file reads below the directory of the store; os.Root sees to it that neither .. nor a link leads out.
func (s *Sources) file(source, path string) (string, error) {
	if s.o.Dir == "" {
		return "", muster.Errorf(muster.Invalid, "documentSource %s is a file, and this server has no document store", source)
	}
	if !filepath.IsLocal(path) {
		return "", muster.Errorf(muster.Invalid, "documentSource %s is not a path below the document store", source)
	}
	root, err := os.OpenRoot(s.o.Dir)
	if err != nil {
		return "", muster.Errorf(muster.Invalid, "documentSource %s cannot be read: the document store cannot be opened", source)
	}
	defer root.Close()
	// Opening a pipe would wait for its other end.
	info, err := root.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", muster.Errorf(muster.Invalid, "documentSource %s is no file of the document store", source)
	}
	f, err := root.Open(path)
	if err != nil {
		return "", muster.Errorf(muster.Invalid, "documentSource %s cannot be opened", source)
	}
	defer f.Close()
	return readDocument(source, f)
}

func readDocument(source string, from io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(from, muster.MaxDocumentBytes+1))
	if err != nil {
		return "", unreadable(source, err)
	}
	if len(text) > muster.MaxDocumentBytes {
		return "", muster.Errorf(muster.Invalid, "documentSource %s has more than the %d bytes a job document may have", source, muster.MaxDocumentBytes)
	}
	return string(text), nil
}

func unreadable(source string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return muster.Errorf(muster.Invalid, "documentSource %s was not answered in time", source)
	}
	return muster.Errorf(muster.Invalid, "documentSource %s could not be read: %v", source, err)
}

// S3Options say with which keys, and where, objects are read and signed for.
type S3Options struct {
	Endpoint string // of something that speaks S3, such as http://minio:9000; empty: AWS
	// Region is signed for where an object's URL does not name one, and always with an Endpoint.
	// Empty: us-east-1.
	Region                                     string
	AccessKeyID, SecretAccessKey, SessionToken string
}

// S3 reads objects, and signs URLs with which devices read and write them.
type S3 struct {
	o      S3Options
	client *s3.Client
}

// NewS3 makes an S3. It asks nobody; wrong keys show when they are used.
func NewS3(o S3Options) (*S3, error) {
	if o.AccessKeyID == "" || o.SecretAccessKey == "" {
		return nil, fmt.Errorf("S3 needs both an access key id and a secret access key")
	}
	o.Endpoint = strings.TrimSuffix(o.Endpoint, "/")
	if u, err := url.Parse(o.Endpoint); o.Endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("S3 endpoint %q is not an http or https URL", o.Endpoint)
	}
	o.Region = cmp.Or(o.Region, "us-east-1")
	options := s3.Options{
		Region:      o.Region,
		Credentials: credentials.NewStaticCredentialsProvider(o.AccessKeyID, o.SecretAccessKey, o.SessionToken),
		// Checksums would become part of presigned URLs, and whoever uses one would have to send them.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}
	if o.Endpoint != "" {
		options.BaseEndpoint = &o.Endpoint
	}
	return &S3{o: o, client: s3.New(options)}, nil
}

// at makes a call go where the object is.
func (s *S3) at(o object) func(*s3.Options) {
	return func(options *s3.Options) {
		options.UsePathStyle = o.pathStyle || s.o.Endpoint != ""
		if s.o.Endpoint == "" {
			options.Region = cmp.Or(o.region, s.o.Region)
		}
	}
}

// An object is what an S3 URL names.
type object struct {
	region    string // empty: the URL does not say
	bucket    string
	key       string
	version   string
	pathStyle bool
}

func (o object) get() *s3.GetObjectInput {
	in := &s3.GetObjectInput{Bucket: &o.bucket, Key: &o.key}
	if o.version != "" {
		in.VersionId = &o.version
	}
	return in
}

// How the key stands in an S3 URL.
type keyForm bool

const (
	literalKey keyForm = false
	encodedKey keyForm = true // %XX are decoded, and ?versionId=… is a version
)

// s3Host matches s3.REGION.amazonaws.com and BUCKET.s3.REGION.amazonaws.com, also as they were written
// before regions were (s3.amazonaws.com) and when they followed a hyphen.
var s3Host = regexp.MustCompile(`^(?:(.+)\.)?s3(?:[.-]([a-z]{2,3}(?:-[a-z]+)+-[0-9]+))?\.amazonaws\.com(?:\.cn)?$`)

// object reads the URL of an object: of AWS, of the configured endpoint, or s3://BUCKET/KEY. The key
// may be empty. s may be nil.
func (s *S3) object(text string, form keyForm) (o object, ok bool) {
	scheme, rest, ok := strings.Cut(text, "://")
	host, path, _ := strings.Cut(rest, "/")
	match := s3Host.FindStringSubmatch(strings.ToLower(host))
	switch {
	case !ok:
		return o, false
	case scheme == "s3":
		o.bucket = host
	case s != nil && s.o.Endpoint != "" && strings.HasPrefix(text, s.o.Endpoint+"/"):
		path, match = strings.TrimPrefix(text, s.o.Endpoint+"/"), nil
		o.pathStyle = true
	case match == nil || scheme != "https" && scheme != "http":
		return o, false
	case match[1] == "":
		o.region, o.pathStyle = match[2], true
	default:
		o.region, o.bucket = match[2], match[1]
	}
	if o.pathStyle {
		o.bucket, path, _ = strings.Cut(path, "/")
	}
	o.key = path
	if form == encodedKey {
		if o.key, o.version, ok = decodeKey(path); !ok {
			return o, false
		}
	}
	return o, o.bucket != ""
}

// decodeKey reads KEY?versionId=ID, whose question mark and equals sign may be encoded as well.
func decodeKey(text string) (key, version string, ok bool) {
	path, query, asked := strings.Cut(text, "?")
	if asked {
		values, err := url.ParseQuery(query)
		if err != nil {
			return "", "", false
		}
		version = values.Get("versionId")
	}
	key, err := url.PathUnescape(path)
	if i := strings.LastIndex(key, "?versionId="); i >= 0 && !asked {
		key, version = key[:i], key[i+len("?versionId="):]
	}
	return key, version, err == nil && key != ""
}
