package sd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	dnsRefresh = 30 * time.Second
	dnsTimeout = 10 * time.Second // of one name
	maxRecords = 1000             // of one name
)

// resolver is what is used of *net.Resolver.
type resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	LookupIP(ctx context.Context, network, host string) ([]net.IP, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNS(ctx context.Context, name string) ([]*net.NS, error)
}

// runDNS asks for the names until ctx is done. A name that could not be asked for keeps its last answer; one that does not exist has no targets.
func (m *Manager) runDNS(ctx context.Context, j *job, p *provider, cfg DNSSD) {
	refresh := time.Duration(cfg.Refresh)
	if refresh == 0 {
		refresh = dnsRefresh
	}
	last := map[string][]set{}
	for {
		var bad error
		var all []set
		for _, name := range cfg.Names {
			one, cancel := context.WithTimeout(ctx, dnsTimeout)
			sets, err := lookUp(one, m.resolver, cfg, name)
			cancel()
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				bad = errors.Join(bad, fmt.Errorf("look up %s: %w", name, err))
			} else {
				last[name] = sets
			}
			all = append(all, last[name]...)
		}
		m.update(j, p, all, bad)
		if !sleep(ctx, refresh) {
			return
		}
	}
}

// lookUp asks for one name and returns its targets, with the meta labels of Prometheus, in an order that stays.
func lookUp(ctx context.Context, r resolver, cfg DNSSD, name string) (out []set, err error) {
	add := func(host string, port int, meta set) {
		if len(out) >= maxRecords {
			return
		}
		s := set{"__meta_dns_name": name, addressLabel: net.JoinHostPort(strings.TrimSuffix(host, "."), strconv.Itoa(port))}
		for k, v := range meta {
			s["__meta_dns_"+k] = v
		}
		out = append(out, s)
	}
	switch typ := strings.ToUpper(cfg.Type); typ {
	case "", "SRV":
		var records []*net.SRV
		if _, records, err = r.LookupSRV(ctx, "", "", name); err == nil || len(records) > 0 {
			for _, rec := range records {
				add(rec.Target, int(rec.Port), set{"srv_record_target": rec.Target, "srv_record_port": strconv.Itoa(int(rec.Port))})
			}
		}
	case "A", "AAAA":
		var ips []net.IP
		ips, err = r.LookupIP(ctx, map[string]string{"A": "ip4", "AAAA": "ip6"}[typ], name)
		for _, ip := range ips {
			add(ip.String(), cfg.Port, nil)
		}
	case "MX":
		var records []*net.MX
		records, err = r.LookupMX(ctx, name)
		for _, rec := range records {
			add(rec.Host, cfg.Port, set{"mx_record_target": rec.Host})
		}
	case "NS":
		var records []*net.NS
		records, err = r.LookupNS(ctx, name)
		for _, rec := range records {
			add(rec.Host, cfg.Port, set{"ns_record_target": rec.Host})
		}
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		err = nil // there are no such records: that is an answer
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b set) int { return cmp.Compare(a[addressLabel], b[addressLabel]) }) // SRV records come shuffled
	return out, nil
}
