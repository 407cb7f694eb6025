package awsapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	sigAlgorithm   = "AWS4-HMAC-SHA256"
	sigTime        = "20060102T150405Z"
	sigTerminator  = "aws4_request"
	sigMaxExpires  = 7 * 24 * time.Hour
	unsignedBody   = "UNSIGNED-PAYLOAD"
	serviceMQTT    = "iotdevicegateway"
	defaultMaxSkew = 5 * time.Minute // AWS's (events-and-limits.md §4)
)

// services are the signing names of both planes. Older SDKs sign either as execute-api, so the name
// cannot tell whether a key may do something: the operation's plane does (Identity.Allows).
var services = []string{"iot", "execute-api", "iot-jobs-data", "iotdata"}

// SigV4Options say whose signatures are good, where, and when.
type SigV4Options struct {
	Keys    *Credentials
	Region  string           // that the credential scope must name
	Now     func() time.Time // real time: signatures do not follow a manual clock
	MaxSkew time.Duration    // between the signer's clock and Now; 0: five minutes
}

// SigV4 verifies AWS signatures, version 4, of headers and of presigned URLs.
type SigV4 struct{ o SigV4Options }

// NewSigV4 makes a verifier. Keys and Now must be given.
func NewSigV4(o SigV4Options) *SigV4 {
	if o.MaxSkew == 0 {
		o.MaxSkew = defaultMaxSkew
	}
	return &SigV4{o}
}

// Verify says whose signature a request carries. The error is an *AuthError.
func (s *SigV4) Verify(r *http.Request, body []byte) (Identity, error) {
	c, err := readClaim(r)
	if err != nil {
		return Identity{}, err
	}
	return s.verify(r, c, body, services)
}

// VerifyMQTT verifies the presigned URL with which a client opens MQTT over WebSocket. Clients add the
// session token behind the signature there, contrary to everywhere else.
func (s *SigV4) VerifyMQTT(r *http.Request) (Identity, error) {
	c, err := readClaim(r)
	if err != nil {
		return Identity{}, err
	}
	id, err := s.verify(r, c, nil, []string{serviceMQTT})
	if err != nil && c.query.Has("X-Amz-Security-Token") {
		c.query.Del("X-Amz-Security-Token")
		if id, err2 := s.verify(r, c, nil, []string{serviceMQTT}); err2 == nil {
			return id, nil
		}
	}
	return id, err
}

