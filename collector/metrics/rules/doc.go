// Package rules evaluates rules over time series, and makes time series out of profiles.
//
//	m, err := rules.New(rules.Config{Settings: cfg.Rules, Query: …, Queryable: …, Appendable: …, Series: metrics, Profiles: store})
//	err = m.Run(ctx)
//
// Recording and alerting rules are Prometheus' own, in its format, evaluated by its rules.Manager over what Config.Query answers; alerts go to Alertmanagers by its notifier. A profile series is what a rule of ours
// records out of profiles: a selection's total, a function's share of it, goroutines by where they wait, seconds since a service was last heard of. It is a series like any
// other, so that alerts on profiles are alerting rules.
//
// Invariant: a profile series has one sample for each whole window of its `every`, at the window's end, computed once, `delay` after that end: profiles that come later are in the
// profiles and not in the series. A window without profiles has no sample, which is not zero. Totals of interval types are estimates for all the time that processes were there, by store.Estimate.
//
// Manager is safe for concurrent use; Run may be called once. The package may import collector/series, profiles and Prometheus, and no other part of a collector.
package rules
