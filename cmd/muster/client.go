package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// signing is how a command proves to a server who it is: as an AWS client does.
type signing struct {
	AccessKeyID     string `group:"sign" placeholder:"ID" env:"MUSTER_ACCESS_KEY_ID,AWS_ACCESS_KEY_ID" help:"Access key; without one requests are not signed."`
	SecretAccessKey string `group:"sign" placeholder:"SECRET" env:"MUSTER_SECRET_ACCESS_KEY,AWS_SECRET_ACCESS_KEY" help:"Its secret. Better given by the environment: flags can be seen by others."`
	SessionToken    string `group:"sign" placeholder:"TOKEN" env:"MUSTER_SESSION_TOKEN,AWS_SESSION_TOKEN" help:"Its session token, if it has one."`
	Region          string `group:"sign" placeholder:"NAME" default:"us-east-1" env:"MUSTER_REGION,AWS_REGION,AWS_DEFAULT_REGION" help:"Region of the server (default ${default})."`
}

// maxAnswer is more than the longest answer: an import that explains a thousand refused lines.
const maxAnswer = 64 << 20

type answer struct {
	status int
	body   []byte
}

// refusal is the error that an answer tells.
func (a answer) refusal() error {
	var said struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(a.body, &said) != nil || said.Message == "" {
		return fmt.Errorf("the server answered %d %s; is it a muster server?", a.status, http.StatusText(a.status))
	}
	return fmt.Errorf("the server refused: %s", said.Message)
}

// post sends a body of any length to an own endpoint of a running server. The signature leaves the
// body out, so that it can be sent while it is still being read.
func (s *signing) post(ctx context.Context, endpoint, path, contentType string, body io.Reader) (answer, error) {
	return s.send(ctx, http.MethodPost, endpoint, path, contentType, body)
}

// get asks an own endpoint of a running server.
func (s *signing) get(ctx context.Context, endpoint, path string) (answer, error) {
	return s.send(ctx, http.MethodGet, endpoint, path, "", nil)
}

func (s *signing) send(ctx context.Context, method, endpoint, path, contentType string, body io.Reader) (answer, error) {
	base, err := url.Parse(endpoint)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return answer{}, fmt.Errorf("%q is not the URL of a server: write http://HOST:PORT", endpoint)
	}
	path, query, _ := strings.Cut(path, "?")
	to := base.JoinPath(path)
	to.RawQuery = query
	req, err := http.NewRequestWithContext(ctx, method, to.String(), nil)
	if err != nil {
		return answer{}, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if s.AccessKeyID != "" {
		const unsigned = "UNSIGNED-PAYLOAD"
		req.Header.Set("X-Amz-Content-Sha256", unsigned)
		keys := aws.Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey, SessionToken: s.SessionToken}
		if err := v4.NewSigner().SignHTTP(ctx, keys, req, unsigned, "iot", s.Region, time.Now()); err != nil {
			return answer{}, fmt.Errorf("the request cannot be signed: %w", err)
		}
	}
	if body != nil {
		// A server that will not take the body says so before it is sent.
		req.Header.Set("Expect", "100-continue")
		req.Body, req.ContentLength = io.NopCloser(body), -1
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("the server cannot be asked: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return answer{}, fmt.Errorf("the answer could not be read to its end: %w", err)
	}
	return answer{response.StatusCode, text}, nil
}