func (s *SigV4) verify(r *http.Request, c *claim, body []byte, services []string) (Identity, error) {
	key, ok := s.o.Keys.Lookup(c.AccessKeyID)
	// A token is part of the credentials: a key without one must not come with one.
	if !ok || subtle.ConstantTimeCompare([]byte(c.token), []byte(key.SessionToken)) != 1 {
		return Identity{}, authErrorf("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if err := s.checkScope(c, services); err != nil {
		return Identity{}, err
	}
	if err := s.checkTime(c); err != nil {
		return Identity{}, err
	}
	want, err := c.sign(r, key, body)
	if err != nil {
		return Identity{}, err
	}
	if subtle.ConstantTimeCompare([]byte(want), []byte(c.signature)) != 1 {
		return Identity{}, invalidSignature("The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return Identity{AccessKeyID: key.AccessKeyID, Planes: key.Planes, ReadOnly: key.ReadOnly, Service: c.Service}, nil
}

func (s *SigV4) checkScope(c *claim, services []string) error {
	switch day := c.at.Format("20060102"); {
	case c.Date != day:
		return invalidSignature("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.",
			c.Date, day, c.at.Format(sigTime))
	case c.Region != s.o.Region:
		return invalidSignature("Credential should be scoped to a valid region: '%s', not '%s'.", s.o.Region, c.Region)
	case !slices.Contains(services, c.Service):
		return invalidSignature("Credential should be scoped to correct service: '%s', not '%s'.", services[0], c.Service)
	}
	return nil
}

func (s *SigV4) checkTime(c *claim) error {
	now := s.o.Now().UTC()
	life := s.o.MaxSkew
	if c.expires != 0 {
		life = c.expires
	}
	at := c.at.Format(sigTime)
	if limit := now.Add(s.o.MaxSkew); c.at.After(limit) {
		return invalidSignature("Signature not yet current: %s is still later than %s (%s + %s)",
			at, limit.Format(sigTime), now.Format(sigTime), minutes(s.o.MaxSkew))
	}
	if limit := now.Add(-life); c.at.Before(limit) {
		return invalidSignature("Signature expired: %s is now earlier than %s (%s - %s)",
			at, limit.Format(sigTime), now.Format(sigTime), minutes(life))
	}
	return nil
}

func minutes(d time.Duration) string {
	if d%time.Minute == 0 {
		return strconv.Itoa(int(d/time.Minute)) + " min."
	}
	return strconv.Itoa(int(d/time.Second)) + " sec."
}

// authorization is a header of that name, taken apart.
type authorization struct {
	scope     CredentialScope
	signed    []string
	signature string
}

// parseAuthorization reads AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=….
func parseAuthorization(text string) (a authorization, err error) {
	algorithm, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	if algorithm != sigAlgorithm {
		return a, incomplete("Unsupported AWS 'algorithm': '%s'.", algorithm)
	}
	names := []string{"Credential", "SignedHeaders", "Signature"}
	var values [3]string
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		i := slices.Index(names, name)
		switch {
		case !ok:
			return a, incomplete("'%s' not a valid key=value pair (missing equal-sign) in Authorization header.", name)
		case i >= 0 && values[i] != "":
			return a, incomplete("Authorization header has '%s' more than once.", name)
		case i >= 0:
			values[i] = value
		}
	}
	for i, name := range names {
		if values[i] == "" {
			return a, incomplete("Authorization header requires '%s' parameter.", name)
		}
	}
	a.signed, a.signature = strings.Split(values[1], ";"), values[2]
	a.scope, err = parseScope(values[0])
	return a, err
}

// A claim is what a request says about its signature.
type claim struct {
	CredentialScope
	signed    []string // names of headers
	signature string
	at        time.Time
	presigned bool
	expires   time.Duration // of a presigned URL; 0: not given
	token     string
	query     url.Values // all of it but the signature
}

func readClaim(r *http.Request) (*claim, error) {
	// A pair that cannot be read would be left out of what is signed.
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, incomplete("The query cannot be read: %v", err)
	}
	auth := r.Header.Values("Authorization")
	switch inQuery := query.Has("X-Amz-Algorithm") || query.Has("X-Amz-Signature") || query.Has("X-Amz-Credential"); {
	case len(auth) == 0 && !inQuery:
		return nil, authErrorf("MissingAuthenticationTokenException", "Missing Authentication Token")
	case len(auth) == 0:
		return queryClaim(r, query)
	case len(auth) > 1 || inQuery:
		return nil, incomplete("The request is signed more than once; use either one Authorization header or a presigned URL.")
	}
	p, err := parseAuthorization(auth[0])
	if err != nil {
		return nil, err
	}
	c := &claim{CredentialScope: p.scope, signed: p.signed, signature: p.signature, query: query}
	if c.token, err = only(r.Header.Values("X-Amz-Security-Token"), "X-Amz-Security-Token", true); err != nil {
		return nil, err
	}
	date := r.Header.Values("X-Amz-Date")
	if len(date) == 0 && r.Header.Get("Date") != "" {
		// The SDK's signer cannot do it, and no SDK does it.
		return nil, incomplete("A signature with the 'Date' header alone is not supported; send and sign 'X-Amz-Date'.")
	}
	return c, c.finish(date, "x-amz-date")
}

func queryClaim(r *http.Request, query url.Values) (*claim, error) {
	var values [6]string
	for i, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Expires", "X-Amz-Security-Token"} {
		var err error
		if values[i], err = only(query[name], name, i >= 4); err != nil {
			return nil, err
		}
	}
	if values[0] != sigAlgorithm {
		return nil, incomplete("Unsupported AWS 'algorithm': '%s'.", values[0])
	}
	scope, err := parseScope(values[1])
	if err != nil {
		return nil, err
	}
	c := &claim{CredentialScope: scope, signed: strings.Split(values[2], ";"), signature: values[3], token: values[5], presigned: true, query: query}
	if values[4] != "" {
		seconds, err := strconv.ParseUint(values[4], 10, 32)
		c.expires = time.Duration(seconds) * time.Second
		if err != nil || c.expires == 0 || c.expires > sigMaxExpires {
			return nil, incomplete("X-Amz-Expires is '%s'; it must be between 1 and %d.", values[4], int(sigMaxExpires/time.Second))
		}
	}
	date := query["X-Amz-Date"]
	query.Del("X-Amz-Signature")
	return c, c.finish(date, "")
}

