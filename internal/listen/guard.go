package listen

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
)

// Paths returns an exemption for GET and HEAD of exactly these paths.
func Paths(paths ...string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return (r.Method == http.MethodGet || r.Method == http.MethodHead) && slices.Contains(paths, r.URL.Path)
	}
}

// Guard wraps next in what the listener's policy asks of a request: its host, its origin and its token. Requests that exempt says yes to need no
// token; exempt may be nil.
func (l *Listener) Guard(next http.Handler, exempt func(*http.Request) bool) http.Handler {
	h := next
	if l.token != "" {
		h = requireToken(l.token, exempt, h)
	}
	h = refuseCrossSite(h)
	var host string // of a listener that pages may be pointed at, and that only this machine may ask
	for _, one := range l.policies {
		if !one.isLocal() {
			return h
		}
		host = cmp.Or(host, one.host())
	}
	if l.token == "" && host != "" {
		h = requireLocalHost(host, h)
	}
	return h
}

// requireToken answers 401 to requests without the token. Both sides are hashed, so that the time taken tells nothing, not even the length.
func requireToken(token string, exempt func(*http.Request) bool, next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if exempt != nil && exempt(r) {
			next.ServeHTTP(w, r)
			return
		}
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if _, password, ok := r.BasicAuth(); ok { // what Pyroscope's senders can be given: any user, and the token as the password
			scheme, token = "Bearer", password
		}
		got := sha256.Sum256([]byte(strings.TrimSpace(token)))
		switch same := subtle.ConstantTimeCompare(got[:], want[:]) == 1; {
		case token == "" || !strings.EqualFold(scheme, "Bearer"):
			w.Header().Set("WWW-Authenticate", `Bearer realm="sonde"`)
			refuse(w, http.StatusUnauthorized, "this collector wants a token", "send the header Authorization: Bearer TOKEN; clients take it from SONDE_TOKEN")
		case !same:
			w.Header().Set("WWW-Authenticate", `Bearer realm="sonde", error="invalid_token"`)
			refuse(w, http.StatusUnauthorized, "wrong token", "compare SONDE_TOKEN with the collector's token_file")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// refuseCrossSite answers 403 to a write that a browser sends on behalf of another site's page. Programs send neither Sec-Fetch-Site nor Origin
// and pass.
func refuseCrossSite(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := protection.Check(r); err != nil {
			refuse(w, http.StatusForbidden, "a page of another site may not write here: "+err.Error(), "")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// requireLocalHost answers 403 unless the request names this machine as its host, or the name it listens on.
func requireLocalHost(own string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && at.Network() == "unix" {
			next.ServeHTTP(w, r) // no browser comes this way
			return
		}
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if !isLoopbackName(host) && !strings.EqualFold(host, own) {
			refuse(w, http.StatusForbidden, "host "+host+" is not this machine's",
				"ask for 127.0.0.1 or localhost; behind a proxy set token_file, or let the proxy send Host: localhost")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse writes an error as the API does.
func refuse(w http.ResponseWriter, status int, what, hint string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(struct {
		Error string `json:"error"`
		Hint  string `json:"hint,omitempty"`
	}{what, hint}) // the client may be gone: there is nobody to tell
}
