package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
	"github.com/sonde-io/sonde/profiles"
)

// why says why a query with these parameters found nothing, and what to try. It asks the collector what there is.
func (a *app) why(ctx context.Context, params url.Values) string {
	const general = "`sonde ps` shows what is profiled, --since 7d looks further back"
	if params == nil { // a file
		return "the profile holds no value of this type"
	}
	var all client.Services
	week := url.Values{"from": {unixMs(a.now().Add(-7 * 24 * time.Hour).UnixMilli())}}
	if err := a.ask(ctx, "/api/v1/services", week, &all); err != nil {
		return general
	}
	if len(all.Services) == 0 {
		return "the store is empty; `sonde ps` shows what is found on this machine"
	}
	if name, ok := serviceIn(params.Get("query")); ok && !slices.ContainsFunc(all.Services, func(s client.Service) bool { return s.Name == name }) {
		return fmt.Sprintf("there is no service %q in the last 7 days; there is %s", clean(name), list(all.Services, func(s client.Service) string { return s.Name }))
	}
	if t, there := a.types(ctx, params); len(there) > 0 && !t {
		return "it has no such type there; it has " + list(there, func(id string) string { return id })
	}
	last := int64(0)
	name, one := serviceIn(params.Get("query"))
	for _, s := range all.Services {
		if !one || s.Name == name {
			last = max(last, s.Last)
		}
	}
	if from, err := profiles.ParseTime(params.Get("from"), a.now()); err == nil && last > 0 && last < from {
		return fmt.Sprintf("its latest profile is of %s: --from %s", stamp(last), rfc3339(last-time.Hour.Milliseconds()))
	}
	return general
}

// types asks which types a query's selector and range have, and whether the query's own is among them.
func (a *app) types(ctx context.Context, params url.Values) (found bool, ids []string) {
	q := url.Values{}
	for _, name := range []string{"query", "from", "to"} {
		if v := params.Get(name); v != "" {
			q.Set(name, v)
		}
	}
	var answer client.Types
	if err := a.ask(ctx, "/api/v1/types", q, &answer); err != nil {
		return true, nil
	}
	want, err := profiles.ParseType(params.Get("type"))
	if err != nil {
		return true, nil
	}
	for _, t := range answer.Types {
		ids = append(ids, t.ID)
		found = found || t.ID == want.String() || want.Sample == "" && t.Profile == want.Profile
	}
	return found, ids
}

// serviceIn returns the one service that a selector asks for.
func serviceIn(selector string) (name string, ok bool) {
	sel, err := profiles.ParseSelector(selector)
	if err != nil {
		return "", false
	}
	for _, m := range sel {
		if m.Name == "service_name" && m.Type == labels.MatchEqual {
			return m.Value, true
		}
	}
	return "", false
}

// list names up to ten of all.
func list[T any](all []T, name func(T) string) string {
	var names []string
	for _, v := range all[:min(len(all), 10)] {
		names = append(names, clean(name(v)))
	}
	s := strings.Join(names, ", ")
	if more := len(all) - len(names); more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}