// only is the one value of a parameter.
func only(values []string, name string, optional bool) (string, error) {
	switch {
	case len(values) == 1 && (values[0] != "" || optional):
		return values[0], nil
	case len(values) == 0 && optional:
		return "", nil
	case len(values) > 1:
		return "", incomplete("'%s' is given more than once.", name)
	}
	return "", incomplete("AWS query-string parameters must include '%s'.", name)
}

// finish reads the date and looks at what must be signed.
func (c *claim) finish(date []string, mustSign string) (err error) {
	if len(date) != 1 {
		return incomplete("Authorization requires existence of one 'X-Amz-Date'.")
	}
	if c.at, err = time.Parse(sigTime, date[0]); err != nil || c.at.Format(sigTime) != date[0] {
		return incomplete("Date must be in ISO-8601 'basic format'. Got '%s'.", date[0])
	}
	for _, name := range []string{"host", mustSign} {
		if name != "" && !slices.Contains(c.signed, name) {
			return incomplete("'%s' must be a 'SignedHeader' in the AWS Authorization.", name)
		}
	}
	return nil
}

// sign makes the signature that the claim should have, of a request that has just what was signed.
func (c *claim) sign(r *http.Request, key Key, body []byte) (string, error) {
	hash, err := payloadHash(r, c, body)
	if err != nil {
		return "", err
	}
	// Opaque is the path as it was sent: the signer encodes it once more, %24 becoming %2524.
	req := &http.Request{Method: r.Method, Host: r.Host, Header: http.Header{},
		URL: &url.URL{Opaque: "//host" + rawPath(r), RawQuery: c.query.Encode()}}
	for _, name := range c.signed {
		switch values := r.Header.Values(name); {
		case name == "host", name == "x-amz-date" && !c.presigned: // the signer's own
		case name == "content-length" && len(body) > 0:
			req.ContentLength = int64(len(body))
		case name == "content-length", len(values) == 0, name != strings.ToLower(name):
			return "", invalidSignature("The header '%s' is among SignedHeaders, but the request has none that can be signed.", name)
		default:
			// The signer would leave out User-Agent and the like; it does not know them in small letters.
			req.Header[name] = values
		}
	}
	credentials := aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey}
	if !c.presigned {
		err := key.signer.SignHTTP(r.Context(), credentials, req, hash, c.Service, c.Region, c.at)
		_, signature, _ := strings.Cut(req.Header.Get("Authorization"), "Signature=")
		return signature, err
	}
	signed, _, err := key.signer.PresignHTTP(r.Context(), credentials, req, hash, c.Service, c.Region, c.at,
		func(o *v4.SignerOptions) { o.DisableHeaderHoisting = true })
	return signed[strings.LastIndexByte(signed, '=')+1:], err
}

// payloadHash is the hash that was signed for the body.
func payloadHash(r *http.Request, c *claim, body []byte) (string, error) {
	sent := r.Header.Get("X-Amz-Content-Sha256")
	if sent == "" {
		sent = c.query.Get("X-Amz-Content-Sha256")
	}
	if sent == unsignedBody {
		return sent, nil
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if sent != "" && sent != hash {
		return "", invalidSignature("The value of 'x-amz-content-sha256' is neither the hash of the body that was received nor %s.", unsignedBody)
	}
	return hash, nil
}

// rawPath is the path as it stands on the request line.
func rawPath(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		return path
	}
	return r.URL.EscapedPath()
}
