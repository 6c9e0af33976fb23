package scrape

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
)

// HTTPOptions are how a target is asked over HTTP, with the names of Prometheus' scrape_config. The zero value asks without a word about who asks. Secrets are read from files, again
// for each request, so that they may be rotated, and are never part of a status or a log.
type HTTPOptions struct {
	Authorization   Authorization `yaml:"authorization"`
	BearerTokenFile string        `yaml:"bearer_token_file"` // the older way of writing authorization
	BasicAuth       BasicAuth     `yaml:"basic_auth"`
	TLS             TLSOptions    `yaml:"tls_config"`
}

// Authorization is a token in the header Authorization.
type Authorization struct {
	Type            string `yaml:"type"` // "": Bearer
	CredentialsFile string `yaml:"credentials_file"`
}

// BasicAuth is a user's name and password.
type BasicAuth struct {
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
}

// TLSOptions are what https targets are checked by and what they are shown.
type TLSOptions struct {
	CAFile             string `yaml:"ca_file"`   // "": the system's
	CertFile           string `yaml:"cert_file"` // of the client
	KeyFile            string `yaml:"key_file"`
	ServerName         string `yaml:"server_name"` // "": the host of the URL
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
}

// maxSecret bounds a token or password file, maxPEM one of certificates or a key.
const (
	maxSecret = 64 << 10
	maxPEM    = 1 << 20
)

// Validate checks that the options do not contradict each other. The files are read when they are needed.
func (o *HTTPOptions) Validate() error {
	ways := 0
	for _, set := range []bool{o.Authorization != Authorization{}, o.BearerTokenFile != "", o.BasicAuth != BasicAuth{}} {
		if set {
			ways++
		}
	}
	switch {
	case ways > 1:
		return errors.New("authorization, bearer_token_file and basic_auth: more than one of them is set")
	case o.Authorization.Type != "" && o.Authorization.CredentialsFile == "":
		return errors.New("authorization: credentials_file is not set")
	case strings.EqualFold(o.Authorization.Type, "basic"):
		return errors.New("authorization: type basic: use basic_auth")
	case strings.ContainsAny(o.Authorization.Type, " \t\r\n"):
		return fmt.Errorf("authorization: type %q has white space in it", o.Authorization.Type)
	case o.BasicAuth.PasswordFile != "" && o.BasicAuth.Username == "", strings.Contains(o.BasicAuth.Username, ":"):
		return fmt.Errorf("basic_auth: username %q: want one without a colon", o.BasicAuth.Username)
	case (o.TLS.CertFile == "") != (o.TLS.KeyFile == ""):
		return errors.New("tls_config: cert_file and key_file need each other")
	}
	return nil
}

// authorize says who asks.
func (o *HTTPOptions) authorize(req *http.Request) error {
	scheme, file := "Bearer", o.BearerTokenFile
	if o.Authorization.CredentialsFile != "" {
		file = o.Authorization.CredentialsFile
		if o.Authorization.Type != "" {
			scheme = o.Authorization.Type
		}
	}
	value := ""
	switch {
	case file != "":
		token, err := readSecret(file)
		if err != nil {
			return err
		}
		value = scheme + " " + token
	case o.BasicAuth.Username != "":
		password := ""
		if o.BasicAuth.PasswordFile != "" {
			var err error
			if password, err = readSecret(o.BasicAuth.PasswordFile); err != nil {
				return err
			}
		}
		value = "Basic " + base64.StdEncoding.EncodeToString([]byte(o.BasicAuth.Username+":"+password))
	default:
		return nil
	}
	req.Header.Set("Authorization", value)
	return nil
}

// readSecret reads a file that holds one line.
func readSecret(name string) (string, error) {
	b, err := readAtMost(name, maxSecret)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	s := strings.TrimSpace(string(b))
	if strings.ContainsAny(s, "\r\n\x00") {
		return "", fmt.Errorf("read secret: %s holds more than one line", name)
	}
	return s, nil
}

func readAtMost(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return b, err
}

// config reads the files.
func (o *TLSOptions) config() (*tls.Config, error) {
	c := &tls.Config{ServerName: o.ServerName, InsecureSkipVerify: o.InsecureSkipVerify}
	if o.CAFile != "" {
		pem, err := readAtMost(o.CAFile, maxPEM)
		if err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read certificates: %s holds none", o.CAFile)
		}
	}
	if o.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// stamp changes when one of the files does.
func (o *TLSOptions) stamp() string {
	var b bytes.Buffer
	for _, name := range []string{o.CAFile, o.CertFile, o.KeyFile} {
		if name == "" {
			continue
		}
		if st, err := os.Stat(name); err == nil {
			fmt.Fprintln(&b, st.ModTime().UnixNano(), st.Size())
		}
	}
	return b.String()
}

// access is the HTTP client of one target whose connections are not for others: it has TLS options, or lives in another network, where the same address is another program's.
type access struct {
	mu     sync.Mutex
	client *http.Client
	stamp  string
}

// newAccess returns nil where the client that all share will do.
func newAccess(t *Target) *access {
	if t.Dial == nil && t.HTTP.TLS == (TLSOptions{}) {
		return nil
	}
	return &access{}
}

// do sends a request to t.
func (f *fetcher) do(t *Target, req *http.Request) (*http.Response, error) {
	if err := t.HTTP.authorize(req); err != nil {
		return nil, err
	}
	client := f.client
	if t.access != nil {
		var err error
		if client, err = t.access.of(f, t); err != nil {
			return nil, err
		}
	}
	return client.Do(req)
}

// of returns the client, made anew when a certificate was replaced.
func (a *access) of(f *fetcher, t *Target) (*http.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	stamp := t.HTTP.TLS.stamp()
	if a.client != nil && a.stamp == stamp {
		return a.client, nil
	}
	shared, ok := f.client.Transport.(*http.Transport)
	if !ok {
		return nil, errors.New("the client that all targets share has another kind of transport")
	}
	transport := shared.Clone()
	if t.Dial != nil {
		transport.DialContext = t.Dial
	}
	if t.HTTP.TLS != (TLSOptions{}) {
		var err error
		if transport.TLSClientConfig, err = t.HTTP.TLS.config(); err != nil {
			return nil, err
		}
	}
	if a.client != nil {
		a.client.CloseIdleConnections()
	}
	client := *f.client
	client.Transport = transport
	a.client, a.stamp = &client, stamp
	return a.client, nil
}

func (a *access) close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != nil {
		a.client.CloseIdleConnections()
	}
}
