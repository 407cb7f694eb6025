package awsapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"muster/internal/awsapi/wire"
)

// Planes is a set of planes.
type Planes uint8

// BothPlanes is what a key is good for when its file does not say.
const BothPlanes = Planes(1<<wire.Control | 1<<wire.Data)

// Has reports whether the set has a plane.
func (p Planes) Has(plane wire.Plane) bool { return p&(1<<plane) != 0 }

// A Key is one entry of the credentials file.
type Key struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // when not empty, requests must carry it
	Planes          Planes
	ReadOnly        bool

	// The signer remembers the day's signing key by access key, not by secret, so it lives and dies
	// with what was read from the file.
	signer *v4.Signer
}

// String keeps the secret out of logs and error messages.
func (k Key) String() string { return k.AccessKeyID }

// GoString keeps it out of %#v too.
func (k Key) GoString() string { return k.AccessKeyID }

// Credentials are the keys of a file, which may change while the server runs.
type Credentials struct {
	path string
	log  *slog.Logger
	keys atomic.Pointer[map[string]Key]

	mu     sync.Mutex // one Reload at a time
	sum    [sha256.Size]byte
	failed string // the last error of Reload, so that a ticker tells it once
}

// LoadCredentials reads {"keys":[{"accessKeyId","secretAccessKey","sessionToken"?,"planes"?,"readOnly"?}]}.
func LoadCredentials(path string, log *slog.Logger) (*Credentials, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Credentials{path: path, log: log}
	if err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

// Lookup finds a key.
func (c *Credentials) Lookup(id string) (Key, bool) {
	k, ok := (*c.keys.Load())[id]
	return k, ok
}

// Reload reads the file again. When it cannot be read or is wrong, the keys stay as they were; the
// log tells it once. The file is compared by content: it is small, and times and sizes miss changes.
func (c *Credentials) Reload() (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.sum
	if err := c.read(); err != nil {
		if c.failed != err.Error() {
			c.failed = err.Error()
			c.log.Error("credentials file not reloaded, the keys stay as they were", "path", c.path, "error", err)
		}
		return false, err
	}
	c.failed = ""
	if c.sum == before {
		return false, nil
	}
	c.log.Info("credentials file reloaded", "path", c.path, "keys", len(*c.keys.Load()))
	return true, nil
}

func (c *Credentials) read() error {
	f, err := os.Open(c.path)
	if err != nil {
		return fmt.Errorf("credentials file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("credentials file: %w", err)
	}
	sum := sha256.Sum256(text)
	if c.keys.Load() != nil && sum == c.sum {
		return nil
	}
	keys, err := parseKeys(text)
	if err != nil {
		return fmt.Errorf("credentials file %s: %w", c.path, err)
	}
	if info, err := f.Stat(); err == nil && readableByOthers(info) {
		c.log.Warn("credentials file can be read by other users of this machine", "path", c.path, "mode", info.Mode().Perm().String())
	}
	if len(keys) == 0 {
		c.log.Warn("credentials file has no keys: every signed request will be refused", "path", c.path)
	}
	c.sum = sum
	c.keys.Store(&keys)
	return nil
}

// readableByOthers leaves the group out: by it a file that root owns is given to the service.
func readableByOthers(info fs.FileInfo) bool { return info.Mode().Perm()&0o004 != 0 }

func parseKeys(text []byte) (map[string]Key, error) {
	var file struct {
		Keys *[]struct {
			AccessKeyID     string    `json:"accessKeyId"`
			SecretAccessKey string    `json:"secretAccessKey"`
			SessionToken    string    `json:"sessionToken"`
			Planes          *[]string `json:"planes"`
			ReadOnly        bool      `json:"readOnly"`
		} `json:"keys"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("there is something behind the JSON object")
	}
	if file.Keys == nil {
		return nil, fmt.Errorf("keys is missing")
	}
	keys := make(map[string]Key, len(*file.Keys))
	for i, k := range *file.Keys {
		_, twice := keys[k.AccessKeyID]
		switch {
		case k.AccessKeyID == "" || strings.ContainsFunc(k.AccessKeyID, notInKeyID):
			return nil, fmt.Errorf("keys[%d].accessKeyId is %q; it must be letters, digits and any of _-.:+@", i, k.AccessKeyID)
		case twice:
			return nil, fmt.Errorf("keys[%d].accessKeyId %s is there twice", i, k.AccessKeyID)
		case strings.TrimSpace(k.SecretAccessKey) == "":
			return nil, fmt.Errorf("keys[%d].secretAccessKey of %s is empty", i, k.AccessKeyID)
		}
		planes := BothPlanes
		if k.Planes != nil {
			planes = 0
			for _, name := range *k.Planes {
				switch name {
				case wire.Control.String():
					planes |= 1 << wire.Control
				case wire.Data.String():
					planes |= 1 << wire.Data
				default:
					return nil, fmt.Errorf("keys[%d].planes has %q; a plane is control or data", i, name)
				}
			}
			if planes == 0 {
				return nil, fmt.Errorf("keys[%d].planes is empty; leave it out for both planes", i)
			}
		}
		keys[k.AccessKeyID] = Key{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.SecretAccessKey, SessionToken: k.SessionToken,
			Planes: planes, ReadOnly: k.ReadOnly, signer: v4.NewSigner()}
	}
	return keys, nil
}

// notInKeyID tells characters that would break a credential scope or a header apart.
func notInKeyID(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.:+@", r))
}

// An Identity is whose signature a request carries, and what that key is good for.
type Identity struct {
	AccessKeyID string
	Planes      Planes
	ReadOnly    bool
	Service     string // that the signature is for
}

// Allows says whether the key may be used for an operation of a plane; readOnly tells that the
// operation changes nothing. The error is an *AuthError.
func (id Identity) Allows(plane wire.Plane, readOnly bool) error {
	switch {
	case !id.Planes.Has(plane):
		return authErrorf("AccessDeniedException", "The access key %s is not authorized for the %s plane", id.AccessKeyID, plane)
	case id.ReadOnly && !readOnly:
		return authErrorf("AccessDeniedException", "The access key %s is not authorized to change anything: it is read-only", id.AccessKeyID)
	}
	return nil
}

func authErrorf(kind, format string, args ...any) *AuthError {
	return &AuthError{Status: http.StatusForbidden, Type: kind, Message: fmt.Sprintf(format, args...)}
}

func incomplete(format string, args ...any) *AuthError {
	return authErrorf("IncompleteSignatureException", format, args...)
}

func invalidSignature(format string, args ...any) *AuthError {
	return authErrorf("InvalidSignatureException", format, args...)
}

// CredentialScope is what a signature claims to be for.
type CredentialScope struct {
	AccessKeyID string
	Date        string // YYYYMMDD
	Region      string
	Service     string
}

// Scope reads what a request is signed for, without verifying anything. signed is false when there is
// no signature, or one whose scope cannot be read.
func Scope(r *http.Request) (scope CredentialScope, signed bool) {
	if auth := r.Header.Get("Authorization"); auth != "" {
		p, err := parseAuthorization(auth)
		return p.scope, err == nil
	}
	if !strings.Contains(r.URL.RawQuery, "X-Amz-Credential=") {
		return CredentialScope{}, false
	}
	scope, err := parseScope(r.URL.Query().Get("X-Amz-Credential"))
	return scope, err == nil
}

// parseScope reads KEY/DATE/REGION/SERVICE/aws4_request.
func parseScope(text string) (CredentialScope, error) {
	p := strings.Split(text, "/")
	switch {
	case len(p) != 5 || slices.Contains(p, ""):
		return CredentialScope{}, incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'.", text)
	case p[4] != sigTerminator:
		return CredentialScope{}, incomplete("Credential should be scoped with a valid terminator: '%s', not '%s'.", sigTerminator, p[4])
	case strings.Trim(p[2], "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		// It goes into ARNs, and nobody has verified it when it does.
		return CredentialScope{}, incomplete("Credential should be scoped to a valid region, not '%s'.", p[2])
	}
	return CredentialScope{AccessKeyID: p[0], Date: p[1], Region: p[2], Service: p[3]}, nil
}
