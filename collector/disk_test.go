package collector

import (
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

func TestDiskOutlook(t *testing.T) {
	hours := func(from, to int64) catalog.Dataset {
		return catalog.Dataset{MinStart: 1e12 + from*3600_000, MaxEnd: 1e12 + to*3600_000}
	}
	for _, tt := range []struct {
		name   string
		blocks []catalog.Block
		want   string
	}{
		{"empty", nil, "0 B stored, about 20.2 MB a day expected for each process (estimated: 28800 profiles of 700 bytes)"},
		{"too short", []catalog.Block{{Size: 5000, Datasets: []catalog.Dataset{hours(0, 0)}}},
			"5 kB stored, about 20.2 MB a day expected for each process (estimated: 28800 profiles of 700 bytes)"},
		{"measured", []catalog.Block{{Size: 10_000_000, Datasets: []catalog.Dataset{hours(2, 12), hours(0, 3)}}, {Size: 2_000_000, Datasets: []catalog.Dataset{hours(11, 36)}}},
			"12 MB stored, about 8 MB a day expected (measured over the last 1d12h)"},
	} {
		if got := diskOutlook(tt.blocks); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestRetentionText(t *testing.T) {
	for _, tt := range []struct {
		age  time.Duration
		size Size
		want string
	}{
		{7 * 24 * time.Hour, 10e9, "kept: the last 7d, at most 10GB"},
		{0, 10e9, "kept: the newest 10GB"},
		{36 * time.Hour, 0, "kept: the last 1d12h, whatever the size"},
		{0, 0, "everything is kept: retention_age and retention_size are 0"},
	} {
		if got := retentionText(&Config{RetentionAge: Duration(tt.age), RetentionSize: tt.size}); got != tt.want {
			t.Errorf("%v %v: %q, want %q", tt.age, tt.size, got, tt.want)
		}
	}
}
