package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/sonde-io/sonde/collector/reply"
)

// newProxy returns the handler that has the server at query_url answer.
func newProxy(set Settings, log *slog.Logger) (http.Handler, error) {
	base, err := url.Parse(set.QueryURL)
	if err != nil {
		return nil, fmt.Errorf("setting metrics.query_url: %w", err)
	}
	proxy := &httputil.ReverseProxy{
		Transport: newElsewhere(set),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, Prefix)
			r.Out.URL.RawPath = strings.TrimPrefix(r.In.URL.RawPath, Prefix)
			r.SetURL(base)
			// Who asks us is nobody there.
			r.Out.Header.Del("Authorization")
			r.Out.Header.Del("Cookie")
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				return
			}
			log.Warn("cannot ask the server of query_url", "url", set.QueryURL, "error", err)
			e := reply.Errorf(http.StatusBadGateway, "ask %s: %v", base.Host, err)
			e.Hint = "setting metrics.query_url says who answers PromQL; without it the collector does"
			reply.Fail(w, e)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodPost {
			reply.Fail(w, reply.Errorf(http.StatusMethodNotAllowed, "%.20s: want GET or POST", r.Method)) // there it could be a deletion
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxQueryBytes)
		proxy.ServeHTTP(w, r)
	}), nil
}
