package server

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"muster"
)

// A fingerprint is the SHA-256 of a certificate, which AWS calls its id.
type fingerprint [sha256.Size]byte

func (f fingerprint) String() string { return hex.EncodeToString(f[:]) }

// parseFingerprint reads 64 hex digits, with or without colons.
func parseFingerprint(text string) (f fingerprint, ok bool) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(b) != len(f) {
		return f, false
	}
	return fingerprint(b), true
}

// identities know which certificates are those of devices, and of which. What they know comes from files
// that may change while the server runs.
type identities struct {
	ca     string // file, or directory of files, of the authorities' certificates
	deny   string // file of certificates that are not taken any more; empty: none
	naming naming
	log    *slog.Logger

	roster atomic.Pointer[roster]
	mu     sync.Mutex // one reload at a time
	failed string     // the last error, so that a ticker tells it once
}

// A roster is what the files said.
type roster struct {
	sum    [sha256.Size]byte
	pool   *x509.CertPool
	denied map[fingerprint]bool
	things map[string]muster.ThingName // of the mapping file, by fingerprint or common name
}

// naming is how a certificate tells its thing's name.
type naming struct {
	file string // mapping; else
	uri  string // what a SAN URI begins with, before the name; else the common name
}

// parseNaming reads cn, uri:PREFIX or file:FILE.
func parseNaming(text string) (n naming, err error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch {
	case text == "" || text == "cn":
		return n, nil
	case kind == "uri" && rest != "":
		return naming{uri: rest}, nil
	case kind == "file" && rest != "":
		return naming{file: rest}, nil
	}
	return n, fmt.Errorf("the thing of a certificate is named by cn, uri:PREFIX or file:FILE, not by %q", text)
}

func newIdentities(ca, deny, by string, log *slog.Logger) (*identities, error) {
	n, err := parseNaming(by)
	if err != nil {
		return nil, err
	}
	i := &identities{ca: ca, deny: deny, naming: n, log: log}
	r, err := i.read()
	if err != nil {
		return nil, err
	}
	i.roster.Store(r)
	return i, nil
}

// reload reads the files again, and says whether they have changed. When one cannot be read or is wrong, all
// stays as it was; the error is logged once.
func (i *identities) reload() (changed bool, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r, err := i.read()
	if err != nil {
		if text := err.Error(); text != i.failed {
			i.failed = text
			i.log.Error("client certificates are judged as before, for a file cannot be used", "error", err)
		}
		return false, err
	}
	i.failed = ""
	if r.sum == i.roster.Load().sum {
		return false, nil
	}
	i.roster.Store(r)
	i.log.Info("client authorities, names or denials have changed and are read")
	return true, nil
}

func (i *identities) read() (*roster, error) {
	r := &roster{pool: x509.NewCertPool(), denied: map[fingerprint]bool{}}
	sum := sha256.New()
	files, err := filesOf(i.ca)
	if err != nil {
		return nil, fmt.Errorf("the authorities of client certificates cannot be read: %w", err)
	}
	found := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("the authorities of client certificates cannot be read: %w", err)
		}
		sum.Write(text)
		for _, c := range certificatesIn(text) {
			r.pool.AddCert(c)
			found++
		}
	}
	if found == 0 {
		return nil, fmt.Errorf("there is no certificate in %s: it must be a PEM file of certificates of authorities, or a directory of such files", i.ca)
	}
	if i.deny != "" {
		text, err := os.ReadFile(i.deny)
		if err != nil {
			return nil, fmt.Errorf("the denied certificates cannot be read: %w", err)
		}
		sum.Write([]byte("\x00deny"))
		sum.Write(text)
		if r.denied, err = parseDenied(text); err != nil {
			return nil, fmt.Errorf("%s: %w", i.deny, err)
		}
	}
	if i.naming.file != "" {
		text, err := os.ReadFile(i.naming.file)
		if err != nil {
			return nil, fmt.Errorf("the names of certificates' things cannot be read: %w", err)
		}
		sum.Write([]byte("\x00names"))
		sum.Write(text)
		if r.things, err = parseThings(text); err != nil {
			return nil, fmt.Errorf("%s: %w", i.naming.file, err)
		}
	}
	sum.Sum(r.sum[:0])
	return r, nil
}

