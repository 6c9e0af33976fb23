package metrics

import (
	"strings"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
)

// share is what is held of max_series.
type share struct{ series, bytes int64 }

// alive counts the series that are alive, by service; those without one are one.
type alive struct {
	mu       sync.Mutex
	services map[string]share
	all      share
}

// hasRoom reports whether a service may have more: no service may have more than what is still free. One alone gets to half of the limit, and one after the other would have to take
// half of what is left each, so that a service that starts and crashes all day, some hundred series each time, costs the others nothing.
func (a *alive) hasRoom(service string, more, limit share) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	has := a.services[service]
	free := share{limit.series - a.all.series, limit.bytes - a.all.bytes}
	return more.series <= free.series && more.bytes <= free.bytes && has.series < free.series && has.bytes < free.bytes
}

// add counts n series with these labels.
func (a *alive) add(ls labels.Labels, n int64) {
	service, bytes := ls.Get(serviceLabel), n*int64(ls.ByteSize())
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all.series += n
	a.all.bytes += bytes
	has, known := a.services[service]
	if !known {
		if a.services == nil {
			a.services = map[string]share{}
		}
		service = strings.Clone(service) // not with all labels
	}
	has.series += n
	has.bytes += bytes
	if has.series <= 0 {
		delete(a.services, service)
		return
	}
	a.services[service] = has
}

func (a *alive) total() share {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all
}