// filesOf is a file, or what a directory has of .pem, .crt and .cer.
func filesOf(path string) (files []string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		switch strings.ToLower(filepath.Ext(e.Name())) {
		case ".pem", ".crt", ".cer":
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	return files, nil
}

// certificatesIn are the certificates among the PEM blocks of a text.
func certificatesIn(text []byte) (found []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return found
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			found = append(found, c)
		}
	}
}

// parseDenied reads certificates in PEM, and lines that are fingerprints, with or without colons and what
// openssl writes before them.
func parseDenied(text []byte) (map[fingerprint]bool, error) {
	denied := map[fingerprint]bool{}
	for _, c := range certificatesIn(text) {
		denied[sha256.Sum256(c.Raw)] = true
	}
	lines, inside := bufio.NewScanner(bytes.NewReader(text)), false
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "-----BEGIN "):
			inside = true
		case strings.HasPrefix(line, "-----END "):
			inside = false
		case inside || line == "":
		default:
			if _, value, ok := strings.Cut(line, "="); ok {
				line = value
			}
			f, ok := parseFingerprint(strings.TrimSpace(line))
			if !ok {
				return nil, fmt.Errorf("line %d is neither the SHA-256 fingerprint of a certificate, 64 hex digits, nor part of a certificate in PEM", n)
			}
			denied[f] = true
		}
	}
	return denied, lines.Err()
}

// parseThings reads {"things":{"FINGERPRINT or common name":"thing"}}.
func parseThings(text []byte) (map[string]muster.ThingName, error) {
	var in struct {
		Things map[string]muster.ThingName `json:"things"`
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return nil, fmt.Errorf(`it must be {"things":{"FINGERPRINT or common name":"thing"}}: %w`, err)
	}
	things := map[string]muster.ThingName{}
	for key, thing := range in.Things {
		if !validThing(string(thing)) {
			return nil, fmt.Errorf("%q of %q is no name of a thing", thing, key)
		}
		if f, ok := parseFingerprint(key); ok {
			key = f.String()
		}
		things[key] = thing
	}
	return things, nil
}

// validThing says whether a text is a thing's name (control-plane.md §1, NAME). Nothing else may become
// part of the topics that a device owns.
func validThing(name string) bool {
	return 1 <= len(name) && len(name) <= 128 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != ':' && r != '_' && r != '-'
	})
}

// An unknownError says why a certificate, though an authority has signed it, is not taken.
type unknownError struct{ reason string }

func (e *unknownError) Error() string { return e.reason }

// identify finds whose a certificate is, which was found to be signed by an authority.
func (i *identities) identify(c *x509.Certificate) (thing muster.ThingName, print fingerprint, err error) {
	r := i.roster.Load()
	print = sha256.Sum256(c.Raw)
	if r.denied[print] {
		return "", print, &unknownError{"This certificate is denied"}
	}
	name := c.Subject.CommonName
	switch {
	case i.naming.file != "":
		// A common name that looks like a fingerprint is not looked up: it would be another's.
		_, posing := parseFingerprint(name)
		byName := r.things[name]
		if posing {
			byName = ""
		}
		thing = cmp.Or(r.things[print.String()], byName)
		if thing == "" {
			return "", print, &unknownError{"This certificate is of no thing"}
		}
		return thing, print, nil
	case i.naming.uri != "":
		name = ""
		for _, u := range c.URIs {
			rest, ok := strings.CutPrefix(u.String(), i.naming.uri)
			if ok && name != "" {
				return "", print, &unknownError{"This certificate names more than one thing"}
			}
			if ok {
				name = rest
			}
		}
	}
	if !validThing(name) {
		return "", print, &unknownError{fmt.Sprintf("This certificate names no thing: %q is not a thing's name", name)}
	}
	return muster.ThingName(name), print, nil
}

// of identifies the client of a TLS connection; known is false for one that has shown no certificate.
func (i *identities) of(state *tls.ConnectionState) (thing muster.ThingName, print fingerprint, known bool, err error) {
	if i == nil || state == nil || len(state.VerifiedChains) == 0 {
		return "", print, false, nil
	}
	thing, print, err = i.identify(state.VerifiedChains[0][0])
	return thing, print, true, err
}

// verify refuses clients whose certificate is denied, or not good any more: a resumed session has not been
// looked at since it began.
func (i *identities) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	leaf, r := state.PeerCertificates[0], i.roster.Load()
	if r.denied[sha256.Sum256(leaf.Raw)] {
		return errors.New("the client's certificate is denied")
	}
	if !state.DidResume {
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: r.pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}
